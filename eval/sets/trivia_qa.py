"""TriviaQA: questions of quiz leagues, with every name that an answer goes by.

Read as FlashRAG's ``{"id", "question", "golden_answers"}`` lines, in the original nested layout
(``{"Data": [{"Question", "QuestionId", "Answer": {"Value", "Aliases", ..}}]}``), or as the hub's
mandarjoshi/trivia_qa. Code and data are Apache-2.0 by the original repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.sets import Question
from eval.source import first, need, records, strings

KIND = "questions"
TITLE = "TriviaQA"
COLUMN = "Trivia QA"
LANGUAGE = "en"
HUB = "mandarjoshi/trivia_qa"
FILES = ("rc.nocontext/validation*",)  # what of it is fetched
PATTERNS = ("triviaqa_test*.jsonl", "*trivia*.jsonl", "*verified*dev*.json", "*dev*.json",
            "test.jsonl", "validation*.parquet", "test*.parquet", "*.json")  # fmt: skip


def read(path: Path) -> list[Question]:
    """The questions."""
    found = []
    for number, row in enumerate(records(path), 1):
        text = unquoted(str(need(row, ("question",), path, number)))
        answers = _answers(first(row, ("golden_answers", "answer", "answers")))
        name = first(row, ("id", "QuestionId", "question_id")) or f"trivia-{number:05d}"
        found.append(Question(str(name), text, answers))
    return found


def unquoted(text: str) -> str:
    """A text without the quotes that a CSV file has left around and in it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        inner = text[1:-1]
        if '""' in inner or '"' not in inner:
            return inner.replace('""', '"').strip()
    return text


def _answers(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        return strings(value)
    names = ("Value", "Aliases", "HumanAnswers", "NormalizedValue", "NormalizedAliases",
             "normalized_value", "normalized_aliases")  # fmt: skip
    listed = [one for name in names for one in strings(first(value, (name,)))]
    return strings(listed)
