"""The demo's data from nothing: sample -> regenerate -> synthesize -> label-states.

Each step leaves its files and a marker with the config that made them; a run finds what is done
and goes on. ``encode`` comes later, when there is a trained codec (encode_speech.py).

Files of a run::

    plan.jsonl                      every recording of every split, before anything is made
    answers.jsonl                   journal of the LLM; rejects.*.jsonl: what was dropped and why
    speech/                         cache of synthesised sentences
    user/SPLIT.jsonl, user/SPLIT/   composed recordings (16 kHz) with states and answers
    assistant/SPLIT.jsonl           the spoken answers (24 kHz), one an answer sentence
    assistant/read.jsonl            the training questions read by the answer voice, if asked for
    report.json                     counts, shares and seconds of every step
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep import label_states, noises, questions, regenerate, synthesize
from data_prep.normalize import speakable
from data_prep.questions import (
    NO_ANSWER,
    SPLITS,
    USER_VOICES,
    QuestionsConfig,
    Recording,
    VoiceConfig,
)
from data_prep.regenerate import Answered, Answerer, Dialogue, RegenerateConfig
from data_prep.synthesize import Progress, Request, SpeechConfig, quiet
from fo_core import audio
from fo_core.config import config, to_dict
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.files import read_json, read_jsonl, write_json, write_jsonl

USER_RATE, ASSISTANT_RATE = 16000, 24000  # Hz
STEPS = ("sample", "regenerate", "synthesize", "label-states")


@config
class PrepareConfig:
    """All of the data preparation of the demo."""

    questions: QuestionsConfig = QuestionsConfig()
    llm: RegenerateConfig = RegenerateConfig()
    user_voices: tuple[VoiceConfig, ...] = USER_VOICES  # drawn for each recording
    assistant: VoiceConfig = VoiceConfig()  # speaks every answer, at its first speed
    speech: SpeechConfig = SpeechConfig()
    states: label_states.StatesConfig = label_states.StatesConfig()
    read_questions: bool = False  # the answer voice also reads the training questions aloud
    num_workers: int = 2  # processes of the synthesis


def prepare(
    cfg: PrepareConfig,
    out: str | Path,
    progress: Progress = quiet,
    engine: Answerer | None = None,
    steps: Sequence[str] = STEPS,
) -> dict[str, Any]:
    """Run the steps that are not done yet.

    Args:
        cfg: What to make.
        out: Folder of the run.
        progress: Called with (step, done, total).
        engine: A loaded LLM; None loads the config's when a new answer is needed.
        steps: Names out of ``STEPS``, in their order.

    Returns:
        The report: {"steps": {name: {"seconds", counts ...}}}, also in ``report.json``.

    Raises:
        DataError: An unknown step, or a step before one of these is not done.
        EngineError: An engine is missing.
    """
    unknown = [s for s in steps if s not in STEPS]
    if unknown:
        raise DataError(f"unknown step {unknown[0]!r}", possible=", ".join(STEPS))
    out = Path(out).resolve()
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "sample": partial(_sample, cfg, out),
        "regenerate": partial(_regenerate, cfg, out, progress, engine),
        "synthesize": partial(_synthesize, cfg, out, progress),
        "label-states": partial(_label, cfg, out, progress),
    }
    done: dict[str, Any] = {}
    for step in STEPS:
        if step not in steps:
            continue
        marker = out / ".done" / f"{step}.json"
        made_by = _made_by(cfg, step)
        if marker.exists() and read_json(marker).get("made_by") == made_by:
            done[step] = read_json(marker)["report"]
            progress(step, 1, 1)
            continue
        started = time.perf_counter()
        counts = work[step]()
        counts = {"seconds": round(time.perf_counter() - started, 2), **counts}
        write_json(marker, {"made_by": made_by, "report": counts})
        done[step] = counts
        progress(step, 1, 1)
    report = {"steps": done, "config": to_dict(cfg)}
    write_json(out / "report.json", report)
    return report


def _made_by(cfg: PrepareConfig, step: str) -> str:
    """Hash of the parts of the config that a step's files depend on."""
    parts: list[Any] = [cfg.questions, cfg.user_voices]
    if step != "sample":
        parts.append(cfg.llm)
    if step in ("synthesize", "label-states"):
        parts += [cfg.assistant, cfg.speech, cfg.read_questions]
    if step == "label-states":
        parts.append(cfg.states)
    said = [_plain(part) for part in parts]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _plain(part: Any) -> Any:
    """JSON data of a setting."""
    if isinstance(part, tuple):
        return [to_dict(each) for each in part]
    return part if isinstance(part, bool) else to_dict(part)


def read_plan(out: str | Path) -> list[Recording]:
    """The recordings that ``sample`` has planned."""
    return [Recording.from_dict(row) for row in read_jsonl(Path(out) / "plan.jsonl")]


def _sample(cfg: PrepareConfig, out: Path) -> dict[str, Any]:
    plan = questions.plan(cfg.questions, cfg.user_voices)
    write_jsonl(out / "plan.jsonl", [r.to_dict() for r in plan])
    asked = [r for r in plan if r.kind == "question"]
    return {
        "recordings": {s: sum(r.split == s for r in plan) for s in SPLITS},
        "questions": {s: sum(r.split == s for r in asked) for s in SPLITS},
        "sentences": len({r.text for r in asked}),
        "facts": len({r.fact for r in asked}),
        "words": len(questions.vocabulary(plan)),
    }


def _answers(cfg: PrepareConfig, out: Path) -> dict[str, Answered]:
    rows = read_jsonl(out / "dialogues.jsonl")
    return {row["text"]: Answered(**{**row, "messages": tuple(row["messages"])}) for row in rows}


def _regenerate(
    cfg: PrepareConfig, out: Path, progress: Progress, engine: Answerer | None
) -> dict[str, Any]:
    asked = list(dict.fromkeys(r.text for r in read_plan(out) if r.kind == "question"))
    turns = [Dialogue(f"d{i:05d}", (text,)) for i, text in enumerate(asked)]
    answered, rejects = regenerate.regenerate(
        turns, cfg.llm, out / "answers.jsonl", engine, progress
    )
    write_jsonl(out / "dialogues.jsonl", [{**a.__dict__} for a in answered])
    write_jsonl(out / "rejects.regenerate.jsonl", rejects)
    if not answered:
        raise DataError("the LLM gave no answer that can be spoken", do="see rejects.*.jsonl")
    return {
        "asked": len(asked),
        "answered": len(answered),
        "answer_sentences": len({a.answer for a in answered}),
        "dropped": dict(Counter(r["reason"] for r in rejects)),
    }


def _leaks(plan: Sequence[Recording], answers: dict[str, Answered]) -> set[str]:
    """Ids of set (b)'s questions whose answer sentence is also an answer of another split."""

    def spoken(recording: Recording) -> str:
        return speakable(answers[recording.text].answer).lower()

    asked = [r for r in plan if r.kind == "question" and r.text in answers]
    known = {spoken(r) for r in asked if r.split in ("train", "val")}
    return {r.id for r in asked if r.split == "heldout_b" and spoken(r) in known}


def _user_request(recording: Recording) -> Request:
    return Request(recording.text, recording.engine, recording.voice, recording.speed, USER_RATE)


def _assistant_request(cfg: PrepareConfig, answer: str) -> Request:
    voice = cfg.assistant
    return Request(speakable(answer), voice.engine, voice.voice, voice.speeds[0], ASSISTANT_RATE)


def _usable(cfg: PrepareConfig, out: Path) -> tuple[list[Recording], dict[str, Answered], int]:
    """Recordings with an answer where they need one, the answers, and how many leaked."""
    plan, answers = read_plan(out), _answers(cfg, out)
    leaked = _leaks(plan, answers)
    kept = [r for r in plan if r.id not in leaked and (r.kind != "question" or r.text in answers)]
    return kept, answers, len(leaked)


def _synthesize(cfg: PrepareConfig, out: Path, progress: Progress) -> dict[str, Any]:
    plan, answers, leaked = _usable(cfg, out)
    user = [_user_request(r) for r in plan if r.kind != "noise"]
    texts = dict.fromkeys(answers[r.text].answer for r in plan if r.kind == "question")
    texts |= dict.fromkeys(_read_aloud(cfg, plan))
    assistant = [_assistant_request(cfg, text) for text in texts]
    spoken = synthesize.synthesize(
        [*user, *assistant],
        out / "speech",
        cfg.speech,
        cfg.num_workers,
        progress,
        out / "rejects.synthesize.jsonl",
    )
    return {
        "user_sentences": len(set(user)),
        "answer_sentences": len(set(assistant)),
        "made": spoken.made,
        "rejected": len(spoken.rejects),
        "heldout_b_dropped_because_answer_is_in_training": leaked,
    }


def _read_aloud(cfg: PrepareConfig, plan: Sequence[Recording]) -> list[str]:
    """Sentences that the answer voice reads besides the answers.

    A few answer sentences hold each word in one place only; a decoder that has heard the words in
    other sentences too learns to follow the text instead of remembering the sentence.
    """
    asked = (r.text for r in plan if r.kind == "question" and r.split == "train")
    return list(dict.fromkeys(asked)) if cfg.read_questions else []


def _label(cfg: PrepareConfig, out: Path, progress: Progress) -> dict[str, Any]:
    plan, answers, _ = _usable(cfg, out)
    shares: dict[str, Any] = {}
    for split in SPLITS:
        mine = [r for r in plan if r.split == split]
        items: list[Item] = []
        replies: dict[str, Item] = {}
        for number, recording in enumerate(mine):
            item = _record(cfg, out, recording, answers)
            if item is None:
                continue
            items.append(item)
            if recording.kind == "question":
                reply = _reply(cfg, out, recording, item.answer)
                if reply is not None:
                    replies.setdefault(reply.text, reply)
            if number % 50 == 0:
                progress("label-states", number, len(mine))
        if not items:
            continue
        manifest.write(out / "user" / f"{split}.jsonl", items)
        manifest.write(out / "assistant" / f"{split}.jsonl", replies.values())
        hours = sum(item.duration for item in items) / 3600
        shares[split] = {
            **label_states.report((i.kind for i in items), (i.states for i in items)),
            "hours": round(hours, 3),
            "pauses": sum(bool(i.extra.get("pauses")) for i in items),
            "answers": len(replies),
            "answer_hours": round(sum(r.duration for r in replies.values()) / 3600, 3),
        }
    read = [_spoken(cfg, out, f"read-{i:05d}", t) for i, t in enumerate(_read_aloud(cfg, plan))]
    if read:
        manifest.write(out / "assistant" / "read.jsonl", [item for item in read if item])
    return {"splits": shares, "read_aloud": len(read)}


def _record(
    cfg: PrepareConfig, out: Path, recording: Recording, answers: dict[str, Answered]
) -> Item | None:
    """Compose one recording; None where its speech was rejected."""
    path = out / "user" / recording.split / f"{recording.id}.flac"
    if recording.kind == "noise":
        speech = noises.make(recording.text, recording.seed, USER_RATE)
    else:
        file = _user_request(recording).path(out / "speech", cfg.speech)
        if not file.exists():
            return None
        speech = audio.read(file, USER_RATE, min_seconds=0)
    made = label_states.compose(speech, recording.kind, cfg.states, recording.seed)
    audio.write(path, made.wave, USER_RATE)
    extra: dict[str, Any] = {"split": recording.split, "speed": recording.speed}
    if made.pauses:
        extra["pauses"] = [list(p) for p in made.pauses]
    if recording.fact:
        extra["category"] = recording.fact.split("/")[0]
        extra["wording"] = recording.wording
    if recording.kind == "noise":
        extra["noise"] = recording.text
    item = Item(
        id=recording.id,
        audio=str(path),
        rate=USER_RATE,
        num_samples=len(made.wave),
        text="" if recording.kind == "noise" else recording.text,
        speaker=f"{recording.engine}/{recording.voice}" if recording.engine else "noise",
        role="user",
        dialogue=recording.id,
        fact=recording.fact,
        kind=recording.kind,
        answers=recording.answers,
        states=made.states,
        speech_start=round(made.speech_start, 4),
        speech_end=round(made.speech_end, 4),
        extra=extra,
    )
    if recording.kind in (*NO_ANSWER, "incomplete"):
        return item
    answered = answers[recording.text]
    return replace(item, answer=answered.answer, messages=answered.messages)


def _reply(cfg: PrepareConfig, out: Path, recording: Recording, answer: str) -> Item | None:
    """The spoken answer to a recording; None where the voice could not speak it."""
    name = f"{recording.split}-{hashlib.sha256(answer.encode()).hexdigest()[:16]}"
    item = _spoken(cfg, out, name, answer)
    if item is None:
        return None
    return replace(
        item,
        dialogue=recording.id,
        turn=1,
        fact=recording.fact,
        kind="answer",
        answer=answer,
        answers=recording.answers,
        messages=({"role": "user", "content": recording.text},),
        extra={**item.extra, "split": recording.split},
    )


def _spoken(cfg: PrepareConfig, out: Path, name: str, text: str) -> Item | None:
    """A sentence in the answer voice; None where it could not be spoken."""
    request = _assistant_request(cfg, text)
    path = request.path(out / "speech", cfg.speech)
    if not path.exists():
        return None
    return manifest.describe(
        path,
        id=name,
        text=text,
        speaker=f"{request.engine}/{request.voice}",
        role="assistant",
        extra={"spoken": request.text},
    )
