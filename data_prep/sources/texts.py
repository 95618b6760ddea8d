"""Sources of the first step that are lists: texts to speak, questions to answer, own recordings.

texts      a file of sentences: they are read aloud, with their transcripts
questions  a file of questions: the LLM answers them, both sides are spoken
corpus     a manifest of recorded questions (``import`` makes it): the LLM answers them, the answers
           are spoken

A file is ``.txt`` (a text a line), ``.tsv``, ``.csv`` or ``.jsonl`` with named columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.corpora._text import text_lines
from data_prep.corpora.table import read_rows
from data_prep.runner.cuts import cuts_of
from data_prep.runner.run import Progress, Reject, Row, RunConfig, StepReport, run_step
from data_prep.sources.dialogues import Dialogue, Sentence, Turn
from fo_core.config import config, to_dict
from fo_core.data import manifest
from fo_core.errors import DataError
from fo_core.registry import did_you_mean

KINDS = (".txt", ".tsv", ".csv", ".jsonl")
VERSION = 1


@config
class TextsConfig:
    """Which texts, questions or recordings, and where in a row they stand."""

    input: tuple[str, ...] = ()  # files of texts or questions; for corpus: manifests
    text: str = "text"  # column of the text
    id: str = ""  # column of its name; "" = the file's name and the row's number
    language: str = "en"  # of every text whose row does not say it
    language_column: str = ""  # column of the language
    split: str = ""  # column that says train, val or test
    answers: str = ""  # column of the right answers of a question, for evaluation; "|" between


def check(cfg: TextsConfig, source: str) -> None:
    """Refuse inputs of which nothing could be used, before anything is written.

    Raises:
        DataError: There is no input, a file is missing, of another kind or empty, or it has no
            column of a name that is given.
    """
    if not cfg.input:
        what = "manifests of recordings" if source == "corpus" else f"files ({', '.join(KINDS)})"
        raise DataError(f"source {source} has no input", do=f"set texts.input to {what}")
    if source == "corpus":
        if next(cuts_of(cfg.input), None) is None:
            raise DataError(f"{cfg.input[0]} is empty", do="import the corpus again")
        return
    for name in cfg.input:
        path = Path(name)
        if not path.is_file():
            raise DataError(f"no file {path}", do="name a file of texts")
        if path.suffix.lower() not in KINDS:
            raise DataError(f"{path} is no list of texts", possible=", ".join(KINDS))
        first = next((row for _, row, fault in _rows(path, cfg.text) if not fault), None)
        if first is None:
            raise DataError(f"{path} holds no text", possible="a text a line, or rows with columns")
        given = (cfg.text, cfg.id, cfg.language_column, cfg.split, cfg.answers)
        for column in filter(None, given) if path.suffix.lower() != ".txt" else ():
            if column not in first:
                names = [str(each) for each in first]
                raise DataError(f"{path} has no column {column!r}",
                                possible=did_you_mean(column, names),
                                do="name it: --set texts.text=COLUMN (texts.id, texts.split ...)",
                                )  # fmt: skip


def run(cfg: TextsConfig, source: str, out: Path, how: RunConfig, progress: Progress) -> StepReport:
    """Step ``sample`` of these sources: their rows become sentences or dialogues.

    Args:
        cfg: Inputs and columns.
        source: "texts", "questions" or "corpus".
        out: The step's folder.
        how: Its limit counts rows; one process reads them.
        progress: Called with ("sample", rows done, rows).

    Raises:
        FoError: As :func:`check` and :func:`data_prep.runner.run.run_step`.
    """
    check(cfg, source)
    rows = cuts_of(cfg.input) if source == "corpus" else _texts(cfg)
    total = sum(1 for _ in (cuts_of(cfg.input) if source == "corpus" else _texts(cfg)))
    settings = {"version": VERSION, "source": source, **to_dict(replace(cfg, input=()))}
    return run_step("sample", rows, Written(cfg, source), out, how=RunConfig(1, "local", how.limit),
                    settings=settings, progress=progress, total=total)  # fmt: skip


def _rows(path: Path, column: str) -> Iterator[tuple[int, Row, str]]:
    if path.suffix.lower() != ".txt":
        for number, row, fault in read_rows(path):
            yield number, dict(row), fault
        return
    for number, line, fault in text_lines(path):
        yield number, {column: line}, fault


def _texts(cfg: TextsConfig) -> Iterator[Row | str]:
    """{"id", "source", "row"} of every row of every file; why, for what is no row."""
    stems = Counter(Path(name).stem for name in cfg.input)
    for place, name in enumerate(cfg.input):
        path = Path(name)
        stem = path.stem if stems[path.stem] == 1 else f"{path.stem}-{place}"
        for number, row, fault in _rows(path, cfg.text):
            where = f"{path.name}:{number}"
            if fault:
                yield f"{where}: {fault}"
                continue
            given = _value(row, cfg.id) if cfg.id and path.suffix.lower() != ".txt" else ""
            yield {"id": _name(given or f"{stem}-{number:06d}"), "source": where, "row": row}


def _name(text: str) -> str:
    """A name that files can have."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "_"


def _value(row: Row, column: str) -> str:
    found = row.get(column) if column else ""
    return "" if found is None or isinstance(found, (dict, list)) else str(found).strip()


class Written:
    """The work on one row: a sentence or a dialogue of one turn."""

    def __init__(self, cfg: TextsConfig, source: str) -> None:
        self.cfg, self.source = cfg, source

    def __call__(self, row: Row) -> Row:
        """The row that the next steps read.

        Raises:
            Reject: It holds no text, or is not a question of its own.
        """
        if self.source == "corpus":
            return self._recorded(row)
        cfg, cells = self.cfg, row["row"]
        text = " ".join(_value(cells, cfg.text).split())
        if not any(map(str.isalnum, text)):
            raise Reject("no text")
        language = _value(cells, cfg.language_column) or cfg.language
        extra: dict[str, Any] = {}
        if _value(cells, cfg.split):
            extra["split"] = _name(_value(cells, cfg.split))
        if self.source == "texts":
            return Sentence(row["id"], text, language, row["source"], extra).to_dict()
        right = cells.get(cfg.answers) if cfg.answers else None
        listed = right if isinstance(right, list) else _value(cells, cfg.answers).split("|")
        answers = [str(each).strip() for each in listed if str(each).strip()]
        extra |= {"answers": answers} if answers else {}
        return Dialogue(row["id"], (Turn(text),), language, "", row["source"], extra).to_dict()

    @staticmethod
    def _recorded(cut: Row) -> Row:
        """A recorded question as a dialogue of one turn."""
        item = manifest.from_cut(cut)
        if item.role == "assistant":
            raise Reject("the assistant's turn: encode takes it as it is")
        if item.messages or item.turn:
            raise Reject("a later turn of a dialogue: label-states takes it as it is")
        if item.kind not in ("", "question"):
            raise Reject(f"no question ({item.kind})")
        if not any(map(str.isalnum, item.text)):
            raise Reject("no text")
        extra = {k: item.extra[k] for k in ("split",) if k in item.extra}
        extra |= {"fact": item.fact} if item.fact else {}
        extra |= {"answers": list(item.answers)} if item.answers else {}
        turn = Turn(item.text, item.answer or None, cut)
        category = str(item.extra.get("category", ""))
        return Dialogue(_name(item.id), (turn,), item.language, category, "", extra).to_dict()
