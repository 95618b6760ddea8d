"""Which end-of-turn settings to take: few false cuts and few missed turns first, then little delay.

A turn that is answered too soon and one that gets no answer are both faults of turn taking, and
each can be had at the price of the other: a threshold that nothing exceeds cuts nobody off. So
both shares have a limit, and among the settings within both the one with the least delay is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fo_core.config import replace
from fo_core.dialogue.calibration import Calibration, CurvePoint
from fo_core.dialogue.states import StateRule

FEW = 20  # turns; fewer say nothing about shares of some per cent


class Family(NamedTuple):
    """What is the same at every point of a curve."""

    smoothing: int
    fall: float  # of the threshold, a second of silence


Curves = Mapping[Family, Sequence[CurvePoint]]


@dataclass(frozen=True)
class Wanted:
    """Shares of the turns that may go wrong, at most."""

    false_cuts: float = 0.05
    missed: float = 0.1

    def excess(self, point: CurvePoint) -> float:
        """By how much a setting is over both limits together; 0: it meets both."""
        over = (point.false_cuts - self.false_cuts, point.missed - self.missed)
        return round(sum(max(0.0, each) for each in over), 6)


@dataclass(frozen=True)
class Setting:
    """One point of one curve."""

    family: Family
    point: CurvePoint

    def rule(self, like: StateRule) -> StateRule:
        """The rule with these settings; the rest as in another."""
        smoothing, fall = self.family
        threshold = self.point.threshold
        return replace(like, respond_threshold=threshold, smoothing=smoothing, respond_fall=fall)

    @property
    def simplicity(self) -> tuple[float, float, float]:
        """Of equals, the least is taken."""
        return (self.family.fall, self.family.smoothing, self.point.threshold)


def settings(curves: Curves) -> list[Setting]:
    """Every point of every curve."""
    return [Setting(family, point) for family, points in curves.items() for point in points]


def choose(curves: Curves, wanted: Wanted) -> Setting:
    """The setting with the least delay within both limits; where there is none, the nearest.

    Nearest: with the least excess over both limits together (:meth:`Wanted.excess`).
    """
    return min(
        settings(curves),
        key=lambda s: (wanted.excess(s.point), s.point.delay_ms, *s.simplicity),
    )


def trade_offs(curves: Curves, wanted: Wanted) -> dict[str, Setting]:
    """What each limit costs where both cannot be met: name -> setting, without what there is not.

    "few cuts": within the limit of false cuts, the fewest missed turns; "few missed" the other way
    round.
    """
    every, found = settings(curves), {}
    few_cuts = [s for s in every if s.point.false_cuts <= wanted.false_cuts]
    if few_cuts:
        found["few cuts"] = min(
            few_cuts, key=lambda s: (s.point.missed, s.point.delay_ms, *s.simplicity)
        )
    few_missed = [s for s in every if s.point.missed <= wanted.missed]
    if few_missed:
        found["few missed"] = min(
            few_missed, key=lambda s: (s.point.false_cuts, s.point.delay_ms, *s.simplicity)
        )
    return found


def best_of_all(curves: Curves) -> list[Setting]:
    """Settings that no other one equals or beats in false cuts, missed turns and delay alike.

    In the order of false cuts.
    """
    every = sorted(settings(curves), key=lambda s: (*_costs(s), *s.simplicity))
    found: list[Setting] = []
    for one in every:  # what beats it comes before it
        mine = _costs(one)
        if not any(all(a <= b for a, b in zip(_costs(s), mine, strict=True)) for s in found):
            found.append(one)
    return found


def _costs(setting: Setting) -> tuple[float, float, float]:
    point = setting.point
    return point.false_cuts, point.missed, point.delay_ms


def calibration(curves: Curves, chosen: Setting, wanted: Wanted, turns: int) -> Calibration:
    """How a setting was found, to be written with it."""
    point = chosen.point
    return Calibration(
        wanted=wanted.false_cuts,
        turns=turns,
        false_cuts=point.false_cuts,
        delay_ms=point.delay_ms,
        wanted_missed=wanted.missed,
        missed=point.missed,
        curve=tuple(curves[chosen.family]),
    )


def unmet(curves: Curves, wanted: Wanted, turns: int) -> str:
    """In one sentence, why a setting should not be written; "" if nothing is against it."""
    if turns < FEW:
        return f"{turns} turns are too few to tell shares of some per cent (at least {FEW})"
    nearest = choose(curves, wanted)
    if not wanted.excess(nearest.point):
        return ""
    words = {"few cuts": "with so few false cuts", "few missed": "with so few missed"}
    more = {name: s for name, s in trade_offs(curves, wanted).items() if s != nearest}
    others = "".join(f"; {words[name]}: {_said(s.point)}" for name, s in more.items())
    return (
        f"no setting has at most {wanted.false_cuts:.1%} false cuts and at most "
        f"{wanted.missed:.1%} missed turns; nearest: {_said(nearest.point)}{others}"
    )


def _said(point: CurvePoint) -> str:
    return f"{point.false_cuts:.1%} cut, {point.missed:.1%} missed, {point.delay_ms:.0f} ms"
