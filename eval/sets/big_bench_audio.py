"""Big Bench Audio: 1,000 spoken puzzles of Big Bench Hard, four kinds of 250 (MIT).

Published as ``metadata.jsonl`` (``file_name``, ``category``, ``official_answer``, ``id``) with
``data/question_ID.mp3`` beside it, under ArtificialAnalysis/big_bench_audio on the hub. There is no
text of the questions, so there is no column of the text LLM; the cascade stands in for it. Its
authors let an LLM compare an answer with the official one (``--judge-llm``); here an answer is
right that commits itself to the official one and to no other.
"""

from __future__ import annotations

from pathlib import Path

from eval.sets import Question
from eval.source import first, need, records
from fo_core.errors import DataError

KIND = "questions"
TITLE = "Big Bench Audio"
COLUMN = ""
LANGUAGE = "en"
HUB = "ArtificialAnalysis/big_bench_audio"
PATTERNS = ("metadata.jsonl", "*.jsonl")
FILES = ("metadata.jsonl", "data/*")  # what of the hub's repository is needed
RECORDED = True
OPTIONS = {
    "formal_fallacies": ("valid", "invalid"),
    "navigate": ("Yes", "No"),
    "web_of_lies": ("Yes", "No"),
    "object_counting": tuple(str(number) for number in range(51)),
}


def read(path: Path) -> list[Question]:
    """The questions; an answer is right by the options of its category."""
    found = []
    for number, row in enumerate(records(path), 1):
        category = str(need(row, ("category",), path, number)).strip().lower().replace(" ", "_")
        official = str(need(row, ("official_answer",), path, number)).strip()
        options = OPTIONS.get(category)
        if options is None or official.lower() not in (one.lower() for one in options):
            raise DataError(
                f"{path} row {number}: the answer {official!r} of {category!r} is none",
                possible="; ".join(f"{k}: {', '.join(v[:3])}" for k, v in OPTIONS.items()),
            )
        name = str(need(row, ("file_name",), path, number)).replace("\\", "/").replace("//", "/")
        place = path.parent / name
        wrong = tuple(one for one in options if one.lower() != official.lower())
        ident = first(row, ("id",))
        ident = number - 1 if ident is None else ident
        found.append(
            Question(
                f"bba-{int(ident):04d}",
                "",
                (official, *wrong),
                str(place) if place.is_file() else "",
                category,
                "options",
            )
        )
    return found
