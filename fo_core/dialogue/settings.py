"""How a model talks: ``dialogue.json`` of a model folder, and the published programs' settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fo_core.config import config, load, replace, to_dict
from fo_core.dialogue.segmenter import OFFICIAL_OFFLINE, OFFICIAL_SERVER, SegmenterConfig
from fo_core.dialogue.speaker import SpeakerConfig
from fo_core.dialogue.states import StateRule
from fo_core.dialogue.turns import DuplexConfig
from fo_core.dialogue.vocoder import VocoderConfig
from fo_core.io.checkpoint import read_json
from fo_core.io.files import write_json
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.sampling import Compat, SamplingConfig

FILE = "dialogue.json"
TEXT_SAMPLING = SamplingConfig(temperature=0.8, top_k=20, top_p=0.8)


@config
class DialogueConfig:
    """How a model talks."""

    mode: Literal["server", "offline"] = "server"  # offline: only the end of the input ends a turn
    states: StateRule = StateRule()  # when a chunk ends the turn
    history_chunks: int = 6  # chunks before the voice began that are heard first (160 ms each)
    sampling: SamplingConfig = TEXT_SAMPLING  # of the text
    segmenter: SegmenterConfig = SegmenterConfig()  # where pieces to speak end; longest answer
    speaker: SpeakerConfig = SpeakerConfig()  # speech tokens, chunks and cuts of the audio
    duplex: DuplexConfig = DuplexConfig()  # turn taking of a live talk, and its context
    write_ahead: bool = True  # the LLM writes the next piece (in a thread) while one is spoken
    seed: int = 0  # of both samplings; every turn has its own stream of random numbers
    compat: Compat = "none"  # "official": quirks of the published engine


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
    return load(DialogueConfig, read_json(path) if path.is_file() else {}, overrides)


def write_dialogue(folder: str | Path, cfg: DialogueConfig) -> None:
    """Write ``dialogue.json``."""
    write_json(Path(folder) / FILE, to_dict(cfg))


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
    if cfg.compat != "official":
        return replace(cfg, states=replace(cfg.states, ignore_threshold=1.0))
    vocoder = VocoderConfig(
        first_chunk=40, first_threshold=0.01, threshold=0.01, onset=0.0, compat=True
    )
    speech = replace(cfg.speaker.sampling, penalty=1.0, window=0)
    return replace(
        cfg,
        mode="offline",
        segmenter=OFFICIAL_OFFLINE,
        speaker=replace(cfg.speaker, sampling=speech, vocoder=vocoder),
    )
