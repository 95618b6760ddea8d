"""The keys of a published checkpoint's text files, and the values that can be reproduced."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fo_core.errors import CheckpointError


@dataclass(frozen=True)
class OneOf:
    """A field that may only have these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Maybe:
    """A field that may be missing."""

    rule: Any


NUMBER = (int, float)
COUNTS = [int]  # a list of integers

# Sections of the file's top level that only training reads: ignored, and named by the import.
TRAINER = frozenset(
    """accum_grad batch_size cv_data_conf data_conf dataset dataset_conf ddp_conf deepspeed dtype
    early_stop grad_clip init init_checkpoint log_interval loss_conf lr max_epoch model_dir
    num_workers optim optim_conf optimizer optimizer_conf pin_memory prefetch save_interval
    save_states scheduler scheduler_conf seed spec_aug spec_aug_conf train_conf train_data_conf
    train_engine warmup_steps""".split()
)
TRAIN: dict[str, Any] = {
    "cmvn_file": str,
    "is_json_cmvn": OneOf((True,)),
    "input_dim": OneOf((80,)),
    "output_dim": int,
    "encoder": OneOf(("speechEncoder",)),
    "encoder_conf": {
        "overview_conf": {
            "encoder-layer-config": OneOf(("subsampling-transformer",)),
            "encoder-input-dim": OneOf((80,)),
            "encoder-output-dim": int,
        },
        "para_conf": {
            "subsampling": {
                "subsampling-rate": OneOf((4,)),
                "subsampling-input-dim": OneOf((80,)),
                "subsampling-output-dim": int,
                "subsampling-dropout-rate": NUMBER,
            },
            "transformer": {
                "transformer-input-dim": int,
                "transformer-output-dim": int,
                "transformer-attention-dim": int,
                "transformer-attention-heads": int,
                "transformer-linear-units": int,
                "transformer-num-blocks": int,
                "transformer-dropout-rate": NUMBER,
                "transformer-attention-dropout-rate": NUMBER,
                "transformer-positional-dropout-rate": NUMBER,
                "transformer-input-layer": OneOf(("linear", "none")),
                "transformer-pos-enc-class": OneOf(("rel-enc",)),
                "transformer-normalize-before": bool,
                "transformer-concat-after": bool,
                "transformer-positionwise-layer-type": OneOf(("linear",)),
                "transformer-positionwise-conv-kernel_size": int,
                "transformer-chunk_size": OneOf((4,)),
                "transformer-left_chunks": int,
                "transformer-dynamic-chunks": bool,
            },
        },
    },
    "model_conf": {
        "llm_path": str,
        "enc_out_dim": int,
        "llm_embed_dim": int,
        "kernel_size": int,
        "adpter_type": OneOf(("subsampling",)),
        "activation_func": OneOf(("gelu", "relu")),
        "norm": OneOf(("layer", "batch")),
        "freeze_llm": bool,
        "freeze_encoder": bool,
        "freeze_adpter": bool,
        "task_num": int,
        "add_audio_bos_eos": bool,
        "prompt_finetune": bool,
        "add_prompt_before": bool,
        "prompt_num": int,
        "llm_head_num": int,
        "num_key_value_heads": int,
        "predict_usr_state": OneOf((4,)),
        "chunk_size": OneOf((4,)),
        "chat_template": str,
    },
}
DECODER: dict[str, Any] = {
    "idim": int,
    "odim": int,
    "encoder_pre_norm_type": OneOf(("ln",)),
    "encoder_drop_rate": NUMBER,
    "encoder_criterion": OneOf(("ce",)),
    "encoder_upsample_rate": OneOf((1,)),
    "kv_cache_prefix_finetune": OneOf((0, 1)),
    "encoder_layer_config": OneOf(("transformer",)),
    "encoder_input_dim": int,
    "encoder_output_dim": int,
    "transformer_input_dim": int,
    "transformer_output_dim": int,
    "transformer_attention_dim": int,
    "transformer_attention_heads": int,
    "transformer_linear_units": int,
    "transformer_num_blocks": int,
    "transformer_dropout_rate": NUMBER,
    "transformer_attention_dropout_rate": NUMBER,
    "transformer_positional_dropout_rate": NUMBER,
    "transformer_input_layer": str,
    "transformer_pos_enc_class": str,
    "transformer_normalize_before": bool,
    "transformer_concat_after": bool,
    "transformer_positionwise_layer_type": OneOf(("linear",)),
    "transformer_positionwise_conv_kernel_size": int,
    "transformer_chunk_size": COUNTS,
    "transformer_left_chunks": COUNTS,
    "transformer_dynamic_chunks": bool,
}
CODEC: dict[str, Any] = {
    "resblock": str,
    "upsample_rates": COUNTS,
    "upsample_kernel_sizes": COUNTS,
    "upsample_initial_channel": int,
    "resblock_kernel_sizes": COUNTS,
    "resblock_dilation_sizes": list,
    "segment_size": int,
    "num_mels": int,
    "num_freq": int,
    "n_fft": int,
    "hop_size": int,
    "win_size": int,
    "sampling_rate": OneOf((24000,)),
    "n_code_groups": OneOf((1,)),
    "residul_layer": OneOf((1,)),
    "n_codes": int,
    "codebook_loss_lambda": NUMBER,
    "commitment_loss_lambda": NUMBER,
    "global_code_num": int,
    "global_feature_conv": COUNTS,
    "global_tokens": COUNTS,
    "fmin": NUMBER,
    "fmax": (*NUMBER, type(None)),
    "fmax_for_loss": (*NUMBER, type(None)),
}
SERVER: dict[str, Any] = {
    "decoder_first_chunk_size": int,
    "decoder_chunk_size": int,
    "decoder_chunk_overlap_size": int,
    "decoder_N": int,
    "decoder_seg_threshold_first_pack": NUMBER,
    "decoder_seg_threshold": NUMBER,
    "decoder_top_k": int,
    "decoder_penalty_window_size": int,
    "decoder_penalty": NUMBER,
}


def _faults(rules: Mapping[str, Any], data: Any, where: str) -> list[str]:
    if not isinstance(data, Mapping):
        return [f"{where or 'the file'} is a {type(data).__name__}, not a mapping"]
    faults = []
    for key in data:
        if key not in rules:
            close = difflib.get_close_matches(str(key), list(rules), n=1, cutoff=0.8)
            hint = f" (did you mean {close[0]}?)" if close else ""
            faults.append(f"unknown key {where}{key}{hint}")
    for key, rule in rules.items():
        name = f"{where}{key}"
        if key not in data:
            if not isinstance(rule, Maybe):
                faults.append(f"missing key {name}")
            continue
        faults += _value_faults(rule.rule if isinstance(rule, Maybe) else rule, data[key], name)
    return faults


def _value_faults(rule: Any, value: Any, name: str) -> list[str]:
    if isinstance(rule, Mapping):
        return _faults(rule, value, f"{name}.")
    if isinstance(rule, OneOf):
        if any(value == v and type(value) is type(v) for v in rule.values):
            return []
        return [f"{name} is {value!r}, possible: {', '.join(map(repr, rule.values))}"]
    if rule == COUNTS:
        fits = isinstance(value, list) and all(type(v) is int for v in value)
        return [] if fits else [f"{name} is {value!r}, possible: a list of integers"]
    kinds = rule if isinstance(rule, tuple) else (rule,)
    if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return []
    wanted = " or ".join(kind.__name__ for kind in kinds)
    return [f"{name} is {value!r}, possible: {wanted}"]


def checked(
    path: Path, rules: Mapping[str, Any], data: Any, ignored: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """``data`` of a file, if it follows the rules.

    Args:
        path: For messages.
        rules: What may be there.
        data: As read.
        ignored: Keys of the top level that may hold anything.

    Raises:
        CheckpointError: Keys are unknown or missing, or values cannot be reproduced.
    """
    known = data
    if isinstance(data, Mapping):
        known = {key: value for key, value in data.items() if key not in ignored}
    faults = _faults(rules, known, "")
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise CheckpointError(f"{path}: " + ", ".join(faults[:6]) + more)
    return data
