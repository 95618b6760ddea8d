"""Scores of one spoken question: right or wrong by column, what survived of the text LLM's score,
what two judges heard, and what went wrong.

Every score is a numerator and a denominator of the item (:mod:`eval.metrics.bootstrap`), so a share
retained of the text LLM's score and a difference to it are paired by question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.metrics import rules
from eval.metrics.contains import contains
from eval.metrics.first_sentence import first_heard, first_sentence
from eval.metrics.speaking import loops, words
from eval.metrics.wer import char_errors, word_errors

Row = Mapping[str, Any]
Score = tuple[float, float]

DISMISSED = ("dismiss", "ignore")  # ended_by; the second in results of before
COLUMNS = {  # column of the table -> the field of a row that holds its reply
    "text": "text_answer",
    "answer": "answer",
    "speech": "heard",
    "cascade": "cascade_answer",
    "cascade_speech": "cascade_speech_heard",
}
WRITTEN = {"speech": "answer", "cascade_speech": "cascade_answer"}  # what a heard reply should say


def score(row: Row, language: str = "en") -> dict[str, Score]:
    """Numerators and denominators of one question, by the names of ``report.qa_page``."""
    found: dict[str, Score] = {}
    replies = {column: row[field] for column, field in COLUMNS.items() if field in row}
    judged = {column: rules.of_row(said, row) for column, said in replies.items()}
    right = {column: bool(is_right) for column, is_right in judged.items() if is_right is not None}
    found |= accuracies(right, "") | _beside_cascade(right)
    if row.get("category"):
        part = f"part/{row['category']}"
        found |= {f"{part}/{column}": (float(is_right), 1) for column, is_right in right.items()}
    for column, said in replies.items():
        if row.get("rule", "contains") != "contains":
            break
        written = row[WRITTEN[column]] if column in WRITTEN else None
        first = first_sentence(said) if written is None else first_heard(said, written, language)
        found[f"strict_{column}_accuracy"] = (float(contains(first, row["answers"])), 1)
    found |= _graded(row)
    if "text_answer" in row:
        found["text_words"] = (words(row["text_answer"], language), 1)
    if "answer" in row:
        found["empty_answers"] = (float(not row["answer"]), 1)
        found["cut_answers"] = (float(not row["answer_finished"]), 1)
        found["dismissed_questions"] = (float(row["ended_by"] in DISMISSED), 1)
        found["answer_words"] = (words(row["answer"], language), 1)
    if "cascade_answer" in row:
        found["cascade_words"] = (words(row["cascade_answer"], language), 1)
    if "heard" in row:
        found |= _speech(row, language)
    if "cascade_speech_heard" in row:
        errors = word_errors(row["cascade_answer"], row["cascade_speech_heard"], language)
        found["cascade_speech_wer"] = (errors.errors, errors.words)
    found |= _hearing(row, language) | _second(row, right, language)
    for name in ("dnsmos", "utmos", "distillmos", "similarity"):
        for kind in ("", "cascade_"):
            if row.get(f"{kind}{name}") is not None:
                found[f"{kind}{name}"] = (row[f"{kind}{name}"], 1)
    return found


def accuracies(right: Mapping[str, bool], kind: str) -> dict[str, Score]:
    """``COLUMN_accuracy``; and of each but the text LLM's: the share retained, the difference."""
    found: dict[str, Score] = {f"{kind}{c}_accuracy": (float(r), 1) for c, r in right.items()}
    if "text" in right:
        for column in right:
            if column != "text":
                found[f"{kind}{column}_ratio"] = (float(right[column]), float(right["text"]))
                gap = float(right[column]) - float(right["text"])
                found[f"{kind}{column}_gap"] = (gap, 1)
    return found


def _beside_cascade(right: Mapping[str, bool]) -> dict[str, Score]:
    pairs = (("answer", "cascade"), ("speech", "cascade_speech"))
    return {
        f"{ours}_over_cascade": (float(right[ours]) - float(right[theirs]), 1)
        for ours, theirs in pairs
        if ours in right and theirs in right
    }


def _graded(row: Row) -> dict[str, Score]:
    graded = {c: row.get(f"grade_{c}") for c in COLUMNS if f"grade_{c}" in row}
    if not graded:
        return {}
    decided = {c: bool(grade) for c, grade in graded.items() if grade is not None}
    found: dict[str, Score] = {"llm_judge_undecided": (len(graded) - len(decided), len(graded))}
    if len(decided) == len(graded):
        found |= accuracies(decided, "llm_judge_")
    return found


def _speech(row: Row, language: str) -> dict[str, Score]:
    by_word = word_errors(row["answer"], row["heard"], language)
    by_char = char_errors(row["answer"], row["heard"], language)
    found: dict[str, Score] = {
        "speech_wer": (by_word.errors, by_word.words),
        "speech_cer": (by_char.errors, by_char.words),
        "mute_replies": (float(bool(row["answer"]) and not row["reply_wav"]), 1),
        "endless_replies": (float(row["speech_endless"]), 1),
        "looping_replies": (float(loops(row["answer"], row["heard"], language)), 1),
        "reply_seconds": (row["reply_seconds"], 1),
    }
    if row["reply_seconds"]:
        found["pace"] = (60 * words(row["answer"], language), row["reply_seconds"])
    return found


def _hearing(row: Row, language: str) -> dict[str, Score]:
    """Errors of all who heard the question: our ears, the cascade's, the judge."""
    ears = {"hearing_wer": "model_heard", "cascade_hearing_wer": "cascade_heard",
            "judge_wer": "heard_question"}  # fmt: skip
    found: dict[str, Score] = {}
    for name, field in ears.items():
        if field in row and row["question"]:
            errors = word_errors(row["question"], row[field], language)
            found[name] = (errors.errors, errors.words)
    return found


def _second(row: Row, right: Mapping[str, bool], language: str) -> dict[str, Score]:
    """What another judge heard, and where the two disagree."""
    found: dict[str, Score] = {}
    for kind, column in (("", "speech"), ("cascade_", "cascade_speech")):
        field = f"{COLUMNS[column]}_2"
        if field not in row or WRITTEN[column] not in row:
            continue
        errors = word_errors(row[WRITTEN[column]], row[field], language)
        found[f"{kind}speech_wer_2"] = (errors.errors, errors.words)
        too = rules.of_row(row[field], row)
        if too is None or column not in right:
            continue
        found[f"{column}_accuracy_2"] = (float(too), 1)
        found[f"{kind}judges_disagree"] = (float(too != right[column]), 1)
    return found
