"""What a lhotse cut says of its sound and words: every field is honoured, or refused by name.

Sound: one channel of one file, or all of its channels averaged (a MultiCut). Words: of one
supervision, or of several that follow each other and are of one speaker.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

from fo_core.errors import DataError

log = logging.getLogger(__name__)
SAVE = "save them as files with lhotse: cuts.save_audios(FOLDER)"
TRIM = "make a cut of each with lhotse: cuts.trim_to_supervisions()"
SLACK = 0.05  # s by which words may begin after their cut, or end before it, without a mark


class CutError(DataError):
    """A cut says something that is not supported.

    Args:
        check: The check of ``fo prepare-data validate`` that finds it.
        what: What is wrong.
        do: What to do next.
    """

    def __init__(self, check: str, what: str, do: str) -> None:
        super().__init__(what, do=do)
        self.check = check


class CutSound(NamedTuple):
    """Where a cut's sound is."""

    source: str  # path of the file
    channel: int | None  # of the file, from 0; None: all averaged
    channels: int  # that the file has


class CutWords(NamedTuple):
    """What is said in a cut."""

    text: str
    speaker: str
    language: str
    start: float  # s from the cut's beginning, where the words begin after it; else 0
    end: float  # s from the cut's beginning, where they end before its end; else 0


def cut_sound(cut: dict[str, Any]) -> CutSound:
    """The file and channel of a cut.

    Raises:
        CutError: Transforms, a source that is no file, or channels of which only some are wanted.
        LookupError, TypeError, ValueError: It is not a cut with a recording.
    """
    kind = cut.get("type") or "MonoCut"
    if kind not in ("MonoCut", "MultiCut"):
        raise CutError("line", f"a {kind} is not one recording", SAVE)
    recording = cut["recording"]
    changes = [_name(change) for change in recording.get("transforms") or ()]
    if changes:
        raise CutError(
            "transforms",
            f"its recording has transforms ({', '.join(changes)}), which are not applied",
            f"{SAVE}; or leave them out: train.batch.augment changes speed and loudness",
        )
    sources = list(recording["sources"])
    if not sources:
        raise ValueError("a recording without sources")
    wanted = _wanted(cut)
    holding = sources[:1] if wanted is None or len(sources) == 1 else [
        s for s in sources if set(wanted) & set(s.get("channels") or [0])
    ]  # fmt: skip
    if len(holding) != 1 or (wanted is None and len(sources) > 1):
        raise CutError("channel", f"channels {_listed(wanted)} lie in {len(holding)} files",
                       "make a cut of each channel (lhotse: MonoCut)")  # fmt: skip
    source = holding[0]
    if source.get("type", "file") not in ("file", "shar"):
        raise CutError("line", f"its source is a {source['type']}, not a file", SAVE)
    held = list(source.get("channels") or [0])
    if wanted is None or (len(wanted) > 1 and set(wanted) == set(held)):
        return CutSound(str(source["source"]), None, len(held))
    if len(wanted) > 1 or wanted[0] not in held:
        raise CutError("channel", f"channel {_listed(wanted)} of a file with {_listed(held)}",
                       "name one of them, or all")  # fmt: skip
    return CutSound(str(source["source"]), held.index(wanted[0]), len(held))


def cut_words(cut: dict[str, Any]) -> CutWords:
    """The words of a cut.

    Raises:
        CutError: Supervisions of several speakers, or that overlap.
        LookupError, TypeError, ValueError: They are not of lhotse's form.
    """
    said = sorted(cut.get("supervisions") or (), key=lambda one: float(one.get("start") or 0))
    if not said:
        return CutWords("", "", "en", 0.0, 0.0)
    spans = [(float(s.get("start") or 0), float(s.get("duration") or 0)) for s in said]
    ends = [start + length if length else float(cut["duration"]) for start, length in spans]
    speakers = sorted({str(one.get("speaker") or "") for one in said})
    if len(speakers) > 1:
        raise CutError(
            "supervisions",
            f"{len(said)} supervisions of {len(speakers)} speakers in one cut",
            TRIM,
        )
    for index in range(1, len(said)):
        if spans[index][0] < ends[index - 1] - SLACK:
            raise CutError("supervisions", f"{len(said)} supervisions that overlap", TRIM)
    texts = (str(one.get("text") or "").strip() for one in said) if len(said) > 1 else (
        str(said[0].get("text") or ""),
    )  # fmt: skip
    start, end = spans[0][0], max(ends)
    return CutWords(
        " ".join(filter(None, texts)),
        speakers[0],
        str(said[0].get("language") or "en"),
        round(start, 8) if start > SLACK else 0.0,
        round(end, 8) if end < float(cut["duration"]) - SLACK else 0.0,
    )


def custom_recordings(custom: dict[str, Any]) -> list[str]:
    """Names of the further recordings that a cut carries; none of our tasks reads them."""
    return [name for name, value in custom.items()
            if isinstance(value, dict) and "sources" in value]  # fmt: skip


@functools.cache
def say_unused(name: str) -> None:
    """Say once that a custom recording is not used."""
    log.warning("the custom recording %r of the manifest's cuts is not used", name)


def _wanted(cut: dict[str, Any]) -> list[int] | None:
    """Channels that a cut takes; None: it does not say."""
    channel = cut.get("channel")
    if channel is None:
        return None
    wanted = [channel] if isinstance(channel, int) else [int(c) for c in channel]
    spoken = {_of_supervision(one) for one in cut.get("supervisions") or ()}
    if len(wanted) > 1 and len(spoken) == 1 and (only := spoken.pop()) in wanted:
        return [only]  # all of its words are said on one of them
    return wanted


def _of_supervision(one: dict[str, Any]) -> int | None:
    channel = one.get("channel")
    if isinstance(channel, list):
        channel = channel[0] if len(channel) == 1 else None
    return channel if isinstance(channel, int) else None


def _name(change: Any) -> str:
    return str(change.get("name", change)) if isinstance(change, dict) else type(change).__name__


def _listed(channels: list[int] | None) -> str:
    return ", ".join(map(str, channels)) if channels else "of all its files"
