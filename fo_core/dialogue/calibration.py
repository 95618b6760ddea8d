"""How a model's end-of-turn settings were found: part of ``dialogue.json``."""

from __future__ import annotations

from fo_core.config import config


@config
class CurvePoint:
    """What one threshold costs, on held-out talk."""

    threshold: float  # ``states.respond_threshold``
    false_cuts: float  # share of the turns that are answered before they end
    delay_ms: float  # mean, end of speech to decision; the timeout where none is made
    missed: float  # share of the turns that are dismissed, or that no decision ends


@config
class Calibration:
    """What ``fo models calibrate`` measured before it set ``states``."""

    wanted: float  # highest share of false cuts that was asked for
    turns: int  # of the held-out talk
    false_cuts: float  # at the settings that were written
    delay_ms: float  # likewise
    wanted_missed: float = 1.0  # highest share of missed turns that was asked for
    missed: float | None = None  # at the settings that were written; None: an older version's
    curve: tuple[CurvePoint, ...] = ()  # at the smoothing and fall that were written
