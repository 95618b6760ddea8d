"""WebQuestions: questions people asked a search engine, with Freebase answers (2,032 to test).

Read as ``[{"qId", "qText", "answers"}]`` (brmson/dataset-factoid-webquestions), as the original
``[{"utterance", "targetValue"}]``, or as the hub's stanfordnlp/web_questions. CC BY 4.0.
"""

from __future__ import annotations

import re
from pathlib import Path

from eval.sets import Question
from eval.source import first, need, records, strings

KIND = "questions"
TITLE = "Web Questions"
COLUMN = "Web Q."
LANGUAGE = "en"
HUB = "stanfordnlp/web_questions"  # its id on the Hugging Face hub
PATTERNS = ("webquestions*test*.json", "test.json", "*test*.jsonl", "test*.parquet", "test*.json")
_TARGET = re.compile(r'\(description "?([^")]+)"?\)')


def read(path: Path) -> list[Question]:
    """The questions, as they were typed (lower case)."""
    found = []
    for number, row in enumerate(records(path), 1):
        text = str(need(row, ("qText", "question", "utterance"), path, number)).strip()
        target = first(row, ("targetValue",))
        answers = strings(_TARGET.findall(target) if target else first(row, ("answers", "answer")))
        name = first(row, ("qId", "id")) or f"webq-{number:04d}"
        found.append(Question(str(name), text, answers))
    return found
