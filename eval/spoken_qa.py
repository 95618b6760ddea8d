"""Table 3: spoken question answering on a public set, all columns in one run.

The text LLM answers the typed question; the model answers the spoken one; its text, and its speech
as a judge hears it, are looked at for an accepted answer; and the ratio to the text LLM says what
survived of its knowledge. A cascade around the same LLM answers the same sound, if it is asked
for. Scores: :mod:`eval.metrics.spoken_answers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.harness import Evaluation, Pass, Row
from eval.judges import JudgeSpec, LLMJudge
from eval.metrics.spoken_answers import COLUMNS, score
from eval.sets import Question
from eval.systems.cascade import Cascade, CascadeSpec
from eval.systems.talker import Talker
from eval.voices import Voice
from fo_core.io import audio

if TYPE_CHECKING:
    from eval.systems.sound import Rating

EAR_RATE = 16000
BATCH = 48  # typed questions at a time
CASCADE = {"answer": "cascade", "speech": "cascade_speech"}  # ... of the cascade beside ours


def as_rows(
    questions: Sequence[Question], recorded: bool, limit: int | None
) -> tuple[list[Row], dict[str, str]]:
    """Rows to measure, and why others of the set are skipped.

    Args:
        questions: The set.
        recorded: Only those with a recording on disk.
        limit: At most so many, of each part of a set that has parts.
    """
    rows, left = [], {}
    for one in questions:
        if not one.answers and one.rule in ("contains", "options", "letter"):
            left[one.id] = "no accepted answer"
        elif recorded and not one.audio:
            left[one.id] = "no recording"
        else:
            row = {"id": one.id, "question": one.text, "answers": list(one.answers)}
            row |= {"recorded_audio": one.audio}
            more = {"category": one.category, "published": dict(one.published),
                    "earlier_audio": list(one.earlier)}  # fmt: skip
            if one.rule != "contains":
                more["rule"] = one.rule
            rows.append(row | {name: value for name, value in more.items() if value})
    return _first(rows, limit), left


def _first(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """The first so many rows of each part of a set."""
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        part = row.get("category", "")
        seen[part] = seen.get(part, 0) + 1
        if limit is None or seen[part] <= limit:
            found.append(row)
    return found


def passes(
    talker: Talker | None,
    model: Mapping[str, Any],
    voice: Voice,
    judge: JudgeSpec,
    llm_judge: LLMJudge | None,
    out: Path,
    columns: Sequence[str] = ("text", "answer", "speech"),
    device: str = "cpu",
    cascade: CascadeSpec | None = None,
    second: JudgeSpec | None = None,
    rate: Rating | None = None,
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
        cascade: What else answers the spoken questions.
        second: Another judge that hears the replies.
        rate: How good the replies sound.
    """
    found = []
    sounds = {"reply_wav": "heard"} if "speech" in columns else {}
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
        if cascade is not None:
            key = dict(model) | voice.key() | cascade.key() | {"speak": speak}
            found.append(
                Pass("cascade", key, lambda: _cascaded(talker, cascade, out, speak, device),
                     model=True, reads=("question",))
            )  # fmt: skip
            if speak:
                sounds["cascade_wav"] = "cascade_speech_heard"
                found.append(
                    Pass("judge-cascade", judge.key(), lambda: _heard(
                        judge, {"cascade_wav": "cascade_speech_heard"}, out, device),
                        reads=("cascade_answer", "cascade_seconds"))
                )  # fmt: skip
    made = ("answer", "reply_seconds", "cascade_answer", "cascade_seconds")
    if second is not None and sounds:
        again = {path: f"{field}_2" for path, field in sounds.items()}
        found.append(
            Pass("judge-2", second.key(), lambda: _heard(second, again, out, device), reads=made)
        )
    if rate is not None and sounds:
        found.append(Pass("sound", rate.key(), lambda: rate.open(out, list(sounds)), reads=made))
    if llm_judge is not None:
        asked = [*columns, *(CASCADE[c] for c in columns if cascade is not None and c in CASCADE)]
        fields = {name: COLUMNS[name] for name in asked}
        found.append(
            Pass("llm-judge", llm_judge.key() | fields, lambda: _graded(llm_judge, fields), batch=8,
                 reads=("question", "answers", *fields.values()))
        )  # fmt: skip
    return found


def _typed(talker: Talker | None) -> Any:
    assert talker is not None

    def work(rows: Sequence[Row]) -> list[Row]:
        alone = [row for row in rows if row["question"] and not row.get("earlier_audio")]
        answers = talker.answer_typed([row["question"] for row in alone], BATCH)
        by_id = {row["id"]: answer for row, answer in zip(alone, answers, strict=True)}
        return [
            {"text_answer": by_id[row["id"]].text, "text_finished": by_id[row["id"]].finished}
            if row["id"] in by_id
            else {}
            for row in rows
        ]

    return work


def _spoken(talker: Talker | None, out: Path, speak: bool) -> Any:
    assert talker is not None
    needed = ("speech_decoder", "codec") if speak else ()
    talker.model.require("speech_encoder", "adapter", *needed)

    def one(row: Row) -> Row:
        earlier = [audio.read(path, EAR_RATE) for path in row.get("earlier_audio", ())]
        reply = talker.ask(audio.read(row["question_audio"], EAR_RATE), speak, earlier)
        fields: Row = {
            "answer": reply.text,
            "answer_finished": reply.finished,
            "ended_by": reply.ended_by,
        }
        if talker.model.adapter.requires_ctc:  # else its ears tell no words
            fields["model_heard"] = reply.heard
        if speak:
            fields |= {"reply_wav": "", "reply_seconds": round(len(reply.wave) / reply.rate, 3)}
            fields |= {"speech_endless": reply.endless, "first_audio_ms": reply.first_audio_ms}
            fields |= {"work_seconds": round(reply.work_seconds, 3), "legs": dict(reply.legs)}
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


def _cascaded(talker: Talker | None, spec: CascadeSpec, out: Path, speak: bool, device: str) -> Any:
    assert talker is not None
    cascade = Cascade(talker, spec, device)

    def one(row: Row) -> Row:
        if row.get("earlier_audio"):
            return {}  # it answers one question
        reply = cascade.ask(audio.read(row["question_audio"], EAR_RATE), speak)
        fields: Row = {"cascade_heard": reply.heard, "cascade_answer": reply.text,
                       "cascade_finished": reply.finished}  # fmt: skip
        if speak:
            seconds = round(len(reply.wave) / reply.rate, 3)
            fields |= {"cascade_wav": "", "cascade_seconds": seconds}
            fields |= {"cascade_first_audio_ms": reply.first_audio_ms}
            fields["cascade_work_seconds"] = round(reply.work_seconds, 3)
            if len(reply.wave):
                fields["cascade_wav"] = f"replies/cascade/{file_name(row['id'])}.flac"
                audio.write(out / fields["cascade_wav"], reply.wave, reply.rate)
        return fields

    return lambda rows: [one(row) for row in rows]


def _heard(judge: JudgeSpec, sounds: Mapping[str, str], out: Path, device: str) -> Any:
    """Work that adds what a judge hears in sounds of a row: field of the path -> its words'."""
    ears = judge.open(device)

    def one(row: Row) -> Row:
        fields = {}
        for field, heard in sounds.items():
            path = row.get(field)
            wave = audio.read(out / path, EAR_RATE, 3600.0, 0.0) if path else None
            fields[heard] = "" if wave is None else ears.transcribe(wave)
        return fields

    return lambda rows: [one(row) for row in rows]


def _graded(judge: LLMJudge, fields: Mapping[str, str]) -> Any:
    def work(rows: Sequence[Row]) -> list[Row]:
        places = [
            (row["id"], name)
            for row in rows
            for name, field in fields.items()
            if field in row and row["answers"]
        ]
        by_id = {row["id"]: row for row in rows}
        asked = [
            (by_id[i]["question"], by_id[i]["answers"], by_id[i][fields[n]]) for i, n in places
        ]
        grades = dict(zip(places, judge.grade(asked), strict=True))
        return [
            {f"grade_{n}": grades[row["id"], n] for n in fields if (row["id"], n) in grades}
            for row in rows
        ]

    return work


def evaluation(
    name: str, steps: Sequence[Pass], about: Mapping[str, Any], language: str = "en"
) -> Evaluation:
    """The evaluation of a set."""
    return Evaluation(name, steps, lambda row: score(row, language), about)
