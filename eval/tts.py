"""Table 2: how well our speech says its text, by top-k and by parts of the speech decoder.

Text and hidden states of the LLM go in; a judge hears what comes out. Its error on the original
recordings, and on these through the codec, stands beside: no voice of ours can do better. Speech
that never ends, ends too early, or says a phrase over and over is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.harness import Evaluation, Pass, Row, Score
from eval.judges import JudgeSpec
from eval.metrics.speaking import expected_seconds, loops, stops_early, words
from eval.metrics.wer import char_errors, short_language, word_errors
from eval.spoken_qa import file_name
from fo_core.data.manifest import Item
from fo_core.engines import speaker_similarity
from fo_core.io import audio

if TYPE_CHECKING:
    from eval.systems.sound import Rating

EAR_RATE = 16000
ORIGINAL, CODEC = "original", "codec"  # what stands beside our speech
SIMILARITY = "similarity"


def as_rows(items: Sequence[Item], limit: int | None = None) -> tuple[list[Row], dict[str, str]]:
    """Rows to measure: answers with the dialogue before them; and why others are skipped."""
    rows: list[Row] = []
    left = {}
    for item in items:
        if not item.text.strip():
            left[item.id] = "no text"
        elif _lacks_question(item):
            left[item.id] = "no question before the answer (messages)"
        else:
            rows.append(
                {
                    "id": item.id,
                    "text": item.text,
                    "messages": [dict(message) for message in item.messages],
                    "language": short_language(item.language),
                    "audio": item.audio,
                    "start": item.start,
                    "seconds": item.duration,
                    "channel": item.channel,
                }
            )
    return rows[:limit], left


def _lacks_question(item: Item) -> bool:
    """Whether an answer comes without its question; a corpus's sentence answers nothing."""
    if not item.messages:
        return item.role == "assistant"
    return item.messages[-1].get("role") != "user"


def passes(
    folder: str,
    model: Mapping[str, Any],
    top_k: Sequence[int],
    variants: Sequence[str],
    judge: JudgeSpec,
    out: Path,
    seed: int = 0,
    device: str = "cpu",
    rate: Rating | None = None,
) -> list[Pass]:
    """The work of a run.

    Args:
        folder: The model.
        model: What its rows depend on.
        top_k: Values to try.
        variants: Of :data:`eval.systems.reader.VARIANTS`.
        judge: Who hears the speech.
        out: Results folder; gets ``speech/``.
        seed: Of the speech tokens.
        device: Where the model and the judge run.
        rate: How good the speech sounds; its speaker similarity is to the recording.
    """
    key = dict(model) | {"top_k": list(top_k), "variants": list(variants)}

    def speaking() -> Any:
        return _speaking(folder, top_k, variants, out, seed, device)

    found = [
        Pass("speak", key, speaking, model=True),
        Pass("judge", judge.key(), lambda: judged(judge, out, device)),
    ]
    if rate is not None:
        found.append(Pass("sound", rate.key(), lambda: rated(out, rate)))
    return found


def _speaking(
    folder: str, top_k: Sequence[int], variants: Sequence[str], out: Path, seed: int, device: str
) -> Any:
    from eval.systems.reader import VARIANTS, Reader

    reader = Reader(folder, device, seed)

    def one(row: Row) -> Row:
        spoken: dict[str, Row] = {}
        place = f"speech/{file_name(row['id'])}"
        recording = original(row, reader.rate)
        parts = reader.written(row["text"], row["messages"])
        coded = reader.codec(recording)
        audio.write(out / f"{place}/codec.flac", coded, reader.rate)
        for name in variants:
            for k in top_k:
                speech = reader.speak(parts, row["id"], k, VARIANTS[name])
                seconds = len(speech.wave) / reader.rate
                path = f"{place}/{name}-k{k}.flac" if len(speech.wave) else ""
                if path:
                    audio.write(out / path, speech.wave, reader.rate)
                spoken[f"{name}/{k}"] = {
                    "file": path,
                    "seconds": round(seconds, 3),
                    "endless": speech.endless,
                }
        return {"spoken": spoken, "codec_file": f"{place}/codec.flac"}

    return lambda rows: [one(row) for row in rows]


def original(row: Row, rate: int) -> Any:
    """A row's recording, float32 [S] at a rate."""
    return audio.read(
        row["audio"],
        rate,
        start=row["start"],
        duration=row["seconds"],
        channel=row.get("channel"),
    )


def waves(row: Row, out: Path) -> dict[str, Any]:
    """Everything to listen to, float32 [S] at 16 kHz by name; None where nothing was spoken."""
    files = {CODEC: row["codec_file"]} | {k: v["file"] for k, v in row["spoken"].items()}
    found = {ORIGINAL: original(row, EAR_RATE)}
    for name, path in files.items():
        found[name] = audio.read(out / path, EAR_RATE, 3600.0, 0.0) if path else None
    return found


def judged(judge: JudgeSpec, out: Path, device: str) -> Any:
    """Work that adds ``heard``, the judge's words of everything that a row lets be heard."""
    ears = judge.open(device)

    def one(row: Row) -> Row:
        heard = waves(row, out).items()
        return {"heard": {k: "" if w is None else ears.transcribe(w) for k, w in heard}}

    return lambda rows: [one(row) for row in rows]


def rated(out: Path, rate: Rating) -> Any:
    """Work that adds ``mos``: name of a sound -> its scores."""
    scorers = {name: rate.scorer(name) for name in rate.measured if name != SIMILARITY}

    def one(row: Row) -> Row:
        found: dict[str, Row] = {}
        heard = {k: w for k, w in waves(row, out).items() if w is not None and len(w)}
        own = speaker_similarity.embedding(heard[ORIGINAL]) if SIMILARITY in rate.measured else None
        for name, wave in heard.items():
            scores = {k: score(wave) for k, score in scorers.items()}
            if own is not None and name != ORIGINAL:
                scores[SIMILARITY] = float(speaker_similarity.embedding(wave) @ own)
            found[name] = {k: round(v, 4) for k, v in scores.items() if v is not None}
        return {"mos": found}

    return lambda rows: [one(row) for row in rows]


def score(row: Row) -> dict[str, Score]:
    """``NAME/measure`` for the original, the codec and every ``VARIANT/TOP_K``."""
    found: dict[str, Score] = {}
    text, language = row["text"], row["language"]
    long = row["seconds"] or expected_seconds(text, language)
    for name, heard in row["heard"].items():
        by_word, by_char = (f(text, heard, language) for f in (word_errors, char_errors))
        found[f"{name}/wer"] = (by_word.errors, by_word.words)
        found[f"{name}/cer"] = (by_char.errors, by_char.words)
        spoken = row["spoken"].get(name)
        seconds = spoken["seconds"] if spoken else row["seconds"]
        if seconds and name != CODEC:
            found[f"{name}/pace"] = (words(text, language), seconds)
        if spoken:
            found[f"{name}/endless"] = (float(spoken["endless"]), 1)
            found[f"{name}/early_stop"] = (float(stops_early(seconds, long)), 1)
            found[f"{name}/loop"] = (float(loops(text, heard, language)), 1)
    for name, rated in row.get("mos", {}).items():
        found |= {f"{name}/{measure}": (value, 1.0) for measure, value in rated.items()}
    return found


def evaluation(steps: Sequence[Pass], about: Mapping[str, Any]) -> Evaluation:
    """The evaluation of speech."""
    return Evaluation("tts", steps, score, about)
