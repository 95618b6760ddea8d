"""Full duplex: who takes the turn, how soon, and how fast the model falls silent.

Full-Duplex-Bench's measures from its folder format, worked out here: a turn is taken if the speech
has more than three words or lasts a second; latency is the first word's start minus the end of the
user's speech, at least 0; a backchannel is a stretch of less than three seconds and at most two
words, and where they are wanted only a longer stretch takes the turn. Its comparison of backchannel
times with people's needs their data and is skipped. Beside it, on manifests with labels: every
dialogue state's precision, recall and F1, and the paper's non-statistical latency, from the end of
speech to the state that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.duplex.recordings import STATES
from eval.duplex.talk import Clock, talk_through
from eval.harness import Evaluation, Pass, Row, Score
from eval.judges import JudgeSpec
from fo_core.io import audio
from fo_core.io.files import write_json
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE
WORDS, SECONDS = 3, 1.0  # more words, or so many seconds, take a turn
NOD_SECONDS, NOD_WORDS = 3.0, 2  # longest backchannel
SILENT = 10 ** (-50 / 20)  # a frame below this peak is silence
OVERLAPS = ("user_backchannel", "talking_to_other", "background_speech")  # go on through these
# s: whoever still talks so long after the overlap has held the floor, where only the sound is known
HOLD = 0.2
ANSWERED = ("respond", "timeout", "silence", "too_long")  # ways in which an answered turn ends
FRAME, GAP = 0.02, 0.3  # s: frames that are looked at; silence that ends a stretch
NAMES = ("continue", "respond", "dismiss")  # dialogue states 0, 1, 2


def passes(
    folder: str | None,
    model: Mapping[str, Any],
    clock: Clock,
    judge: JudgeSpec | None,
    out: Path,
    overrides: Sequence[str] = (),
    device: str = "cpu",
) -> list[Pass]:
    """The work of a run.

    Args:
        folder: The model; None: the recordings' own ``output.wav`` is measured.
        model: What its rows depend on.
        clock: Whether the time of computing counts.
        judge: Who hears the speech, with times of words; None: no recording is played.
        out: Results folder; gets ``talks/TASK/ID/output.wav`` and ``output.json``.
        overrides: Of how the model talks.
        device: Where it runs.
    """
    key = dict(model) | {"clock": clock, "overrides": list(overrides)}

    def talking() -> Any:
        return _talking(folder, clock, out, overrides, device)

    found = [Pass("talk", key, talking, model=True)]
    if judge is not None:
        found.append(Pass("judge", judge.key(), lambda: _judged(judge, out, device)))
    return found


def _talking(
    folder: str | None, clock: Clock, out: Path, overrides: Sequence[str], device: str
) -> Any:
    if folder is None:
        return lambda rows: [{"output_wav": row["given_wav"]} for row in rows]
    from eval.systems.probe import ModelProbe
    from fo_core.dialogue.settings import read_dialogue

    probe = ModelProbe(folder, device)
    dialogue = read_dialogue(folder, overrides)

    def one(row: Row) -> Row:
        if row["kind"] == STATES:
            wave = audio.read(
                row["audio"],
                SAMPLE_RATE,
                start=row["start"],
                duration=row["seconds"],
                channel=row.get("channel"),
            )
            return {"found": probe.states(wave, len(row["labels"]))}
        wave = audio.read(row["input_audio"], SAMPLE_RATE, max_seconds=600.0)
        heard = talk_through(probe.model, dialogue, wave, clock)
        path = f"talks/{row['id']}/output.wav"
        audio.write(out / path, heard.wave, heard.rate)
        made = {"turns": heard.turns, "stops": heard.stops, "yields": heard.yields}
        return {"output_wav": path, "texts": heard.texts, **made}

    return lambda rows: [one(row) for row in rows]


def _judged(judge: JudgeSpec, out: Path, device: str) -> Any:
    ears: Any = judge.open(device)

    def one(row: Row) -> Row:
        if row["kind"] == STATES:
            return {}
        wave = audio.read(out / row["output_wav"], SAMPLE_RATE, 600.0, 0.0)
        spans = stretches(wave, SAMPLE_RATE)
        heard = ears.words(wave) if spans else []
        words = [found for word in heard if (found := in_sound(word, spans))]
        chunks = [{"text": text, "timestamp": [start, end]} for text, start, end in words]
        text = " ".join(word[0] for word in words)
        path = out / "talks" / row["id"] / "output.json"
        write_json(path, {"text": text, "chunks": chunks})
        return {"words": [list(word) for word in words], "speech": [list(s) for s in spans]}

    return lambda rows: [one(row) for row in rows]


def stretches(wave: np.ndarray, rate: int) -> list[tuple[float, float]]:
    """Where a recording is not silent, s; pauses of less than 0.3 s are part of it."""
    size = int(FRAME * rate)
    frames = np.abs(np.pad(wave, (0, -len(wave) % size))).reshape(-1, size).max(1) > SILENT
    found: list[list[float]] = []
    for index in np.flatnonzero(frames):
        start = index * FRAME
        if found and start - found[-1][1] < GAP:
            found[-1][1] = start + FRAME
        else:
            found.append([start, start + FRAME])
    return [(round(start, 3), round(end, 3)) for start, end in found]


def in_sound(
    word: tuple[str, float, float], speech: Sequence[tuple[float, float]]
) -> tuple[str, float, float] | None:
    """A judge's word, not before there is sound; None if it was heard in silence."""
    text, start, end = word
    for begins, ends in speech:
        if ends > start and begins < end:
            return text, max(start, begins), end
    return None


def takes_turn(words: Sequence[Sequence[Any]]) -> bool:
    """Whether these timed words take the turn."""
    if not words:
        return False
    return len(words) > WORDS or words[-1][2] - words[0][1] >= SECONDS


def nods(words: Sequence[Sequence[Any]], speech: Sequence[Sequence[float]]) -> int:
    """How many stretches of speech are backchannels."""
    count = 0
    for start, end in speech:
        inside = [word for word in words if word[1] < end and word[2] > start]
        count += end - start < NOD_SECONDS and len(inside) <= NOD_WORDS
    return count


def evaluation(steps: Sequence[Pass], about: Mapping[str, Any]) -> Evaluation:
    """The evaluation with its scores."""
    return Evaluation("duplex", steps, score, about)


def score(row: Row) -> dict[str, Score]:
    """One item's part of every measure."""
    return _states(row) if row["kind"] == STATES else _talk(row)


def _talk(row: Row) -> dict[str, Score]:
    task, words = row["task"], row["words"]
    if task == "user_interruption":
        words = [word for word in words if word[1] >= row["end"]]
    taken, found = takes_turn(words), dict[str, Score]()
    if task == "backchannel":  # several are no turn, however far apart
        count = nods(words, row["speech"])
        taken = bool(words) and count < len(row["speech"])
        found[f"{task}/per_second"] = (float(count), row["seconds"])
    if task not in OVERLAPS:
        found[f"{task}/take_over"] = (float(taken), 1.0)
    if task in ("smooth_turn_taking", "user_interruption") and taken:
        found[f"{task}/latency"] = (max(0.0, words[0][1] - row["end"]), 1.0)
    if task in OVERLAPS:
        return found | _overlap(row)
    if task == "user_interruption":
        silent = [end for start, end in row["speech"] if start < row["start"] < end]
        if "stops" in row:  # known: a reply that came to its end was not stopped
            silent = _gave_way(row) if silent else []
        if silent:  # the model was talking when the user began
            found[f"{task}/stop_latency"] = (silent[0] - row["start"], 1.0)
    return found


def _gave_way(row: Row) -> list[float]:
    """When the model fell silent for what comes in between, for good or for a while, s."""
    known = [*row["stops"], *(at for at, _ in row.get("yields", ()))]
    return sorted(at for at in known if at > row["start"])


def _overlap(row: Row) -> dict[str, Score]:
    """Somebody speaks while the model does, and the model should go on: does it?"""
    task, start, end = row["task"], row["start"], row["end"]
    talking = [stops for begins, stops in row["speech"] if begins < start < stops]
    found: dict[str, Score] = {f"{task}/talking": (float(bool(talking)), 1.0)}
    if "turns" in row:
        answered = [t for t in row["turns"] if t["how"] in ANSWERED and t["at"] > start]
        found[f"{task}/answered"] = (float(bool(answered)), 1.0)
    if not talking:
        return found
    stopped = talking[0]
    if "stops" in row:  # known: a reply that came to its end was not stopped
        cut = [at for at in row["stops"] if start < at]
        away = [(at, back) for at, back in row.get("yields", ()) if start < at]
        held = not cut and all(back is not None for _, back in away)
        stopped = min([*cut, *(at for at, _ in away)], default=stopped)
        pauses = [back - at for at, back in away if back is not None]
        if held and pauses:
            found[f"{task}/silence"] = (sum(pauses), 1.0)
    else:
        held = stopped > end + HOLD
    found[f"{task}/held"] = (float(held), 1.0)
    if not held:
        found[f"{task}/stop_latency"] = (max(0.0, stopped - start), 1.0)
        again = [begins for begins, _ in row["speech"] if begins >= stopped]
        found[f"{task}/spoke_again"] = (float(bool(again)), 1.0)
        if again:
            found[f"{task}/response_latency"] = (max(0.0, again[0] - end), 1.0)
    return found


def _states(row: Row) -> dict[str, Score]:
    found: dict[str, Score] = {}
    pairs = [(t, p) for t, p in zip(row["labels"], row["found"], strict=True) if t >= 0]
    for state, name in enumerate(NAMES):
        right = float(sum(t == p == state for t, p in pairs))
        said = float(sum(p == state for _, p in pairs))
        true = float(sum(t == state for t, _ in pairs))
        found[f"states/{name}/precision"] = (right, said)
        found[f"states/{name}/recall"] = (right, true)
        found[f"states/{name}/f1"] = (2 * right, said + true)
    if "speech_end" in row:
        late = [c for c, state in enumerate(row["found"]) if state == 1]
        ends = [(c + 1) * CHUNK_SECONDS for c in late]
        after = [end for end in ends if end >= row["speech_end"]]
        found["states/cut_in"] = (float(len(after) < len(ends)), 1.0)
        found["states/undecided"] = (float(not ends), 1.0)
        if after and len(after) == len(ends):
            found["states/decision_latency"] = (after[0] - row["speech_end"], 1.0)
    return found
