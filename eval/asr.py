"""Table 1: word and character error rates, by chunk size, of the encoder's CTC and of the LLM.

A row of the results is a part of a corpus under a condition (``4-streaming``, ``inf-offline``),
read in one of two ways: ``ctc``, greedy from the encoder's CTC head, and ``llm``, what the frozen
LLM repeats from the adapter's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.harness import Evaluation, Pass, Row, Score
from eval.metrics.wer import word_errors
from fo_core.io import audio

if TYPE_CHECKING:
    from eval.systems.hearing import Condition

EAR_RATE = 16000
MAX_SECONDS = 120.0


def passes(
    folder: str,
    model: Mapping[str, Any],
    how: Sequence[Condition],
    readings: list[str] | None,
    device: str = "cpu",
) -> list[Pass]:
    """The work of a run: one pass that hears every utterance under every condition.

    Args:
        folder: The model.
        model: What its rows depend on.
        how: The conditions.
        readings: Of ``ctc`` and ``llm``; None: what the model has learned.
        device: Where it runs.
    """
    key = dict(model) | {"conditions": [c.name for c in how], "readings": readings}
    return [Pass("hear", key, lambda: _hearing(folder, how, readings, device), model=True)]


def _hearing(folder: str, how: Sequence[Condition], asked: list[str] | None, device: str) -> Any:
    from eval.systems.hearing import hear, readings_of
    from fo_core.dialogue.settings import read_dialogue
    from fo_core.models import freeze_omni
    from fo_core.models.packing import pack_for_inference

    model = pack_for_inference(freeze_omni.load(folder, device))
    readings, vad = readings_of(model, asked), read_dialogue(folder).duplex.vad

    def one(row: Row) -> Row:
        wave = audio.read(
            row["audio"],
            EAR_RATE,
            MAX_SECONDS,
            start=row["start"],
            duration=row["seconds"] or None,
            channel=row.get("channel"),
        )
        return {"heard": {c.name: hear(model, wave, c, readings, vad) for c in how}}

    return lambda rows: [one(row) for row in rows]


def score(row: Row) -> dict[str, Score]:
    """Errors and words of ``PART/CONDITION/READING``; and the LLM's transcripts without an end."""
    found: dict[str, Score] = {}
    for condition, texts in row["heard"].items():
        for reading in ("ctc", "llm"):
            if reading in texts:
                errors = word_errors(row["text"], texts[reading], row["language"])
                found[f"{row['part']}/{condition}/{reading}"] = (errors.errors, errors.words)
        if "cut" in texts:
            found[f"{row['part']}/{condition}/cut"] = (float(texts["cut"]), 1)
    return found


def evaluation(steps: Sequence[Pass], about: Mapping[str, Any]) -> Evaluation:
    """The evaluation of recognition."""
    return Evaluation("asr", steps, score, about)
