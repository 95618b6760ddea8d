"""Speech recognition: what the streaming encoder hears, and what the frozen LLM repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eval.metrics.wer import total, word_errors
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.files import write_json, write_jsonl

EAR_RATE = 16000


class Ears(Protocol):
    """The listening half of :class:`eval.qa.Probe`."""

    def hear(self, wave: np.ndarray) -> str: ...
    def repeat(self, wave: np.ndarray) -> str: ...


def evaluate(
    ears: Ears,
    items: Sequence[Item],
    out_dir: str | Path,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Transcribe every item that has a transcript.

    Args:
        ears: The model.
        items: Utterances with text.
        out_dir: Gets ``items.jsonl`` (each with its own counts) and ``overview.json``.
        progress: Called with ("utterances", done, all).

    Returns:
        ``items``, ``words``, ``input1_wer`` (greedy CTC), ``input2_wer`` (through the LLM).

    Raises:
        DataError: No item has a transcript.
    """
    spoken = [item for item in items if item.text]
    if not spoken:
        raise DataError("no item of the manifest has a text", do="give one with transcripts")
    rows, ctc, llm = [], [], []
    for item in spoken:
        wave = item.load_audio(EAR_RATE)
        heard, repeated = ears.hear(wave), ears.repeat(wave)
        ctc.append(word_errors(item.text, heard))
        llm.append(word_errors(item.text, repeated))
        rows.append(
            {
                "id": item.id,
                "text": item.text,
                "heard": heard,
                "repeated": repeated,
                "input1_wer": ctc[-1].rate,
                "input2_wer": llm[-1].rate,
            }
        )
        progress("utterances", len(rows), len(spoken))
    found = {
        "items": len(spoken),
        "words": total(ctc).words,
        "input1_wer": total(ctc).rate,
        "input2_wer": total(llm).rate,
    }
    write_jsonl(Path(out_dir) / "items.jsonl", rows)
    write_json(Path(out_dir) / "overview.json", found)
    return found
