"""The text files of a published checkpoint, checked key by key.

``train.yaml``, the two ``model.json`` and ``server.json`` are held against tables of what is known:
an unknown or missing key, or a value that our modules cannot reproduce, is an error that names the
file and the field. The LLM folder is checked against them without loading a weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fo_core.config import load, read_yaml
from fo_core.convert.schema import CODEC, DECODER, SERVER, TRAIN, TRAINER, checked
from fo_core.errors import CheckpointError, ConfigError
from fo_core.io.checkpoint import read_json
from fo_core.models.freeze_omni import FreezeOmniConfig

END_TOKEN = "<|im_end|>"  # ends a turn and every part of the chat template
AUDIO_SLOT = "<audio>"  # where speech goes in the chat template


@dataclass(frozen=True)
class Settings:
    """Everything that the text files of a published checkpoint say."""

    root: Path  # the checkpoints folder
    model: dict[str, Any]  # model_conf of train.yaml
    transformer: dict[str, Any]  # the encoder's transformer section
    train: dict[str, Any]  # train.yaml
    decoder: dict[str, Any]  # third entry of decoder/model.json
    codec: dict[str, Any]  # codec/model.json
    server: dict[str, Any]  # server.json

    @property
    def of_training(self) -> list[str]:
        """Keys of train.yaml that only training reads."""
        return sorted(TRAINER & self.train.keys())

    def _need(self, good: bool, file: str, message: str) -> None:
        if not good:
            raise CheckpointError(f"{self.root / file}: {message}")

    def check(self) -> None:
        """What several fields must agree on.

        Raises:
            CheckpointError: The first disagreement, with its file and fields.
        """
        yaml, model, tf = "audiollm/train.yaml", self.model, self.transformer
        width = model["enc_out_dim"]
        for key in ("transformer-input-dim", "transformer-output-dim", "transformer-attention-dim"):
            self._need(tf[key] == width, yaml, f"{key} is {tf[key]}, but enc_out_dim is {width}")
        self._need(
            width % tf["transformer-attention-heads"] == 0,
            yaml,
            f"transformer-attention-heads does not divide {width}",
        )
        template = model["chat_template"]
        self._need(
            template.count(AUDIO_SLOT) == 1 and END_TOKEN in template.split(AUDIO_SLOT)[0],
            yaml,
            f"model_conf.chat_template needs {END_TOKEN} and, after it, {AUDIO_SLOT} once",
        )
        dec, file = self.decoder, "decoder/model.json"
        for key in ("encoder_input_dim", "encoder_output_dim", "transformer_attention_dim"):
            self._need(dec[key] == dec["idim"], file, f"{key} is {dec[key]}, idim {dec['idim']}")
        self._need(
            model["llm_embed_dim"] % dec["idim"] == 0,
            file,
            f"idim {dec['idim']} does not divide the LLM's width {model['llm_embed_dim']}",
        )
        codec, file = self.codec, "codec/model.json"
        hop = math.prod(codec["upsample_rates"])
        self._need(
            hop == 600, file, f"upsample_rates give {hop} samples a token, possible: 600 (40 Hz)"
        )
        self._need(
            len(codec["global_tokens"]) == codec["global_code_num"]
            and all(0 <= token < codec["n_codes"] for token in codec["global_tokens"]),
            file,
            f"global_tokens must be {codec['global_code_num']} codes below {codec['n_codes']}",
        )
        self._need(
            dec["odim"] <= codec["n_codes"],
            "decoder/model.json",
            f"odim {dec['odim']} exceeds the codec's n_codes {codec['n_codes']}",
        )


def read_settings(root: str | Path) -> Settings:
    """Read and check the text files below a published ``checkpoints`` folder.

    Raises:
        CheckpointError: A file is missing or unreadable, a key is unknown, missing or has a value
            that cannot be reproduced, or fields disagree.
    """
    root = Path(root)
    if not root.is_dir():
        raise CheckpointError(f"no folder {root}", possible="the folder that holds audiollm/")
    try:
        train = read_yaml(root / "audiollm/train.yaml")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    train = checked(root / "audiollm/train.yaml", TRAIN, train, ignored=TRAINER)
    listed = read_json(root / "decoder/model.json")
    if not (isinstance(listed, list) and len(listed) == 3):
        raise CheckpointError(
            f"{root / 'decoder/model.json'}: not a list of input width, codes, arguments"
        )
    settings = Settings(
        root=root,
        model=train["model_conf"],
        transformer=train["encoder_conf"]["para_conf"]["transformer"],
        train=train,
        decoder=checked(root / "decoder/model.json", DECODER, listed[2]),
        codec=checked(root / "codec/model.json", CODEC, read_json(root / "codec/model.json")),
        server=checked(root / "server.json", SERVER, read_json(root / "server.json")),
    )
    settings.check()
    return settings


def check_llm(settings: Settings, folder: str | Path) -> None:
    """Whether an LLM folder is one that the checkpoint was made with, by its text files alone.

    Raises:
        CheckpointError: No such folder, another width or head count, or a tokenizer without the end
            token.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no LLM folder {folder}", do="name the folder of the frozen LLM")
    data = read_json(folder / "config.json")
    pairs = {
        "hidden_size": "llm_embed_dim",
        "num_attention_heads": "llm_head_num",
        "num_key_value_heads": "num_key_value_heads",
    }
    for theirs, ours in pairs.items():
        if data.get(theirs) != settings.model[ours]:
            raise CheckpointError(
                f"{folder / 'config.json'}: {theirs} is {data.get(theirs)}, but "
                f"{settings.root / 'audiollm/train.yaml'} says model_conf.{ours} = "
                f"{settings.model[ours]}",
                do="name the LLM that the checkpoint was trained with",
            )
    tokenizer = read_json(folder / "tokenizer.json")
    added = {token.get("content") for token in tokenizer.get("added_tokens", [])}
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if END_TOKEN not in added and END_TOKEN not in vocabulary:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: no token {END_TOKEN}, which ends a turn",
            do="name the LLM that the checkpoint was trained with",
        )


def model_config(settings: Settings, llm: str | Path) -> FreezeOmniConfig:
    """Our config of a published checkpoint, with the original's quirks switched on.

    Args:
        settings: The checkpoint's text files.
        llm: Folder of the frozen LLM; "" leaves it open.
    """
    model, tf, dec, codec = settings.model, settings.transformer, settings.decoder, settings.codec
    prompts = model["prompt_num"] if model["prompt_finetune"] else 0
    dtype = read_json(Path(llm) / "config.json").get("torch_dtype") if llm else None
    return load(
        FreezeOmniConfig,
        {
            "llm": {
                "spec": str(Path(llm).resolve()) if llm else "",
                "dtype": dtype or "float32",
                "template": model["chat_template"],
            },
            "speech_encoder": {
                "type": "paper",
                "dim": model["enc_out_dim"],
                "heads": tf["transformer-attention-heads"],
                "ffn": tf["transformer-linear-units"],
                "layers": tf["transformer-num-blocks"],
                "chunk": tf["transformer-chunk_size"],
                "left": tf["transformer-left_chunks"],
                "input_layer": tf["transformer-input-layer"],
                "norm_first": tf["transformer-normalize-before"],
                "concat_after": tf["transformer-concat-after"],
                "dropout": tf["transformer-dropout-rate"],
                "attention_dropout": tf["transformer-attention-dropout-rate"],
                "position_dropout": tf["transformer-positional-dropout-rate"],
                "compat": "official",
            },
            "adapter": {
                "type": "conv",
                "kernel": model["kernel_size"],
                "norm": model["norm"],
                "activation": model["activation_func"],
            },
            "prompt": {"num": prompts, "before_audio": model["add_prompt_before"]},
            "task": {"num": 0},
            "state_head": {"classes": model["predict_usr_state"]},
            "speech_decoder": {
                "dim": dec["idim"],
                "codes": dec["odim"],
                "heads": dec["transformer_attention_heads"],
                "ffn": dec["transformer_linear_units"],
                "layers": dec["transformer_num_blocks"],
                "prefix": bool(dec["kv_cache_prefix_finetune"]),
                "dropout": dec["encoder_drop_rate"],
                "compat": "official",
            },
            "codec": {
                "type": "ticodec",
                "resblock": codec["resblock"],
                "rates": codec["upsample_rates"],
                "kernels": codec["upsample_kernel_sizes"],
                "width": codec["upsample_initial_channel"],
                "block_kernels": codec["resblock_kernel_sizes"],
                "block_dilations": codec["resblock_dilation_sizes"],
                "voice": "stage128",
                "global_hidden": codec["global_feature_conv"][1],
                "global_kernel": codec["global_feature_conv"][3],
                "quantizer": {"codes": codec["n_codes"], "dim": 512, "revive_after": 200},
                "global_quantizer": {
                    "codes": codec["n_codes"],
                    "dim": 128,
                    "groups": codec["global_code_num"],
                    "revive_after": 0,
                },
            },
            "voice": codec["global_tokens"],
        },
    )
