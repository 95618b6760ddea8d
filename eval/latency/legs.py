"""The paper's table 4 on this machine: four legs from the decision to the first sound, as spread.

Many talks, each with its own seed; the times are those that session and speaker note themselves.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from eval.latency.talk import LEGS, SENTENCE, Talk, dialogue, sound, talk
from fo_core.devices.memory import peak_memory
from fo_core.models.freeze_omni import FreezeOmni

PIECE = 160  # speech tokens of a talk's answer: 4 s
# Leg → its name, its parts in a talk, the paper's average, median and 90 % (bfloat16 on a GPU).
FOUR: dict[str, tuple[str, tuple[str, ...], tuple[float, float, float]]] = {
    "text": ("decision → first text segment", ("read", "write"), (478, 468, 750)),
    "prefill": ("→ speech decoder prefilled", ("prefill",), (15, 15, 17)),
    "speech": ("→ first chunk of speech tokens", ("speak",), (237, 235, 252)),
    "pcm": ("→ first PCM", ("codec",), (11, 11, 13)),
}
PAPER_TOTAL = (745.0, 753.0, 1020.0)


@dataclass(frozen=True)
class Leg:
    """How long one leg took over all talks, ms."""

    key: str
    label: str
    mean: float
    p50: float
    p90: float
    p99: float
    paper: tuple[float, float, float]  # mean, p50, p90
    bound: float | None = None  # what no program can beat, ms


@dataclass
class Legs:
    """Table 4 of one model."""

    runs: int
    warmup: int
    seed: int
    first_chunk: int  # speech tokens kept first
    legs: list[Leg]  # the four, their total, and the total from the last chunk on
    covered: float  # the legs over the time from the last chunk on by the caller's clock, median
    rtf: float  # decision → last sample over the length of the audio, median
    rtf_listen: float  # a listening step over 160 ms, median
    memory: dict[str, float]  # MB
    talks: list[Talk]

    def __getitem__(self, key: str) -> Leg:
        return next(leg for leg in self.legs if leg.key == key)


def spread(
    key: str,
    label: str,
    values: Sequence[float],
    paper: tuple = (),
    bound: float | None = None,
) -> Leg:
    """Average and percentiles (by linear interpolation)."""
    data = torch.tensor(list(values), dtype=torch.float64)
    p50, p90, p99 = torch.quantile(data, torch.tensor([0.5, 0.9, 0.99], dtype=data.dtype)).tolist()
    return Leg(key, label, float(data.mean()), p50, p90, p99, paper or (0.0, 0.0, 0.0), bound)


def measure_legs(
    model: FreezeOmni,
    runs: int = 10,
    warmup: int = 1,
    seed: int = 0,
    first_chunk: int = 40,
    bounds: Mapping[str, float] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Legs:
    """Talk ``warmup + runs`` times.

    Args:
        model: Made ready; its speech must not end by itself.
        runs: Talks that count; talk i has the seed ``seed + i``.
        warmup: Talks before them.
        seed: Of what is heard, of text and of speech tokens.
        first_chunk: Speech tokens kept first (the paper: 40).
        bounds: Of a talk's legs, ms: ``Report.leg_bounds`` for the same first chunk.
        say: Told how far it is.
    """
    talks = []
    for index in range(-warmup, runs):
        say(f"talk {index + 1} of {runs}" if index >= 0 else "warming up")
        own = seed + max(index, 0)
        cfg = dialogue(first_chunk, seed=own, tokens=PIECE)
        found = talk(model, sound(model, own + 1), cfg, whole=True)
        if index >= 0:
            talks.append(found)
    if bounds is not None:  # an answer may end before its tenth token
        fewest = min(one.written for one in talks)
        share = min(1.0, (fewest - 1) / (SENTENCE - 1))
        bounds = {**bounds, "write": share * bounds["write"]}
    legs = []
    for key, (label, parts, paper) in FOUR.items():
        values = [sum(one.legs[part] for part in parts) for one in talks]
        legs.append(spread(key, label, values, paper, _least(bounds, parts)))
    after = [one.total - one.legs["listen"] for one in talks]
    every, whole = [part for _, parts, _ in FOUR.values() for part in parts], list(LEGS)
    least = _least(bounds, every)
    legs.append(spread("total", "total: decision → first PCM", after, PAPER_TOTAL, least))
    totals, least = [one.total for one in talks], _least(bounds, whole)
    legs.append(spread("heard", "last chunk arrived → first PCM", totals, bound=least))
    heard = [step for one in talks for step in one.heard]
    return Legs(
        runs,
        warmup,
        seed,
        first_chunk,
        legs,
        statistics.median(one.total / one.wall for one in talks),
        statistics.median(one.answered / one.audio for one in talks),
        statistics.median(heard) / 160,
        memory(model, talks[-1].state_bytes),
        talks,
    )


def _least(bounds: Mapping[str, float] | None, parts: Sequence[str]) -> float | None:
    return None if bounds is None else sum(bounds[part] for part in parts)


def memory(model: FreezeOmni, state_bytes: int) -> dict[str, float]:
    """MB of weights (packed copies not counted), of one user, and the most the process had."""
    weights = sum(p.nbytes for p in model.parameters()) + sum(b.nbytes for b in model.buffers())
    found = {"weights": weights / 1e6, "user": state_bytes / 1e6}
    if model.device.type == "cuda":
        return found | {"peak": torch.cuda.max_memory_allocated() / 1e6}
    return found | {"peak": peak_memory() / 1e6}
