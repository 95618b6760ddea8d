"""How a model talks and takes turns: ``dialogue.json``, and the published programs' settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fo_core.config import check_ranges, config, load, renamed, replace, to_dict
from fo_core.dialogue.calibration import Calibration
from fo_core.dialogue.speech.segmenter import OFFICIAL_OFFLINE, OFFICIAL_SERVER, SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.dialogue.states import StateRule
from fo_core.errors import ConfigError
from fo_core.io.checkpoint import read_json
from fo_core.io.files import write_json
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.sampling import Compat, SamplingConfig

log = logging.getLogger(__name__)
FILE = "dialogue.json"
TEXT_SAMPLING = SamplingConfig(temperature=0.8, top_k=20, top_p=0.8)
GONE = ("mode", "write_ahead")  # keys of older folders, without effect now


@config
class TurnConfig:
    """How the beginning and the end of a user's turn are found."""

    # "semantic": the state head ends a turn | "server": silence does | "manual": only Commit does |
    # "file": the state head or Commit; a turn begins with the first sound and may have any length
    detect: Literal["semantic", "server", "manual", "file"] = "semantic"
    threshold: float = 0.5  # probability of voice above which a window of 32 ms counts as voice
    onset_ms: float = 64.0  # voice without a break before speech counts as begun
    silence_ms: float = 500.0  # silence after which speech counts as stopped; "server": ends a turn
    # "semantic": silence that ends a turn on which the state head made no decision
    end_of_turn_timeout_ms: float = 4000.0
    answer: bool = True  # reply by itself when a turn ends
    # while the bot speaks: "yield": it gives way to a voice at once, and goes on where it was if
    # the voice wants no answer | "state": only a finished question stops it (paper) | "voice": any
    # speech does, at once and for good | "never": the bot hears nothing while it speaks
    interrupt: Literal["yield", "state", "voice", "never"] = "yield"
    # how it gives way: "pause": it stands still | "duck": it goes on in a low voice | "none": it
    # goes on as it is (a player that can do neither), and only yield_ms and a question stop it
    yield_by: Literal["pause", "duck", "none"] = "pause"
    yield_ms: float = 2000.0  # "yield": a longer voice stops the bot for good
    idle_ms: float = 0.0  # silence after a reply that is reported once; 0 = never

    @property
    def by_voice(self) -> bool:
        """Whether a voice begins a turn; else any sound does."""
        return self.detect in ("semantic", "server")

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ConfigError(f"turn.threshold is {self.threshold}", possible="between 0 and 1")
        times = ("onset_ms", "silence_ms", "end_of_turn_timeout_ms", "yield_ms", "idle_ms")
        check_ranges(self, "turn", **dict.fromkeys(times, (0, 600_000)))


@config
class DuplexConfig:
    """A dialogue in which both sides may speak at once."""

    turn: TurnConfig = TurnConfig()  # turn taking, unless a session asks for another
    vad: Literal["auto", "silero", "energy"] = "auto"  # voice activity detector
    max_turn_seconds: float = 60.0  # a longer turn of the user is ended
    context: int = 4096  # positions of the LLM's cache before the oldest turns are forgotten
    keep: float = 0.5  # share of ``context`` that the turns kept then may fill
    refeed: int = 64  # positions that are read again in one step when turns were forgotten

    def __post_init__(self) -> None:
        check_ranges(self, "duplex", context=(256, None), refeed=(1, None))
        if not 0.0 < self.keep < 1.0:
            raise ConfigError(f"duplex.keep is {self.keep}", possible="between 0 and 1")
        if self.max_turn_seconds <= 0:
            what = f"duplex.max_turn_seconds is {self.max_turn_seconds}"
            raise ConfigError(what, possible="above 0")


@config
class SpeculateConfig:
    """A reply that is begun in a pause of the user, before the turn is known to be over."""

    # "exact": where it is what it would be without, to the bit (adapters that give nothing for
    # silence) | "any": also where it is not; such a reply is marked | "off"
    how: Literal["exact", "any", "off"] = "exact"
    threshold: float = 0.001  # probability of state 1 in a pause above which it is begun
    per_turn: int = 3  # replies that are begun for one turn of the user, at most
    max_tokens: int = 64  # LLM tokens that are written before the turn is over, at most

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < 1.0:
            raise ConfigError(f"speculate.threshold is {self.threshold}", possible="0 to below 1")
        check_ranges(self, "speculate", per_turn=(1, None), max_tokens=(1, None))


@config
class DialogueConfig:
    """How a model talks."""

    states: StateRule = StateRule()  # when a chunk ends the turn
    history_chunks: int = 6  # chunks before the voice began that are heard first (160 ms each)
    sampling: SamplingConfig = TEXT_SAMPLING  # of the text
    segmenter: SegmenterConfig = SegmenterConfig()  # where pieces to speak end; longest answer
    speaker: SpeakerConfig = SpeakerConfig()  # speech tokens, chunks and cuts of the audio
    duplex: DuplexConfig = DuplexConfig()  # turn taking of a live talk, and its context
    calibration: Calibration | None = None  # how ``states`` was found; `fo models calibrate`
    speculate: SpeculateConfig = SpeculateConfig()  # replies that are begun in pauses
    seed: int = 0  # of both samplings; every turn has its own stream of random numbers
    compat: Compat = "none"  # "official": quirks of the published engine

    def __post_init__(self) -> None:
        check_ranges(self, "dialogue", history_chunks=(0, None))


def effective_context(llm: FrozenLLM, cfg: DialogueConfig) -> int:
    """Positions of the LLM's cache after which the oldest turns are forgotten.

    ``duplex.context``, or less where the LLM's own context is shorter: then a turn still has to fit
    behind what is kept, for which half of it is left at most.
    """
    limit = llm.facts.context
    if limit is None:
        return cfg.duplex.context
    turn = round(cfg.duplex.max_turn_seconds * 12.5) + cfg.segmenter.max_tokens + 64
    return min(cfg.duplex.context, max(limit - turn, limit // 2))


def read_dialogue(folder: str | Path, overrides: Sequence[str] = ()) -> DialogueConfig:
    """The dialogue config of a model folder; the defaults where it has none.

    Raises:
        CheckpointError: The file is not JSON.
        ConfigError: A key or value is wrong.
    """
    path = Path(folder) / FILE
    data = renamed(read_json(path)) if path.is_file() else {}
    for key in GONE:
        if isinstance(data, dict) and key in data:
            log.warning("%s: %s has no effect any more; take it out", path, key)
            del data[key]
    return load(DialogueConfig, data, overrides)


def write_dialogue(folder: str | Path, cfg: DialogueConfig) -> None:
    """Write ``dialogue.json``."""
    write_json(Path(folder) / FILE, to_dict(cfg))


def write_calibration(folder: str | Path, states: StateRule, found: Calibration) -> None:
    """Change what ``dialogue.json`` says of ``states`` and ``calibration``, and nothing else.

    Raises:
        CheckpointError: The file is not JSON.
        ConfigError: A key or value of it is wrong.
    """
    read_dialogue(folder)
    path = Path(folder) / FILE
    data = renamed(read_json(path)) if path.is_file() else {}
    write_json(path, {**data, "states": to_dict(states), "calibration": to_dict(found)})


def official_server(fields: Mapping[str, Any]) -> DialogueConfig:
    """The published server's behaviour, from the fields of its ``server.json``."""
    speech = SamplingConfig(
        top_k=fields["decoder_top_k"],
        penalty=fields["decoder_penalty"],
        window=max(fields["decoder_penalty_window_size"], 0),
    )
    return DialogueConfig(
        segmenter=OFFICIAL_SERVER,
        speaker=SpeakerConfig(speech, vocoder=VocoderConfig.official(**fields)),
        compat="official",
    )


def for_file(cfg: DialogueConfig) -> DialogueConfig:
    """The config for answering a file instead of a live talk.

    A file is always answered: state 2 does not dismiss it. The published program has settings of
    its own for files: no turn ends before the file does, pieces end at sentences only, chunks of 40
    tokens, no penalty.
    """
    turn = replace(cfg.duplex.turn, detect="file", answer=True)
    cfg = replace(
        cfg,
        states=replace(cfg.states, dismiss_threshold=1.0),
        duplex=replace(cfg.duplex, turn=turn),
    )
    if cfg.compat != "official":
        return cfg
    vocoder = VocoderConfig(
        first_chunk=40, first_threshold=0.01, threshold=0.01, onset=0.0, compat=True
    )
    speech = replace(cfg.speaker.sampling, penalty=1.0, window=0)
    return replace(
        cfg,
        states=replace(cfg.states, respond_threshold=1.0, respond_fall=0.0),
        segmenter=OFFICIAL_OFFLINE,
        speaker=replace(cfg.speaker, sampling=speech, vocoder=vocoder),
    )
