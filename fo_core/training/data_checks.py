"""Classic mistakes in training data, found before the first step: refused, or counted and said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.io.checkpoint import fingerprint
from fo_core.models.decoder.duration_decoder import DurationDecoder
from fo_core.training.stage import Stage

LOOKED_AT = 20000  # items whose texts are read


FRAMES_A_SECOND = 25.0  # encoder frames


def check_data(model: Any, stage: Stage, items: Sequence[Item]) -> list[str]:
    """Look at a stage's training items.

    Args:
        model: A ``FreezeOmni``; of another model nothing is known.
        stage: The stage.
        items: What it trains on.

    Returns:
        Warnings, one a line, with counts and the first item concerned.

    Raises:
        DataError: Speech tokens are those of another codec, a loss on answers finds none, or
            questions are spoken by the assistant.
    """
    if stage.options.get("answer_kl") and items and not any(item.answer for item in items):
        raise DataError(
            "stage.answer_kl needs the LLM's answers, and no training item has one",
            do="give a manifest of answered questions, or leave stage.answer_kl at 0",
        )
    if stage.data in ("qa", "states") or stage.options.get("answer_kl"):
        wrong = next((item for item in items if item.role == "assistant"), None)
    else:
        wrong = None
    if wrong is not None:
        raise DataError(
            f"{wrong.id} is spoken by the assistant, and {stage.name} learns to hear questions",
            do="give the manifests of the user's side",
        )
    trains = {glob.split(".")[0] for o in stage.objectives for glob in o.trainable}
    if "ctc_head" in trains and hasattr(model, "ctc_head"):
        return _ctc(model, items[:LOOKED_AT])
    if "speech_decoder" in trains and stage.data in ("tts", "reply"):
        _codec(model, items)
        if isinstance(model.speech_decoder, DurationDecoder):
            _aligned(items)
    return []


def _ctc(model: Any, items: Sequence[Item]) -> list[str]:
    vocabulary = model.ctc_head.vocabulary
    unknown: dict[str, Item] = {}
    lost, total, long = 0, 0, list[Item]()
    for item in items:
        kept, missing = vocabulary.encode(item.text), vocabulary.missing(item.text)
        total += len(kept) + len(missing)
        lost += len(missing)
        for label in missing:
            unknown.setdefault(label, item)
        blanks = sum(one == two for one, two in pairwise(kept))  # between equal ones stands a blank
        if len(kept) + blanks > int(item.duration * FRAMES_A_SECOND):
            long.append(item)
    said = []
    if unknown:
        label, item = next(iter(unknown.items()))
        said.append(
            f"{lost:,} of {total:,} transcript labels ({len(unknown):,} different) have no class "
            f"in the CTC head and are not learned, first {label!r} in {item.id}; "
            f"start from a new head (ctc.{model.config.ctc.vocabulary}: []) if the texts are right"
        )
    if long:
        said.append(
            f"{len(long):,} of {len(items):,} transcripts are longer than their "
            f"{1000 / FRAMES_A_SECOND:.0f} ms frames can say and teach CTC nothing, first "
            f"{long[0].id} ({long[0].duration:.2f} s: {long[0].text[:60]!r}); look for wrong texts"
        )
    return said


def _aligned(items: Sequence[Item]) -> None:
    without = [item for item in items if not item.letter_tokens]
    if without:
        raise DataError(
            f"{len(without):,} of {len(items):,} items do not say how long their letters are, "
            f"first {without[0].id}; this speech decoder learns from durations",
            do="run fo prepare-data align on the manifest, or take speech_decoder.type: attention",
        )


def _codec(model: Any, items: Sequence[Item]) -> None:
    codes = model.speech_decoder.cfg.codes
    for item in items:
        if max(item.speech_tokens) >= codes or min(item.speech_tokens) < 0:
            raise DataError(
                f"item {item.id} has the speech token {max(item.speech_tokens)}, the decoder "
                f"knows 0 to {codes - 1}: these are another codec's tokens",
                do="encode the manifest with this model's codec (fo prepare-data encode)",
            )
    marks = {str(item.extra["codec"]) for item in items if item.extra.get("codec")}
    if not marks or "codec" not in getattr(model, "trained", ()):
        return
    own = fingerprint(model.codec.quantizer)
    others = sorted(mark for mark in marks if not own.startswith(mark))
    if others:
        raise DataError(
            f"the speech tokens are of the codec {', '.join(others)}, this model's is {own[:19]}",
            do="encode the manifest with this model's codec (fo prepare-data encode)",
        )
