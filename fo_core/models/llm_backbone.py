"""Two ways to run a causal LM on vectors: our own Llama layers, or transformers' module.

Both give the final-normed states and keep no session in themselves. Ours is for Llama-shaped
models (Llama, Qwen2, Mistral without a window): preallocated cache, joined projections, no masks
for single steps. Everything else runs through transformers.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.errors import CheckpointError
from fo_core.layers.fused import Fused, pack_linears
from fo_core.layers.packed import Weights
from fo_core.layers.rope import Rope
from fo_core.layers.row import quick_norm
from fo_core.layers.transformer import KVCache, LlamaConfig, LlamaStack
from fo_core.models import llm_source

STATIC_ROPE = ("linear", "llama3", "yarn")  # scaled rotary positions that do not depend on length


def lean_config(config: Any) -> LlamaConfig | None:
    """The shape of a transformers config for our own layers, or None where they do not fit."""
    kind = getattr(config, "model_type", "")
    rope = getattr(config, "rope_parameters", None) or {}
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    fits = (
        kind in ("llama", "qwen2", "mistral")
        and getattr(config, "hidden_act", "") == "silu"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and not getattr(config, "quantization_config", None)
        and layer_types == {"full_attention"}
        and not (kind == "mistral" and getattr(config, "sliding_window", None))
        and rope.get("rope_type", "default") in ("default", *STATIC_ROPE)
        and rope.get("partial_rotary_factor", 1.0) == 1.0
    )
    if not fits:
        return None
    heads = config.num_attention_heads
    return LlamaConfig(
        dim=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        ffn=config.intermediate_size,
        layers=config.num_hidden_layers,
        rms_eps=config.rms_norm_eps,
        rope_theta=rope.get("rope_theta", 10000.0),
        qkv_bias=kind == "qwen2",
    )


def _rope(config: Any, shape: LlamaConfig) -> Rope:
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind not in STATIC_ROPE:
        return Rope(shape.head_dim, shape.rope_theta)
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    inv_freq, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    return Rope(shape.head_dim, inv_freq=inv_freq, scale=scale)


class LeanBackbone(nn.Module):
    """Embedding, our Llama layers, final norm, head; parameter names follow Hugging Face's."""

    def __init__(self, shape: LlamaConfig, vocab: int, tied: bool, rope: Rope) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, shape.dim)
        self.stack = LlamaStack(shape, rope)
        self.norm = nn.RMSNorm(shape.dim, shape.rms_eps)
        self.lm_head = None if tied else nn.Linear(shape.dim, vocab, bias=False)
        self.packed_head: Fused | None = None

    def pack(self, weights: Weights = "same") -> LeanBackbone:
        """Add copies of layers and head for small steps (see ``LlamaStack.pack``)."""
        self.stack.pack(weights)
        if self.embedding_table.device.type == "cpu":
            vocab, width = self._head.weight.shape
            head = nn.Linear(width, vocab, bias=False, device="meta")
            head.weight = self._head.weight
            self.packed_head = pack_linears(weights, head)
        return self

    def _apply(self, fn, recurse=True):
        """After a cast or a move the packed head is dropped."""
        self.packed_head = None
        return super()._apply(fn, recurse)

    @property
    def _head(self) -> nn.Linear | nn.Embedding:
        """What holds the output's weight."""
        return self.embed_tokens if self.lm_head is None else self.lm_head

    @classmethod
    def load(
        cls, folder: Path, config: Any, shape: LlamaConfig, dtype: torch.dtype
    ) -> LeanBackbone:
        """Read a folder's safetensors into joined projections, one tensor at a time.

        Raises:
            CheckpointError: A tensor is missing or misshapen.
        """
        tied = bool(getattr(config, "tie_word_embeddings", False))
        rope = _rope(config, shape)
        with torch.device("meta"):
            model = cls(shape, config.vocab_size, tied, rope).to(dtype)
        model.to_empty(device="cpu")
        model.stack.fuse()
        missing = set(model.state_dict())
        for key, tensor in llm_source.weights(folder):
            name = key.removeprefix("model.")
            name = f"stack.{name}" if name.startswith("layers.") else name
            if name not in missing:
                continue  # a tied head, rotary buffers
            own = model.get_parameter(name)
            if own.shape != tensor.shape:
                raise CheckpointError(
                    f"{folder}: {key} has shape {list(tensor.shape)}, not {list(own.shape)}"
                )
            with torch.no_grad():
                own.copy_(tensor)
            missing.discard(name)
        if missing:
            raise CheckpointError(
                f"{folder} lacks {len(missing)} tensors, such as {min(missing)}",
                do="fetch the model anew",
            )
        return model

    @property
    def embedding_table(self) -> Tensor:
        """[V, H]."""
        return self.embed_tokens.weight

    def embed(self, ids: Tensor) -> Tensor:
        """[B, N] → [B, N, H]."""
        return self.embed_tokens(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] → [..., V]."""
        if self.packed_head is not None and self.packed_head.fits(hidden, self._head):
            return self.packed_head.product(hidden)
        return F.linear(hidden, self._head.weight)

    def init_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty preallocated cache."""
        return self.stack.init_cache(batch, capacity)

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Final-normed states [B, N, H]; mask None (causal) or [B or 1, 1, N, K] bool or float.

        ``past``: keys and values [L, 1, Hkv, P, dh] that every row has read before.
        """
        if past is not None:
            keys, values = (part.expand(-1, len(embeds), -1, -1, -1) for part in past)
            past = keys, values
        return quick_norm(self.norm, self.stack(embeds, positions, mask, cache, past))


class HFCache:
    """transformers' growing cache with the methods of :class:`KVCache`."""

    def __init__(self, cache: Any, length: int = 0) -> None:
        self.cache, self.length = cache, length

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on."""
        if length < self.length:
            self.cache.crop(length - self.length)  # a negative number is how many to remove
            self.length = length

    def fork(self, room: int = 0) -> HFCache:
        """A copy for a speculative branch."""
        return HFCache(copy.deepcopy(self.cache), self.length)

    def expand(self, batch: int, capacity: int) -> HFCache:
        """A copy of a one-row cache for ``batch`` rows."""
        wide = self.fork()
        wide.cache.batch_repeat_interleave(batch)
        return wide

    def select(self, rows: Tensor, capacity: int = 0) -> HFCache:
        """A copy of some rows of the batch."""
        some = self.fork()
        some.cache.batch_select_indices(rows)
        return some


class HFBackbone(nn.Module):
    """Any causal LM of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> HFBackbone:
        """Read a folder with transformers.

        Raises:
            CheckpointError: transformers cannot read it.
        """
        from transformers import AutoModelForCausalLM

        try:
            return cls(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{folder} cannot be read as a causal LM: {reason}") from error

    @property
    def embedding_table(self) -> Tensor:
        """[V, H], as :meth:`embed` gives it."""
        layer = self.model.get_input_embeddings()
        if type(layer) is nn.Embedding:
            return layer.weight
        return self.embed(torch.arange(layer.num_embeddings, device=layer.weight.device))

    def embed(self, ids: Tensor) -> Tensor:
        """[B, N] → [B, N, H]."""
        return self.model.get_input_embeddings()(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] → [..., V]."""
        out = self.model.get_output_embeddings()(hidden)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return out if not cap else torch.tanh(out / cap) * cap

    def init_cache(self, batch: int, capacity: int) -> HFCache:
        """An empty cache that grows by itself."""
        from transformers import DynamicCache

        return HFCache(DynamicCache(config=self.model.config))

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: HFCache | None = None,
    ) -> Tensor:
        """Final-normed states [B, N, H]; mask None (causal) or [B or 1, 1, N, K] bool or float."""
        B, N, _ = embeds.shape
        if mask is not None:
            if mask.dtype == torch.bool:
                low = torch.finfo(embeds.dtype).min
                mask = torch.zeros(mask.shape, dtype=embeds.dtype, device=mask.device).masked_fill(
                    ~mask, low
                )
            mask = mask.to(embeds.dtype).expand(B, -1, -1, -1)
        if positions is None:
            start = cache.length if cache is not None else 0
            positions = torch.arange(start, start + N, device=embeds.device)
        out = self.model.base_model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions.expand(B, N),
            past_key_values=cache.cache if cache is not None else None,
            use_cache=cache is not None,
        )
        if cache is not None:
            cache.length += N
        return out.last_hidden_state


def load_backbone(
    folder: Path, config: Any, dtype: torch.dtype, lean: bool | None = None
) -> LeanBackbone | HFBackbone:
    """The lean backbone where it fits (``lean`` None), else transformers' module.

    Raises:
        CheckpointError: The weights cannot be read, or ``lean`` is True and does not fit.
    """
    shape = (
        lean_config(config) if lean is not False and llm_source.has_safetensors(folder) else None
    )
    if shape is not None:
        return LeanBackbone.load(folder, config, shape, dtype)
    if lean:
        raise CheckpointError(f"{folder}: our own layers do not fit {config.model_type!r}")
    return HFBackbone.load(folder, dtype)
