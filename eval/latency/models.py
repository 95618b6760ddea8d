"""Models with random weights at the sizes that the original program was measured at."""

from __future__ import annotations

import itertools
import string
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fo_core import config as cfg
from fo_core.devices.memory import free_memory
from fo_core.errors import FoError
from fo_core.layers.rope import Rope
from fo_core.layers.transformer import LlamaConfig
from fo_core.models.adapter.conv_adapter import ConvAdapter, ConvAdapterConfig, ConvAdapterState
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig
from fo_core.models.llm.backbone import LlamaBackbone
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import CHATML, SPECIALS

TEMPLATE_WORDS = "system user assistant You are a helpful assistant. <unk>".split()


@dataclass(frozen=True)
class Size:
    """A model by its numbers."""

    llm: LlamaConfig  # shape of its layers
    vocab: int  # V
    adapter_width: int  # of the adapter's output; what a narrower LLM cannot take is dropped
    parts: dict[str, Any]  # sections of the model's config
    tied: bool = True  # the LLM's output is its embedding


def _parts(encoder: dict[str, int], decoder: dict[str, int], **codec: Any) -> dict[str, Any]:
    return {
        "speech_encoder": {"type": "paper", **encoder},
        "speech_decoder": decoder,
        "codec": {"type": "ticodec", "voice": "stage128", **codec},
    }


PAPER_DECODER = {"dim": 896, "heads": 14, "ffn": 4864, "layers": 4}
LLM = LlamaConfig(896, 14, 2, 64, 4864, layers=8, rope_theta=1e6, qkv_bias=True)
SMALL_ENCODER = {"dim": 512, "heads": 8, "ffn": 2048, "layers": 12}
PAPER_ENCODER = {"dim": 1024, "heads": 16, "ffn": 4096, "layers": 24}
SIZES = {
    "small": Size(
        LLM, 16384, 896, _parts(SMALL_ENCODER, {"dim": 896, "heads": 14, "ffn": 2432, "layers": 4})
    ),
    "paper": Size(LLM, 16384, 3584, _parts(PAPER_ENCODER, PAPER_DECODER)),
    "paper-7b": Size(  # the paper's model, its LLM of 7.6 billion parameters included
        LlamaConfig(3584, 28, 4, 128, 18944, layers=28, rope_theta=1e6, qkv_bias=True),
        152064,
        3584,
        _parts(PAPER_ENCODER, PAPER_DECODER),
        tied=False,
    ),
    "smol": Size(  # a SmolLM2-135M with ears and a voice of its width
        LlamaConfig(576, 9, 3, 64, 1536, layers=30, rms_eps=1e-5, rope_theta=1e5),
        49152,
        576,
        _parts(
            {"dim": 384, "heads": 6, "ffn": 1536, "layers": 4},
            {"dim": 576, "heads": 9, "ffn": 1536, "layers": 4},
        ),
    ),
    "tiny": Size(
        LlamaConfig(64, 4, 2, 16, 96, layers=2, qkv_bias=True),
        512,
        64,
        _parts(
            {"dim": 32, "heads": 2, "ffn": 64, "layers": 2},
            {"dim": 32, "heads": 2, "ffn": 64, "layers": 2},
            width=16,
            resblock="2",
            block_kernels=[3],
            block_dilations=[[1, 3]],
        ),
    ),
}


class WiderAdapter(ConvAdapter):
    """An adapter for a wider LLM: computed whole, its first channels handed on."""

    kept: int  # H of the LLM at hand

    def step(
        self, x: Tensor, state: ConvAdapterState, ctc_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor, ConvAdapterState]:
        """As ``ConvAdapter.step``."""
        y, lens, state = super().step(x, state, ctc_logits)
        return y[..., : self.kept], lens, state


def words(count: int) -> list[str]:
    """Words of letters that end with a comma, so that any of them can end a first piece."""
    letters = itertools.product(string.ascii_lowercase, repeat=4)
    return ["".join(word) + "," for word in itertools.islice(letters, count)]


def word_tokenizer(size: int) -> Any:
    """A tokenizer of ``size`` ids: ChatML's specials and words, one id each."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = [*SPECIALS, *dict.fromkeys(TEMPLATE_WORDS)]
    vocab = {word: i for i, word in enumerate([*known, *words(size - len(known))])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token=SPECIALS[2],
        pad_token=SPECIALS[0],
        additional_special_tokens=[SPECIALS[1]],
    )
    fast.chat_template = CHATML
    return fast


def random_llm(size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32) -> FrozenLLM:
    """An LLM with random weights that never ends a message by itself.

    The output rows of the tokens that are no words are zero: their logits are 0, far below the
    best.
    """
    backbone = _empty_backbone(size).to(dtype)
    backbone.to_empty(device=device)
    backbone.stack.rope = Rope(size.llm.head_dim, size.llm.rope_theta).to(device)
    backbone.stack.fuse()
    tokenizer = word_tokenizer(size.vocab)
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0 if "norm" in name else 0.0)
            else:
                weight.normal_(0, weight.shape[-1] ** -0.5)
        silent = len(SPECIALS) + len(dict.fromkeys(TEMPLATE_WORDS))
        backbone._head.weight[:silent] = 0
    return FrozenLLM(backbone, tokenizer, "random")


def _empty_backbone(size: Size) -> LlamaBackbone:
    rope = Rope(size.llm.head_dim, size.llm.rope_theta)
    with torch.device("meta"):
        return LlamaBackbone(size.llm, size.vocab, tied=size.tied, rope=rope)


def check_memory(name: str, device: str, dtype: torch.dtype) -> None:
    """Refuse a size whose LLM does not fit, before anything is made.

    Raises:
        FoError: It does not; how much it takes, and how much there is.
    """
    need = sum(p.numel() for p in _empty_backbone(SIZES[name]).parameters()) * dtype.itemsize
    free = free_memory(device)
    if free is not None and 1.2 * need > free:
        raise FoError(
            f"size {name}: its LLM takes {need / 1e9:.1f} GB in {str(dtype)[6:]}, and "
            f"{free / 1e9:.1f} GB are free on {device}",
            possible="a smaller size, or a device with a fifth more than that",
        )


@torch.no_grad()
def random_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> FreezeOmni:
    """A whole model with random weights; its speech never ends by itself.

    Args:
        name: Key of :data:`SIZES`.
        device: Where to make it.
        dtype: Of the LLM.
    """
    size = SIZES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        llm = random_llm(size, device, dtype)
        config = cfg.load(FreezeOmniConfig, {"llm": {"dtype": "float32"}, **size.parts})
        model = FreezeOmni(config, llm)
        if size.adapter_width != llm.width:
            assert isinstance(config.adapter, ConvAdapterConfig)
            adapter = WiderAdapter(config.adapter, model.speech_encoder.dim, size.adapter_width)
            adapter.kept = llm.width
            model.adapter = adapter
    return endless(model).to(device).eval()


@torch.no_grad()
def endless(model: FreezeOmni) -> FreezeOmni:
    """The same model, whose speech decoder never draws the end token; every part counts as trained.

    How long an answer is must not depend on what random weights say. Only a bias changes.
    """
    decoder = model.speech_decoder
    assert isinstance(decoder.out, nn.Linear)
    decoder.out.bias[decoder.eos] = -1e9
    model.trained |= {"speech_encoder", "adapter", "state_head", "speech_decoder", "codec"}
    return model
