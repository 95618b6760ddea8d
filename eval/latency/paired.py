"""Two models, talk by talk in turns: what a busy machine does to one, it does to the other.

The other one is most often a checkpoint in the published layout, which this program runs by the
published rules in float32 (:mod:`fo_core.convert`). That is how long the original's *model* takes
here; the original's own program is not run, see :mod:`eval.latency.original` for its times.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.latency.legs import FOUR, PIECE
from eval.latency.models import endless
from eval.latency.talk import dialogue, sound, talk
from fo_core.config import replace
from fo_core.convert.official import import_official
from fo_core.errors import FoError
from fo_core.models.freeze_omni import FreezeOmni, load
from fo_core.models.packing import pack_for_inference

HEAD = ("leg, ms", "ours", "theirs", "faster by (median of pairs)")


@dataclass(frozen=True)
class Pair:
    """One leg of both models, medians."""

    label: str
    ours: float  # ms
    theirs: float  # ms
    faster: float  # median over the pairs of theirs / ours

    @property
    def cells(self) -> tuple[str, ...]:
        """Texts under :data:`HEAD`."""
        return (self.label, f"{self.ours:.1f}", f"{self.theirs:.1f}", f"{self.faster:.2f}")


def published(folder: Path, device: str = "cpu") -> FreezeOmni:
    """A checkpoint in the published layout, made ready to talk.

    Args:
        folder: Holds ``checkpoints/`` and ``llm/``.
        device: Where it is to run.

    Raises:
        FoError: One of the two is not there.
        CheckpointError: They are damaged or do not belong together.
    """
    for name in ("checkpoints", "llm"):
        if not (folder / name).is_dir():
            raise FoError(
                f"{folder} has no folder {name}",
                "checkpoints/ (audiollm, decoder, codec, server.json) beside llm/",
            )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "model"
        import_official(folder / "checkpoints", folder / "llm", made)
        model = endless(load(made, device=device))
        return pack_for_inference(model, "same")


def pairs(
    ours: FreezeOmni,
    theirs: FreezeOmni,
    runs: int = 10,
    seed: int = 0,
    first_chunk: int = 40,
    say: Callable[[str], None] = lambda text: None,
) -> list[Pair]:
    """Both answer the same sound ``runs`` times; who begins changes every time.

    Args:
        ours: Ready to talk; its speech must not end by itself.
        theirs: The same.
        runs: Pairs of talks, after one that does not count.
        seed: Of the first pair; each has the next.
        first_chunk: Speech tokens of the first audio.
        say: Told how far it is.

    Returns:
        The four legs, and their total.
    """
    models, found = (ours, theirs), []
    for index in range(-1, runs):
        say(f"pair {index + 1} of {runs}" if index >= 0 else "warming up")
        own = seed + max(index, 0)
        plain = dialogue(first_chunk, seed=own, tokens=PIECE)
        settings = plain, replace(plain, compat="official")
        took: list[dict[str, float]] = [{}, {}]
        for which in (0, 1) if index % 2 else (1, 0):
            model = models[which]
            took[which] = talk(model, sound(model, own + 1), settings[which]).legs
        if index >= 0:
            found.append(took)
    every = [part for _, parts, _ in FOUR.values() for part in parts]
    legs = [(label, parts) for label, parts, _ in FOUR.values()]
    rows = []
    for label, parts in [*legs, ("total: decision → first PCM", every)]:
        both = [tuple(sum(one[part] for part in parts) for one in took) for took in found]
        mine, other = (statistics.median(side) for side in zip(*both, strict=True))
        ratio = statistics.median(b / a for a, b in both)
        rows.append(Pair(label, mine, other, ratio))
    return rows
