"""Spoken question answering: every link of the chain, measured on the same held-out questions.

A question is heard, repeated, answered and spoken once; what came back is kept as one JSON line, so
a stopped run goes on where it was, and :func:`overview` can score the lines again without a model.
"""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eval.judges import Judge
from eval.metrics import states
from eval.metrics.agreement import agreement
from eval.metrics.contains import accuracy
from eval.metrics.wer import total, word_errors
from fo_core.data.manifest import Item
from fo_core.io import audio
from fo_core.io.files import read_jsonl, write_json, write_jsonl

Progress = Callable[[str, int, int], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A spoken held-out item; one without the LLM's own answer (a noise) only tests the states."""

    item: Item  # the user's turn: text, recording, answer, right answers, states
    original: Item | None = None  # the answer voice speaking ``item.answer``


def questions(user: Sequence[Item], assistant: Sequence[Item]) -> list[Question]:
    """Pair every user turn with the recording of its answer, where there is one."""
    spoken = {item.text: item for item in assistant}
    return [Question(item, spoken.get(item.answer)) for item in user]


@dataclass(frozen=True)
class Spoken:
    """What the model gave back for one question."""

    text: str
    wave: np.ndarray  # float32 [S] at 24 kHz
    first_audio_ms: float | None  # from the end of the question to the first sound
    rtf: float | None  # seconds of work for the reply per second of it
    ended_by: str = ""  # what ended the question: the state head, or the end of the wave


class Probe(Protocol):
    """A model, link by link. Waves in are float32 [S] at 16 kHz."""

    def hear(self, wave: np.ndarray) -> str: ...  # the streaming encoder's CTC, greedy
    def repeat(self, wave: np.ndarray) -> str: ...  # the LLM's transcript through the adapter
    def states(self, wave: np.ndarray, chunks: int) -> list[int]: ...  # one per 160 ms
    def answer(self, wave: np.ndarray) -> Spoken: ...
    def codec(self, wave: np.ndarray) -> np.ndarray: ...  # there and back, 24 kHz [S]


CODEC_RATE = 24000
EAR_RATE = 16000


def measure(question: Question, probe: Probe, judge: Judge, replies: Path) -> Row:
    """Ask one question and keep everything that the scores need.

    Args:
        question: What to ask.
        probe: The model.
        judge: Who listens to the reply.
        replies: Folder for the spoken replies.
    """
    item, original = question.item, question.original
    wave = item.load_audio(EAR_RATE)
    row: Row = {"id": item.id, "kind": item.kind, "text": item.text, "typed": item.answer}
    row |= {"right": list(item.answers), "question_wav": item.audio}
    row["question_part"] = {
        "start": item.start, "duration": item.seconds or None, "channel": item.channel
    }  # fmt: skip
    if item.states:
        guessed = probe.states(wave, len(item.states))
        row["confusion"] = states.confusion(item.states, guessed)
    if not item.answer:
        return row
    row |= {"heard": probe.hear(wave), "repeated": probe.repeat(wave)}
    spoken = probe.answer(wave)
    row |= {"answer": spoken.text, "first_audio_ms": spoken.first_audio_ms, "rtf": spoken.rtf}
    row |= {"ended_by": spoken.ended_by, "judge_reply": "", "reply_wav": None}
    if len(spoken.wave):
        path = replies / (re.sub(r"[^\w.-]+", "_", item.id) + ".flac")
        audio.write(path, spoken.wave, CODEC_RATE)
        row["reply_wav"] = str(path)
        row["judge_reply"] = judge.transcribe(audio.resample(spoken.wave, CODEC_RATE, EAR_RATE))
    if original is not None:
        row["judge_original"] = judge.transcribe(original.load_audio(EAR_RATE))
        coded = probe.codec(original.load_audio(CODEC_RATE))
        coded = audio.resample(coded, CODEC_RATE, EAR_RATE)
        row["judge_codec"] = judge.transcribe(coded)
    return row


def evaluate(
    asked: Sequence[Question],
    open_probe: Callable[[], Probe],
    open_judge: Callable[[], Judge],
    out_dir: str | Path,
    fingerprint: str,
    workers: int = 1,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, Any]:
    """Measure every question that is not measured yet, then score all of them.

    Args:
        asked: The held-out set, see :func:`questions`.
        open_probe: Opens the model; picklable where ``workers`` is more than 1.
        open_judge: Opens the judge; picklable likewise.
        out_dir: Gets ``items.jsonl``, ``overview.json`` and ``replies/``.
        fingerprint: Of the model and its settings: lines of another one are not used.
        workers: Processes side by side, each with one thread, its own model and judge; 1 works in
            this process. Timings of several are those of a busy machine.
        progress: Called with ("questions", done, all).

    Returns:
        The scores, see :func:`overview`.
    """
    out = Path(out_dir)
    journal = out / "items.jsonl"
    order = {question.item.id: place for place, question in enumerate(asked)}
    rows: dict[str, Row] = {}
    if journal.is_file():
        for row in read_jsonl(journal, whole=False):
            if row.get("fingerprint") == fingerprint and row.get("id") in order:
                rows[row["id"]] = row
    missing = [question for question in asked if question.item.id not in rows]
    write_jsonl(journal, list(rows.values()))  # drops what is stale or cut short
    progress("questions", len(rows), len(asked))
    if missing:
        jobs = _measured(missing, open_probe, open_judge, out / "replies", workers)
        with journal.open("a", encoding="utf-8") as file:
            for row in jobs:
                row["fingerprint"] = fingerprint
                rows[row["id"]] = row
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                progress("questions", len(rows), len(asked))
    ordered = sorted(rows.values(), key=lambda row: order[row["id"]])
    write_jsonl(journal, ordered)
    scores = overview(ordered)
    write_json(out / "overview.json", scores)
    return scores


def overview(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Score measured lines; a value that no line allows is None.

    Returns:
        ``items``, ``input1_wer``, ``input2_wer``, ``answer_agreement``, ``text_accuracy`` (typed
        question), ``answer_accuracy`` (spoken question, text answer), ``speech_accuracy`` (spoken
        question, spoken answer), ``wer_original``, ``wer_codec``, ``wer_reply``, ``mute_replies``,
        ``state_f1`` (each state by name, and ``macro``), ``first_audio_ms`` (median),
        ``first_audio_ms_p90``, ``rtf`` (median).
    """
    rows = list(rows)
    asked = [row for row in rows if row["typed"]]
    right = [row for row in asked if row["right"]]
    found: dict[str, Any] = {
        "items": len(asked),
        "input1_wer": _wer(asked, "text", "heard"),
        "input2_wer": _wer(asked, "text", "repeated"),
        "answer_agreement": agreement([r["answer"] for r in asked], [r["typed"] for r in asked])
        if asked
        else None,
    }
    heard = {
        "text_accuracy": "typed",
        "answer_accuracy": "answer",
        "speech_accuracy": "judge_reply",
    }
    for name, key in heard.items():
        replies = [row[key] for row in right]
        found[name] = accuracy(replies, [row["right"] for row in right]) if right else None
    original = [row for row in asked if "judge_original" in row]
    found["wer_original"] = _wer(original, "typed", "judge_original")
    found["wer_codec"] = _wer(original, "typed", "judge_codec")
    found["wer_reply"] = _wer([row for row in asked if row["answer"]], "answer", "judge_reply")
    found["mute_replies"] = sum(row["reply_wav"] is None for row in asked)
    found["state_f1"] = _states([row["confusion"] for row in rows if "confusion" in row])
    waits = [row["first_audio_ms"] for row in asked if row["first_audio_ms"] is not None]
    found["first_audio_ms"] = float(np.median(waits)) if waits else None
    found["first_audio_ms_p90"] = float(np.percentile(waits, 90)) if waits else None
    factors = [row["rtf"] for row in asked if row["rtf"] is not None]
    found["rtf"] = float(np.median(factors)) if factors else None
    return found


def _wer(rows: Sequence[Mapping[str, Any]], reference: str, hypothesis: str) -> float | None:
    if not rows:
        return None
    return total([word_errors(row[reference], row[hypothesis]) for row in rows]).rate


def _states(counts: Sequence[list[list[int]]]) -> dict[str, Any]:
    if not counts:
        return {}
    summed = counts[0]
    for more in counts[1:]:
        summed = states.add(summed, more)
    each = dict(zip(states.NAMES, states.scores(summed), strict=True))
    named: dict[str, Any] = {
        name: {"precision": s.precision, "recall": s.recall, "f1": s.f1, "support": s.support}
        for name, s in each.items()
    }
    return named | {"macro": states.macro_f1(summed), "confusion": summed}


_here: dict[str, Any] = {}  # a worker's own model and judge


def _open(open_probe: Callable[[], Probe], open_judge: Callable[[], Judge], threads: int) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)
    _here["probe"], _here["judge"] = open_probe(), open_judge()


def _one(job: tuple[Question, Path]) -> Row:
    return measure(job[0], _here["probe"], _here["judge"], job[1])


def _measured(
    asked: Sequence[Question],
    open_probe: Callable[[], Probe],
    open_judge: Callable[[], Judge],
    replies: Path,
    workers: int,
) -> Iterator[Row]:
    if workers <= 1:
        probe, judge = open_probe(), open_judge()
        for question in asked:
            yield measure(question, probe, judge, replies)
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads
    with ProcessPoolExecutor(
        min(workers, len(asked)), context, _open, (open_probe, open_judge, 1)
    ) as pool:
        try:
            yield from pool.map(_one, [(question, replies) for question in asked])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
