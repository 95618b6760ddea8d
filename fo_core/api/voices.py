"""The voices of a model folder: list them, add one from a clip."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fo_core.api.voice_clip import VoiceClip, read_clip
from fo_core.config import replace, to_dict
from fo_core.engines import speaker_similarity
from fo_core.errors import CheckpointError, ConfigError, EngineError
from fo_core.io import audio
from fo_core.io.files import new_folder, write_json
from fo_core.models import voices
from fo_core.models.codec.mel import LogMel
from fo_core.models.codec.token_codec import TokenCodec
from fo_core.models.freeze_omni import load_codec
from fo_core.models.model_config import FreezeOmniConfig, VoiceConfig, read_config
from fo_core.shipped import DEFAULT, is_shipped, model_folder
from fo_core.streaming import SAMPLE_RATE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
SAME = 0.15  # nat between two voices' mel spectrograms of the same tokens below which they are one
CLOSER = 0.1  # cosine by which a voice should be closer to its clip than the model's own is


@dataclass(frozen=True)
class AddedVoice:
    """A voice that was added, and how far it is from the model's own and from its clip."""

    name: str
    folder: Path  # of the model
    voice: VoiceConfig
    change: float  # nat: mel distance of the same tokens in it and in the model's own voice
    similarity: float | None  # cosine of it and its clip; None: the network is not installed
    own_similarity: float | None  # the same of the model's own voice
    one_speaker: bool | None  # whether that was checked

    @property
    def heard(self) -> bool:
        """Whether the codec speaks with another voice now, and with one like the clip's."""
        if self.change < SAME:
            return False
        if self.similarity is None or self.own_similarity is None:
            return True
        return self.similarity - self.own_similarity >= CLOSER


def list_voices(model: str | os.PathLike[str] = DEFAULT) -> Mapping[str, VoiceConfig]:
    """The voices of a model by name, its own first.

    Raises:
        CheckpointError: There is no such model.
    """
    return voices.listed(read_config(model_folder(Path(model))))


def add_voice(
    model: str | os.PathLike[str],
    name: str,
    clip: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    own: bool = False,
) -> AddedVoice:
    """Add the voice of a clip to a model folder, by the codec's global tokens; nothing is trained.

    Args:
        model: Model folder.
        name: Of the voice: letters, digits, ``-`` and ``_``.
        clip: Sound file of 3 to 60 s of one person who speaks.
        out: Copy the model to this new folder first, and add the voice there.
        own: Make it the model's own voice.

    Raises:
        CheckpointError: There is no such model, it has no codec, it is read-only, ``out`` exists.
        ConfigError: The name is taken or no name.
        AudioError: The clip cannot lend its voice.
    """
    folder = model_folder(Path(model))
    config = read_config(folder)
    _check_name(name, config)
    target = _target(folder, None if out is None else Path(out))
    codec = load_codec(folder)
    found = read_clip(Path(clip), codec.sample_rate)
    voice = VoiceConfig(
        codec.voice_of([torch.from_numpy(found.wave)]), f"{Path(clip).name}, {found.seconds:.1f} s"
    )
    measured = _measured(codec, config, voice, found)
    named = {**config.voices, name: voice}
    if own and config.voice and voices.own_name(config) == voices.OWN:
        named.setdefault("original", VoiceConfig(config.voice, f"the model's own before {name}"))
    changed = replace(config, voices=named, voice=voice.global_tokens if own else config.voice)
    if target == folder:
        write_json(target / "config.json", to_dict(changed))
    else:
        with new_folder(target) as made:
            left = shutil.ignore_patterns("files.json", ".*")
            shutil.copytree(folder, made, ignore=left, dirs_exist_ok=True)
            write_json(made / "config.json", to_dict(changed))
    return AddedVoice(name, target, voice, one_speaker=found.one_speaker, **measured)


def _check_name(name: str, config: FreezeOmniConfig) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"voice name {name!r}", "1 to 32 letters, digits, - and _")
    if name in voices.names(config) or name == voices.OWN:
        taken = ", ".join(dict.fromkeys((*voices.names(config), voices.OWN)))
        raise ConfigError(f"the name {name!r} is taken", do=f"take none of {taken}")


def _target(folder: Path, out: Path | None) -> Path:
    """Where the voice is written."""
    if out is not None:
        if out.exists():
            raise CheckpointError(f"--out {out} exists", do="name a new folder")
        return out
    shipped = is_shipped(folder)
    if shipped or not os.access(folder / "config.json", os.W_OK):
        why = "ships with the package and stays as it is" if shipped else "is read-only"
        raise CheckpointError(
            f"the model {folder.name} {why}",
            possible="a copy of it",
            do="add --out MY-MODEL: the copy is made there and gets the voice",
        )
    return folder


def _measured(
    codec: TokenCodec, config: FreezeOmniConfig, voice: VoiceConfig, clip: VoiceClip
) -> dict[str, Any]:
    """How far a voice is from the model's own, and how close both are to the clip.

    The codec speaks the clip's own tokens in both voices.
    """
    own = config.voice or (0,) * len(voice.global_tokens)
    tokens, _ = codec.encode(torch.from_numpy(clip.wave)[None])
    made = [codec.decode(tokens, torch.tensor([[codes]])) for codes in (voice.global_tokens, own)]
    mel = LogMel(codec.sample_rate, 1024, 256, 80)
    found: dict[str, Any] = {"change": float((mel(made[0]) - mel(made[1])).abs().mean())}
    try:
        wanted = speaker_similarity.embedding(clip.heard)
    except EngineError:
        return found | {"similarity": None, "own_similarity": None}
    for key, wave in zip(("similarity", "own_similarity"), made, strict=True):
        heard = audio.resample(wave[0].float().numpy(), codec.sample_rate, SAMPLE_RATE)
        found[key] = float(speaker_similarity.embedding(heard) @ wanted)
    return found
