"""Who speaks a dialogue: the settings of the step ``synthesize``, the voices drawn from them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from data_prep import gates
from data_prep.gates import GateConfig, JudgeConfig
from data_prep.runner.run import Reject
from data_prep.sources.dialogues import Dialogue
from data_prep.steps import synthesize
from data_prep.steps.synthesize import Request, SpeechConfig
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
    share: float = 1.0  # how often it is drawn, against the others of its language
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
    readers: tuple[Speaker, ...] = ()  # drawn for each sentence of source texts
    speed: tuple[float, float] = (1.0, 1.0)  # of users and readers, drawn for each dialogue
    pitch: tuple[float, float] = (0.0, 0.0)  # of the same, semitones, drawn for each dialogue
    longest_text: int = 1500  # characters; a longer turn is not spoken
    again_at: float = 0.9  # speed of the second try, times that of the first; 0 = no second try
    speech: SpeechConfig = SpeechConfig()
    gates: GateConfig = GateConfig()
    judge: JudgeConfig = JudgeConfig()


SIDES = ("users", "assistants")  # who speaks a dialogue
READERS = ("readers",)  # who speaks sentences


def check(cfg: SynthesizeConfig, sides: Sequence[str] = SIDES) -> None:
    """Refuse settings that no dialogue, or no sentence, could be spoken with.

    Args:
        cfg: The settings.
        sides: Which lists of voices are needed.

    Raises:
        ConfigError: With what is wrong.
    """
    for side in sides:
        if not getattr(cfg, side):
            raise ConfigError(f"synthesize: {' and '.join(sides)} need a voice each",
                              do=f"give synthesize.{side}, or --voice ENGINE/VOICE")  # fmt: skip
        for each in getattr(cfg, side):
            if not 0 < each.share < float("inf"):
                raise ConfigError(f"synthesize.{side}: {each.engine}/{each.voice} has the share "
                                  f"{each.share:g}", possible="more than 0")  # fmt: skip
    for name, (low, high), least, most in (
        ("speed", cfg.speed, 0.5, 2.0),
        ("pitch", cfg.pitch, -12.0, 12.0),
    ):
        if not least <= low <= high <= most:
            raise ConfigError(
                f"synthesize.{name}: [{low:g}, {high:g}]", possible=f"[{least:g}, {most:g}] at most"
            )
    if tuple(sides) != SIDES:
        return
    spoken = {gates.short(s.language) for s in cfg.users}
    answered = {gates.short(s.language) for s in cfg.assistants}
    for only, where in ((spoken - answered, "assistants"), (answered - spoken, "users")):
        if only:
            raise ConfigError(f"synthesize.{where}: no voice for {', '.join(sorted(only))}")


def speakers_of(cfg: SynthesizeConfig, sides: Sequence[str]) -> tuple[Speaker, ...]:
    """The voices of these lists."""
    return tuple(each for side in sides for each in getattr(cfg, side))


def _those(speakers: Sequence[Speaker], language: str) -> list[Speaker]:
    """Speakers of a language.

    Raises:
        Reject: There is none.
    """
    found = [s for s in speakers if gates.short(s.language) == gates.short(language)]
    if not found:
        raise Reject(f"no voice for the language {gates.short(language)!r}")
    return found


def drawn(cfg: SynthesizeConfig, speakers: Sequence[Speaker], name: str, language: str,
          rate: int) -> Request:  # fmt: skip
    """A voice of a language, drawn by the shares and a name: a request without a text.

    Raises:
        Reject: There is none.
    """
    those = _those(speakers, language)
    draw = np.random.default_rng([cfg.seed, zlib.crc32(name.encode())])
    steps = np.cumsum([each.share for each in those])
    who = those[int(np.searchsorted(steps, draw.random() * steps[-1], side="right"))]
    speed = round(who.speed * draw.uniform(*cfg.speed), 2)
    pitch = round(draw.uniform(*cfg.pitch), 1)
    short = gates.short(language)
    return Request("", who.engine, who.voice, speed, rate, short, pitch, options_of(who))


def cast(cfg: SynthesizeConfig, dialogue: Dialogue) -> tuple[Request, Request]:
    """The voices of a dialogue, as requests without a text: the user's and the assistant's.

    Raises:
        Reject: There is no voice for its language.
    """
    answers = _those(cfg.assistants, dialogue.language)[0]
    answer = Request("", answers.engine, answers.voice, answers.speed, ASSISTANT_RATE,
                     gates.short(dialogue.language), 0.0, options_of(answers))  # fmt: skip
    if all(turn.sound for turn in dialogue.turns):
        return answer, answer  # nobody need speak for the user
    return drawn(cfg, cfg.users, dialogue.id, dialogue.language, USER_RATE), answer


def options_of(speaker: Speaker) -> str:
    """The settings of a speaker's engine, as text."""
    return json.dumps(dict(speaker.options), sort_keys=True) if speaker.options else ""


def settings(cfg: SynthesizeConfig) -> dict[str, Any]:
    """What a row's outcome depends on."""
    settings = to_dict(cfg)
    for speaker in (*settings["users"], *settings["assistants"], *settings["readers"]):
        options = json.dumps(speaker["options"]) if speaker["options"] else ""
        speaker["options"] = synthesize.heard_options(options)
        if speaker["voice"].startswith(CLIP):
            speaker["clip"] = synthesize.digest(str(clip_of(speaker["voice"])))
    return {"version": synthesize.VERSION, **settings}
