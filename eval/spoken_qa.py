"""Table 3: spoken question answering on a public set, four columns in one run.

The text LLM answers the typed question; the model answers the spoken one; its text, and its speech
as a judge hears it, are looked at for an accepted answer; and the ratio to the text LLM says what
survived of its knowledge. Beside them: the word error rate of the speech against its own text,
lengths, and the judge's own error on the questions' sound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.harness import Evaluation, Pass, Row, Score
from eval.judges import JudgeSpec, LLMJudge
from eval.metrics.contains import contains
from eval.metrics.speaking import loops, words
from eval.metrics.wer import char_errors, word_errors
from eval.sets import Question
from eval.systems.talker import Talker
from eval.voices import Voice
from fo_core.io import audio

EAR_RATE = 16000
BATCH = 48  # typed questions at a time
REPLIES = {"text": "text_answer", "answer": "answer", "speech": "heard"}  # column -> its field


def as_rows(
    questions: Sequence[Question], recorded: bool, limit: int | None
) -> tuple[list[Row], dict[str, str]]:
    """Rows to measure, and why others of the set are left out.

    Args:
        questions: The set.
        recorded: Only those with a recording on disk.
        limit: At most so many.
    """
    rows, left = [], {}
    for one in questions:
        if not one.answers:
            left[one.id] = "no accepted answer"
        elif recorded and not one.audio:
            left[one.id] = "no recording"
        else:
            row = {"id": one.id, "question": one.text, "answers": list(one.answers)}
            rows.append(row | {"recorded_audio": one.audio})
    return rows[:limit], left


def passes(
    talker: Talker | None,
    model: Mapping[str, Any],
    voice: Voice,
    judge: JudgeSpec,
    llm_judge: LLMJudge | None,
    out: Path,
    columns: Sequence[str] = ("text", "answer", "speech"),
    device: str = "cpu",
) -> list[Pass]:
    """The work of a run.

    Args:
        talker: The model; None where only scores are wanted (then nothing asks it).
        model: What the model's rows depend on: fingerprint, longest answer, seed, ...
        voice: Who speaks the questions.
        judge: Who hears the replies.
        llm_judge: Who reads the answers, if anybody.
        out: Results folder; gets ``replies/``.
        columns: Which of text, answer and speech are measured.
        device: Where the judge runs.
    """
    found = []
    if "text" in columns:
        found.append(Pass("text", dict(model), lambda: _typed(talker), model=True, batch=BATCH))
    if "answer" in columns or "speech" in columns:
        speak = "speech" in columns
        key = dict(model) | voice.key()
        found.append(Pass("questions", voice.key(), voice.open, model=True))
        found.append(
            Pass("replies", key | {"speak": speak}, lambda: _spoken(talker, out, speak), model=True)
        )
        key = judge.key() | {"speech": speak}
        found.append(Pass("judge", key, lambda: _judged(judge, out, device)))
    if llm_judge is not None:
        fields = {name: REPLIES[name] for name in columns}
        found.append(
            Pass("llm-judge", llm_judge.key() | fields, lambda: _graded(llm_judge, fields), batch=8)
        )
    return found


def _typed(talker: Talker | None) -> Any:
    assert talker is not None

    def work(rows: Sequence[Row]) -> list[Row]:
        answers = talker.answer_typed([row["question"] for row in rows], BATCH)
        return [{"text_answer": a.text, "text_finished": a.finished} for a in answers]

    return work


def _spoken(talker: Talker | None, out: Path, speak: bool) -> Any:
    assert talker is not None
    needed = ("speech_decoder", "codec") if speak else ()
    talker.model.require("speech_encoder", "adapter", *needed)

    def one(row: Row) -> Row:
        reply = talker.ask(audio.read(row["question_audio"], EAR_RATE), speak)
        fields: Row = {
            "answer": reply.text,
            "answer_finished": reply.finished,
            "ended_by": reply.ended_by,
        }
        if speak:
            fields |= {"reply_wav": "", "reply_seconds": round(len(reply.wave) / reply.rate, 3)}
            fields |= {"speech_endless": reply.endless, "first_audio_ms": reply.first_audio_ms}
            if len(reply.wave):
                fields["reply_wav"] = f"replies/{file_name(row['id'])}.flac"
                audio.write(out / fields["reply_wav"], reply.wave, reply.rate)
        return fields

    return lambda rows: [one(row) for row in rows]


def file_name(item_id: str) -> str:
    """An id as a file's name."""
    return re.sub(r"[^\w.-]+", "_", item_id)


def _judged(judge: JudgeSpec, out: Path, device: str) -> Any:
    ears = judge.open(device)

    def one(row: Row) -> Row:
        fields = {"heard_question": ears.transcribe(audio.read(row["question_audio"], EAR_RATE))}
        if "reply_wav" in row:
            path = row["reply_wav"]
            wave = audio.read(out / path, EAR_RATE, 3600.0, 0.0) if path else None
            fields["heard"] = "" if wave is None else ears.transcribe(wave)
        return fields

    return lambda rows: [one(row) for row in rows]


def _graded(judge: LLMJudge, fields: Mapping[str, str]) -> Any:
    def work(rows: Sequence[Row]) -> list[Row]:
        asked = [
            (row["question"], row["answers"], row.get(field, ""))
            for row in rows
            for field in fields.values()
        ]
        grades = iter(judge.grade(asked))
        return [{f"grade_{name}": next(grades) for name in fields} for _ in rows]

    return work


def score(row: Row, language: str = "en") -> dict[str, Score]:
    """Numerators and denominators of one question; see :data:`eval.report.pages.QA_METRICS`."""
    found: dict[str, Score] = {}
    right = {c: contains(row[f], row["answers"]) for c, f in REPLIES.items() if f in row}
    found |= _accuracies(right, "")
    graded = {c: row.get(f"grade_{c}") for c in right if f"grade_{c}" in row}
    decided = {c: bool(grade) for c, grade in graded.items() if grade is not None}
    if graded:
        found["llm_judge_undecided"] = (len(graded) - len(decided), len(graded))
        if len(decided) == len(graded):
            found |= _accuracies(decided, "llm_judge_")
    if "answer" in row:
        found["empty_answers"] = (float(not row["answer"]), 1)
        found["cut_answers"] = (float(not row["answer_finished"]), 1)
        found["dismissed_questions"] = (float(row["ended_by"] == "ignore"), 1)
        found["answer_words"] = (words(row["answer"], language), 1)
    if "text_answer" in row:
        found["text_words"] = (words(row["text_answer"], language), 1)
    if "heard" in row:
        found |= _speech(row, language)
    if "heard_question" in row:
        errors = word_errors(row["question"], row["heard_question"], language)
        found["judge_wer"] = (errors.errors, errors.words)
    return found


def _accuracies(right: Mapping[str, bool], kind: str) -> dict[str, Score]:
    found: dict[str, Score] = {f"{kind}{c}_accuracy": (float(r), 1) for c, r in right.items()}
    if "text" in right:
        for column in ("answer", "speech"):
            if column in right:
                found[f"{kind}{column}_ratio"] = (float(right[column]), float(right["text"]))
    return found


def _speech(row: Row, language: str) -> dict[str, Score]:
    by_word = word_errors(row["answer"], row["heard"], language)
    by_char = char_errors(row["answer"], row["heard"], language)
    return {
        "speech_wer": (by_word.errors, by_word.words),
        "speech_cer": (by_char.errors, by_char.words),
        "mute_replies": (float(bool(row["answer"]) and not row["reply_wav"]), 1),
        "endless_replies": (float(row["speech_endless"]), 1),
        "looping_replies": (float(loops(row["answer"], row["heard"], language)), 1),
        "reply_seconds": (row["reply_seconds"], 1),
    }


def evaluation(
    name: str, steps: Sequence[Pass], about: Mapping[str, Any], language: str = "en"
) -> Evaluation:
    """The evaluation of a set."""
    return Evaluation(name, steps, lambda row: score(row, language), about)
