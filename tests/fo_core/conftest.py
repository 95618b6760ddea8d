"""Tiny random LLMs of many architectures, written by transformers' own classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": None,
    "bos_token_id": None, "pad_token_id": None,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0], "original_max_position_embeddings": 400,
    "partial_rotary_factor": 0.5,
}  # fmt: skip
SLIDING = ["sliding_attention", "full_attention"] * 2
OWN: dict[str, tuple[str, dict[str, Any]]] = {  # those that run on our own layers
    "llama": ("Llama", {"head_dim": 16, "tie_word_embeddings": True}),
    "llama3-rope": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen2-window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 6,
                               "max_window_layers": 2}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "mistral": ("Mistral", {"head_dim": 12, "sliding_window": None}),
    "mistral-window": ("Mistral", {"head_dim": 12, "sliding_window": 6}),
    "smollm3": ("SmolLM3", {"no_rope_layer_interval": 2}),
    "smollm3-window": ("SmolLM3", {"no_rope_layer_interval": 2, "use_sliding_window": True,
                                   "sliding_window": 6}),
    "gemma": ("Gemma", {"head_dim": 12, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("Gemma2", {"head_dim": 12, "sliding_window": 6, "layer_types": SLIDING,
                          "query_pre_attn_scalar": 20, "attn_logit_softcapping": 5.0,
                          "final_logit_softcapping": 4.0}),
    "gemma3": ("Gemma3Text", {"head_dim": 16, "sliding_window": 6, "layer_types": SLIDING,
                              "query_pre_attn_scalar": 20}),
    "phi3": ("Phi3", {"sliding_window": 6}),
    "phi4": ("Phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 400}),
}  # fmt: skip
FOREIGN: dict[str, tuple[str, dict[str, Any]]] = {  # those that run through transformers
    "gpt_neox": ("GPTNeoX", {"num_key_value_heads": None}),
    "gpt2": ("GPT2", {"n_embd": 64, "n_layer": 4, "n_head": 4}),
    "granite": ("Granite", {"logits_scaling": 8.0, "embedding_multiplier": 3.0,
                            "residual_multiplier": 0.5}),
    "cohere": ("Cohere", {"logit_scale": 0.0625}),
    "cohere2": ("Cohere2", {"sliding_window": 6, "layer_types": SLIDING, "head_dim": 12}),
    "olmo2": ("Olmo2", {}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "sliding_window": 6}),
    "stablelm": ("StableLm", {}),
    "qwen3_moe": ("Qwen3Moe", {"head_dim": 12, "num_experts": 4, "moe_intermediate_size": 32,
                               "num_experts_per_tok": 2}),
    "phi": ("Phi", {}),
    "llama4": ("Llama4Text", {"num_local_experts": 4, "attention_chunk_size": 8, "head_dim": 16,
                              "intermediate_size_mlp": 80}),
    "opt": ("OPT", {"ffn_dim": 80, "word_embed_proj_dim": 32, "num_key_value_heads": None}),
}  # fmt: skip
RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    "mamba": ("Mamba", {"state_size": 4}),
    "falcon_h1": ("FalconH1", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8,
                               "mamba_d_state": 4, "mamba_n_groups": 1}),
}  # fmt: skip


def write(folder: Path, kind: str, **more: Any) -> Path:
    """Write a random LLM of a kind, with the byte-level tokenizer."""
    import torch
    import transformers as hf

    from fo_core.models.llm.tiny import write_tokenizer

    folder.mkdir(parents=True)
    size = write_tokenizer(folder)
    name, own = {**OWN, **FOREIGN, **RECURRENT}[kind]
    settings = {**SHAPE, "vocab_size": size, **own, **more}
    if settings["num_key_value_heads"] is None:
        del settings["num_key_value_heads"]
    config = getattr(hf, f"{name}Config")(**settings)
    torch.manual_seed(1)
    model = hf.AutoModelForCausalLM.from_config(config).float()
    for p in model.parameters():  # biases and norms away from their trivial start
        torch.nn.init.normal_(p, std=0.2) if p.dim() > 1 else torch.nn.init.normal_(p, 1, 0.1)
    model.save_pretrained(folder)
    return folder


Made = Callable[..., Path]


@pytest.fixture(scope="session")
def random_llm(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Gives the folder of a random LLM of a kind, written once."""
    root, made = tmp_path_factory.mktemp("llms"), dict[str, Path]()

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = write(root / kind, kind)
        return made[kind]

    return get


@pytest.fixture(params=OWN)
def own_llm(request: pytest.FixtureRequest, random_llm: Made) -> Path:
    """Folders of LLMs that run on our own layers; the folder's name is the kind."""
    return random_llm(request.param)


@pytest.fixture(params=FOREIGN)
def foreign_llm(request: pytest.FixtureRequest, random_llm: Made) -> Path:
    """Folders of LLMs that run through transformers."""
    return random_llm(request.param)


@pytest.fixture(params=[*OWN, *FOREIGN])
def any_llm(request: pytest.FixtureRequest, random_llm: Made) -> Path:
    """Folders of LLMs that can be used."""
    return random_llm(request.param)


@pytest.fixture(params=RECURRENT)
def recurrent_llm(request: pytest.FixtureRequest, random_llm: Made) -> Path:
    """Folders of LLMs that can't be rolled back."""
    return random_llm(request.param)
