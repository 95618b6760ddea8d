"""Who speaks a dialogue: the settings of the step ``synthesize``, the voices drawn from them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from data_prep import gates, synthesize
from data_prep.dialogues import Dialogue
from data_prep.gates import GateConfig, JudgeConfig
from data_prep.runner import Reject
from data_prep.synthesize import Request, SpeechConfig
from fo_core.config import config, to_dict
from fo_core.engines.tts import CLIP, clip_of
from fo_core.errors import ConfigError

USER_RATE, ASSISTANT_RATE = 16000, 24000  # Hz


@config
class Speaker:
    """One voice."""

    engine: str = "flite"  # name in fo_core.engines.tts
    voice: str = "slt"  # a name of the engine's; "clip:FILE" = whoever speaks in a recording
    language: str = "en"  # of the dialogues that it speaks
    speed: float = 1.0  # 1 = its own; a drawn speed multiplies it
    options: Mapping[str, Any] = field(default_factory=dict)  # of its Engine: model, base_url ...


@config
class SynthesizeConfig:
    """Who speaks, how the sound is treated, and what it must pass."""

    seed: int = 0  # another seed draws other voices
    users: tuple[Speaker, ...] = (
        Speaker("flite", "slt"),
        Speaker("flite", "rms"),
        Speaker("flite", "awb"),
    )  # drawn for each dialogue from those of its language
    assistants: tuple[Speaker, ...] = (Speaker("piper", "joe"),)  # the first of each language
    speed: tuple[float, float] = (1.0, 1.0)  # of users, drawn for each dialogue
    pitch: tuple[float, float] = (0.0, 0.0)  # of users, semitones, drawn for each dialogue
    longest_text: int = 1500  # characters; a longer turn is not spoken
    again_at: float = 0.9  # speed of the second try, times that of the first; 0 = no second try
    speech: SpeechConfig = SpeechConfig()
    gates: GateConfig = GateConfig()
    judge: JudgeConfig = JudgeConfig()


def check(cfg: SynthesizeConfig) -> None:
    """Refuse settings that no dialogue could be spoken with.

    Raises:
        ConfigError: With what is wrong.
    """
    if not cfg.users or not cfg.assistants:
        raise ConfigError("synthesize: users and assistants need a voice each")
    for name, (low, high), least, most in (
        ("speed", cfg.speed, 0.5, 2.0),
        ("pitch", cfg.pitch, -12.0, 12.0),
    ):
        if not least <= low <= high <= most:
            raise ConfigError(
                f"synthesize.{name}: [{low:g}, {high:g}]", possible=f"[{least:g}, {most:g}] at most"
            )
    spoken = {gates.short(s.language) for s in cfg.users}
    answered = {gates.short(s.language) for s in cfg.assistants}
    for only, where in ((spoken - answered, "assistants"), (answered - spoken, "users")):
        if only:
            raise ConfigError(f"synthesize.{where}: no voice for {', '.join(sorted(only))}")


def cast(cfg: SynthesizeConfig, dialogue: Dialogue) -> tuple[Request, Request]:
    """The voices of a dialogue, as requests without a text: the user's and the assistant's.

    Raises:
        Reject: There is no voice for its language.
    """
    language = gates.short(dialogue.language)
    users = [s for s in cfg.users if gates.short(s.language) == language]
    answers = [s for s in cfg.assistants if gates.short(s.language) == language]
    if not users or not answers:
        raise Reject(f"no voice for the language {language!r}")
    draw = np.random.default_rng([cfg.seed, zlib.crc32(dialogue.id.encode())])
    user = users[int(draw.integers(len(users)))]
    speed = round(user.speed * draw.uniform(*cfg.speed), 2)
    pitch = round(draw.uniform(*cfg.pitch), 1)
    return (
        Request("", user.engine, user.voice, speed, USER_RATE, language, pitch, options_of(user)),
        Request("", answers[0].engine, answers[0].voice, answers[0].speed, ASSISTANT_RATE,
                language, 0.0, options_of(answers[0])),
    )  # fmt: skip


def options_of(speaker: Speaker) -> str:
    """The settings of a speaker's engine, as text."""
    return json.dumps(dict(speaker.options), sort_keys=True) if speaker.options else ""


def settings(cfg: SynthesizeConfig) -> dict[str, Any]:
    """What a row's outcome depends on."""
    settings = to_dict(cfg)
    for speaker in (*settings["users"], *settings["assistants"]):
        options = json.dumps(speaker["options"]) if speaker["options"] else ""
        speaker["options"] = synthesize.heard_options(options)
        if speaker["voice"].startswith(CLIP):
            speaker["clip"] = synthesize.digest(str(clip_of(speaker["voice"])))
    return {"version": synthesize.VERSION, **settings}
