"""Which families of LLMs run on our own layers: what sets each apart from Llama, as data.

The rest (sizes, rotary positions, windows, layers without rotary positions, caps and scales) is
read from the checkpoint's own config. Whatever a config asks for that is not described here sends
the LLM through transformers, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from fo_core.layers.kv_cache import LayerKind, LlamaConfig
from fo_core.layers.rope import Rope


@dataclass(frozen=True)
class Family:
    """What sets the checkpoints of a family apart from Llama's."""

    qkv_bias: bool = False  # biases on queries, keys and values
    qk_norm: bool = False  # norms on the queries and keys of each head
    norm_offset: bool = False  # norms multiply by 1 + weight
    post_norms: bool = False  # norms also behind attention and feed-forward
    scaled: bool = False  # embeddings are multiplied by the root of their width
    joined: bool = False  # the file holds q, k, v as one matrix, and gate, up as one
    partial: bool = False  # heads may be rotated in part
    window: Literal["typed", "all"] = "typed"  # layers with one: by their type | every layer


FAMILIES = {
    "llama": Family(),  # Llama 2 and 3, SmolLM and SmolLM2, TinyLlama, Yi
    "mistral": Family(window="all"),
    "qwen2": Family(qkv_bias=True),  # and Qwen2.5
    "qwen3": Family(qk_norm=True),
    "smollm3": Family(),
    "gemma": Family(norm_offset=True, scaled=True),
    "gemma2": Family(norm_offset=True, scaled=True, post_norms=True),
    "gemma3_text": Family(norm_offset=True, scaled=True, post_norms=True, qk_norm=True),
    "phi3": Family(joined=True, partial=True, window="all"),  # Phi-3, Phi-3.5, Phi-4
}
ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
STATIC_ROPE = ("default", "linear", "llama3", "yarn", "longrope")  # do not depend on the length


@dataclass(frozen=True)
class Fit:
    """How a checkpoint runs on our own layers."""

    shape: LlamaConfig
    family: Family
    vocab: int  # V, rows of the embedding
    tied: bool  # the output's weight is the embedding
    embed_scale: float  # factor on the embeddings
    logit_cap: float  # bound of the logits, by tanh; 0 = none


def fit(config: Any) -> Fit | str:
    """How a transformers config fits our own layers, or why it does not."""
    kind = getattr(config, "model_type", "")
    family = FAMILIES.get(kind)
    if family is None:
        return f"our own layers know {', '.join(FAMILIES)}, not {kind}"
    act = str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", ""))
    types = _layer_types(config, family)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    ropes = {name: _rope_settings(config, name) for name in dict.fromkeys(types)}
    rotated = {rope.get("partial_rotary_factor", 1.0) for rope in ropes.values()}
    odd = [
        ("quantised weights", getattr(config, "quantization_config", None)),
        (f"activation {act}", act not in ACTIVATIONS),
        ("attention_bias", getattr(config, "attention_bias", False)),
        ("mlp_bias", getattr(config, "mlp_bias", False)),
        ("use_bidirectional_attention", getattr(config, "use_bidirectional_attention", False)),
        (f"layers {', '.join(sorted(set(types)))}",
         set(types) - {"full_attention", "sliding_attention"}),
        (f"rotary positions {', '.join(r.get('rope_type', 'default') for r in ropes.values())}",
         any(r.get("rope_type", "default") not in STATIC_ROPE for r in ropes.values())),
        ("heads that are rotated in part", rotated != {1.0} and not family.partial),
    ]  # fmt: skip
    for what, found in odd:
        if found:
            return f"our own layers have no {what}"
    scale = getattr(config, "query_pre_attn_scalar", None)
    shape = LlamaConfig(
        dim=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=width,
        ffn=config.intermediate_size,
        layers=config.num_hidden_layers,
        rms_eps=config.rms_norm_eps,
        rope_theta=next(iter(ropes.values())).get("rope_theta", 10000.0),
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        norm_offset=family.norm_offset,
        post_norms=family.post_norms,
        activation=ACTIVATIONS[act],  # type: ignore[arg-type]
        scale=None if scale is None else scale**-0.5,
        softcap=getattr(config, "attn_logit_softcapping", None) or 0.0,
        kinds=_kinds(config, types),
    )
    return Fit(
        shape,
        family,
        vocab=config.vocab_size,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        embed_scale=config.hidden_size**0.5 if family.scaled else 1.0,
        logit_cap=getattr(config, "final_logit_softcapping", None) or 0.0,
    )


def _layer_types(config: Any, family: Family) -> list[str]:
    """The attention type of every layer, in transformers' words."""
    if family.window == "all":
        windowed = getattr(config, "sliding_window", None)
        kind = "sliding_attention" if windowed else "full_attention"
        return [kind] * config.num_hidden_layers
    types = getattr(config, "layer_types", None)
    return list(types or ["full_attention"] * config.num_hidden_layers)


def _rope_settings(config: Any, layer_type: str) -> dict[str, Any]:
    """The rotary settings of a type of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    return settings[layer_type] if layer_type in settings else settings


def _typed_ropes(config: Any) -> bool:
    """Whether types of layers have rotary settings of their own (Gemma 3)."""
    return "full_attention" in (getattr(config, "rope_parameters", None) or {})


def _kinds(config: Any, types: list[str]) -> tuple[LayerKind, ...]:
    window = getattr(config, "sliding_window", None) or 0
    rotated = getattr(config, "no_rope_layers", None) or [1] * len(types)  # 0: without them
    kinds = []
    for kind, has_rope in zip(types, rotated, strict=True):
        sliding = kind == "sliding_attention"
        rope = "local" if sliding and _typed_ropes(config) else "main"
        kinds.append(LayerKind(window if sliding else 0, rope if has_rope else "none"))  # type: ignore[arg-type]
    return tuple(kinds) if set(kinds) != {LayerKind()} else ()


def make_ropes(config: Any, shape: LlamaConfig) -> tuple[Rope, Rope | None]:
    """The rotary positions of the layers, and those of layers with a window if they differ."""
    if not _typed_ropes(config):
        return _make_rope(config, shape, None), None
    main = _make_rope(config, shape, "full_attention")
    return main, _make_rope(config, shape, "sliding_attention")


def _make_rope(config: Any, shape: LlamaConfig, layer_type: str | None) -> Rope:
    settings = _rope_settings(config, layer_type or "")
    kind = settings.get("rope_type", "default")
    width = int(shape.head_dim * settings.get("partial_rotary_factor", 1.0))
    if kind == "default":
        return Rope(width, settings.get("rope_theta", 10000.0))
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    named = {} if layer_type is None else {"layer_type": layer_type}
    inv_freq, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), **named)
    return Rope(width, inv_freq=inv_freq, scale=scale)


def context_limit(config: Any) -> int | None:
    """Positions that the LLM was made for; None where its config names no limit.

    With LongRoPE it is the length up to which the short factors hold: beyond it, every key that
    was kept would have to be turned anew.
    """
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len",
             "n_ctx", "seq_length")  # fmt: skip
    found = [getattr(text, name, None) for name in names]
    limit = next((int(n) for n in found if isinstance(n, int) and n > 0), None)
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        short = int(rope["original_max_position_embeddings"])
        limit = short if limit is None else min(limit, short)
    return limit
