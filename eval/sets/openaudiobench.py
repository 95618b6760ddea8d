"""OpenAudioBench: five sets of spoken questions (baichuan-inc/OpenAudioBench on the hub).

Published as ``eval_datas/SUBSET/SUBSET.csv`` with ``eval_datas/SUBSET/audios/`` beside it; the
column ``audio_filename`` names the recording, the others differ by subset. Web, LLaMA and Trivia
questions are scored by containment here and by an LLM there; ``alpaca_eval`` and ``reasoning_qa``
want a reader (``--judge-llm``).
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.sets import Question
from eval.source import first, need, records, strings

KIND = "questions"
TITLE = "OpenAudioBench"
COLUMN = ""
LANGUAGE = "en"
HUB = "baichuan-inc/OpenAudioBench"
PATTERNS = ("*.csv",)
RECORDED = True
SUBSETS = {  # name -> rule, columns of the question, columns of the answers
    "llama_questions": ("contains", ("Questions", "question"), ("Answer", "answer")),
    "web_questions": ("contains", ("question",), ("answers", "answer")),
    "trivia_qa": ("contains", ("question",),
                  ("answer_normalized_aliases", "answer_aliases", "answers", "answer")),
    "alpaca_eval": ("open", ("instruction", "question", "Prompt"), ("output", "answer")),
    "reasoning_qa": ("open", ("Prompt", "question"), ("参考答案", "answer")),
}  # fmt: skip


def read(folder: Path, subsets: Sequence[str]) -> list[Question]:
    """The questions of some subsets."""
    found = []
    for subset in subsets:
        rule, asked, answered = SUBSETS[subset]
        for path in sorted(folder.rglob(f"{subset}.csv")):
            for number, row in enumerate(records(path), 1):
                name = str(need(row, ("audio_filename",), path, number))
                place = path.parent / "audios" / name
                found.append(
                    Question(
                        f"{subset}/{Path(name).stem}",
                        str(need(row, asked, path, number)).strip(),
                        _listed(first(row, answered)),
                        str(place) if place.is_file() else "",
                        subset,
                        rule,
                    )
                )
    return found


def _listed(value: Any) -> tuple[str, ...]:
    """Answers of a CSV cell, which may be a list as Python writes it."""
    text = str(value or "").strip()
    if text.startswith("["):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return strings(text)
        return strings(list(found))
    return strings(text)
