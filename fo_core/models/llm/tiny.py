"""A tiny random LLM with a byte-level tokenizer and a chat template: real shapes, no content.

Tests and dry runs use it where a real frozen LLM would be slow: every stage, the streaming chain
and the server run on it as they run on a full-size one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fo_core.io.files import cache_dir
from fo_core.models.llm.folder import building

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


def write_tokenizer(folder: Path, template: str | None = CHATML) -> int:
    """Write a byte-level tokenizer (one id a byte, then the specials); returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIALS[1:2])})
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)
    return len(fast)


def write_tiny(folder: str | Path, seed: int = 0, **shape: Any) -> Path:
    """Write a Llama with random weights, its tokenizer and its config as a Hugging Face folder.

    Args:
        folder: Where to.
        seed: Of the weights.
        **shape: Keys of the config that differ from :data:`SHAPE` (``hidden_size=128``).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(folder)
    config = {**SHAPE, **shape, "vocab_size": size}
    width, ffn = config["hidden_size"], config["intermediate_size"]
    inner = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator) / size[-1] ** 0.5

    tensors = {"model.embed_tokens.weight": draw(config["vocab_size"], width) * 2}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        tensors |= {
            f"{layer}.self_attn.q_proj.weight": draw(inner, width),
            f"{layer}.self_attn.k_proj.weight": draw(kv, width),
            f"{layer}.self_attn.v_proj.weight": draw(kv, width),
            f"{layer}.self_attn.o_proj.weight": draw(width, inner),
            f"{layer}.mlp.gate_proj.weight": draw(ffn, width),
            f"{layer}.mlp.up_proj.weight": draw(ffn, width),
            f"{layer}.mlp.down_proj.weight": draw(width, ffn),
            f"{layer}.input_layernorm.weight": torch.ones(width),
            f"{layer}.post_attention_layernorm.weight": torch.ones(width),
        }
    tensors["model.norm.weight"] = torch.ones(width)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def tiny_folder(**shape: Any) -> Path:
    """The cached folder of :func:`write_tiny`, written on first use."""
    mark = hashlib.sha256(json.dumps({**SHAPE, **shape}, sort_keys=True).encode()).hexdigest()[:12]
    target = cache_dir() / "llm" / f"tiny-{mark}"
    if not (target / "config.json").is_file():
        with building(target) as folder:
            if folder is not None:
                write_tiny(folder, **shape)
    return target
