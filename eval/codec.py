"""What the codec's global tokens carry: the voice, and not the words.

Every recording is spoken again by the codec, once with its own global tokens and once with those of
a recording of another speaker. A judge's error rate says whether the words stay; a classifier that
knows the voices from the recordings, and the pitch, say whose voice it is.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.harness import Evaluation, Pass, Row, Score
from eval.judges import JudgeSpec
from eval.metrics import voice
from eval.metrics.wer import char_errors, short_language, word_errors
from eval.spoken_qa import file_name
from eval.tts import CODEC, EAR_RATE, ORIGINAL, judged, original, rated, waves
from fo_core.data.manifest import Item
from fo_core.errors import DataError

if TYPE_CHECKING:
    from eval.systems.sound import Rating

EXCHANGED = "exchanged"
APART = 0.1  # log Hz: voices closer than that tell nothing by their pitch


def as_rows(
    items: Sequence[Item], limit: int | None = None, seed: int = 0
) -> tuple[list[Row], dict[str, str]]:
    """Rows to measure, each with a recording of another speaker that lends its voice.

    Raises:
        DataError: There are not two recordings of each of two speakers.
    """
    left = {item.id: "no text" for item in items if not item.text.strip()}
    left |= {item.id: "no speaker" for item in items if not item.speaker}
    usable = [item for item in items if item.id not in left]
    counts = {name: sum(i.speaker == name for i in usable) for name in {i.speaker for i in usable}}
    left |= {i.id: "its speaker's only recording" for i in usable if counts[i.speaker] < 2}
    usable = [item for item in usable if item.id not in left][:limit]
    if len({item.speaker for item in usable}) < 2:
        raise DataError(
            f"voices of {len({i.speaker for i in usable})} speaker(s): nothing to exchange",
            possible="two speakers or more, with two recordings of each",
            do="name the speakers in the manifest (supervisions: speaker)",
        )
    draw, rows = random.Random(seed), []
    for item in usable:
        lender = draw.choice([other for other in usable if other.speaker != item.speaker])
        rows.append(
            {
                "id": item.id,
                "text": item.text,
                "language": short_language(item.language),
                "audio": item.audio,
                "start": item.start,
                "seconds": item.duration,
                "channel": item.channel,
                "speaker": item.speaker,
                "lender": lender.id,
            }
        )
    return rows, left


def passes(
    folder: str,
    model: Mapping[str, Any],
    rows: Sequence[Row],
    judge: JudgeSpec,
    out: Path,
    device: str = "cpu",
    rate: Rating | None = None,
) -> list[Pass]:
    """The work of a run.

    Args:
        folder: The model.
        model: What its rows depend on.
        rows: All of them: they lend each other their voices.
        judge: Who hears the speech.
        out: Results folder; gets ``speech/``.
        device: Where the codec and the judge run.
        rate: How good it sounds; its speaker similarity is to the recording.
    """
    found = [
        Pass("speak", model, lambda: _speaking(folder, rows, out, device), model=True),
        Pass("judge", judge.key(), lambda: judged(judge, out, device)),
        Pass("voice", {"version": 1}, lambda: _recognised(rows, out)),
    ]
    if rate is not None:
        found.append(Pass("sound", rate.key(), lambda: rated(out, rate)))
    return found


def _speaking(folder: str, rows: Sequence[Row], out: Path, device: str) -> Any:
    import torch

    from fo_core.io import audio
    from fo_core.models.freeze_omni import load_codec

    codec, by_id = load_codec(folder, device), {row["id"]: row for row in rows}

    @functools.cache  # a recording is measured itself and lends its voice: some hundred numbers
    def encoded(name: str) -> Any:
        wave = torch.from_numpy(original(by_id[name], codec.sample_rate))[None].to(device)
        return codec.encode(wave)

    def one(row: Row) -> Row:
        (tokens, own), (_, lent) = encoded(row["id"]), encoded(row["lender"])
        place = f"speech/{file_name(row['id'])}"
        for name, voice_tokens in ((CODEC, own), (EXCHANGED, lent)):
            wave = codec.decode(tokens, voice_tokens)[0].float().cpu().numpy()
            audio.write(out / f"{place}/{name}.flac", wave, codec.sample_rate)
        file = {"file": f"{place}/{EXCHANGED}.flac"}
        return {"spoken": {EXCHANGED: file}, "codec_file": f"{place}/{CODEC}.flac"}

    return lambda rows: [one(row) for row in rows]


def _recognised(rows: Sequence[Row], out: Path) -> Any:
    known = {row["id"]: voice.features(original(row, EAR_RATE)) for row in rows}
    speakers = {row["id"]: row["speaker"] for row in rows}

    def one(row: Row) -> Row:
        others = [name for name in known if name not in (row["id"], row["lender"])]
        voices = voice.Voices(np.stack([known[o] for o in others]), [speakers[o] for o in others])
        heard = {name: w for name, w in waves(row, out).items() if w is not None}
        return {
            "voice": {name: voices.nearest(voice.features(w)) for name, w in heard.items()},
            "pitch": {name: round(voice.pitch(w), 1) for name, w in heard.items()},
            "lent": {"voice": speakers[row["lender"]], "pitch": _pitch(known[row["lender"]])},
        }

    return lambda rows: [one(row) for row in rows]


def _pitch(features: np.ndarray) -> float:
    return round(float(np.exp(features[-2]) * features[-1]), 1)


def score(row: Row) -> dict[str, Score]:
    """``NAME/measure`` of the original, the codec, and the codec with exchanged global tokens."""
    found: dict[str, Score] = {}
    text, language, lent = row["text"], row["language"], row["lent"]
    for name in (ORIGINAL, CODEC, EXCHANGED):
        by_word, by_char = (
            f(text, row["heard"][name], language) for f in (word_errors, char_errors)
        )
        found[f"{name}/wer"] = (by_word.errors, by_word.words)
        found[f"{name}/cer"] = (by_char.errors, by_char.words)
        found[f"{name}/own_voice"] = (float(row["voice"][name] == row["speaker"]), 1.0)
        found[f"{name}/lent_voice"] = (float(row["voice"][name] == lent["voice"]), 1.0)
        pitches = [row["pitch"][ORIGINAL], row["pitch"][name], lent["pitch"]]
        if all(pitches):
            own, now, other = np.log(pitches)
            if abs(other - own) > APART:
                way = float((now - own) * np.sign(other - own))
                found[f"{name}/pitch_way"] = (way, float(abs(other - own)))
        for measure, value in row.get("mos", {}).get(name, {}).items():
            found[f"{name}/{measure}"] = (value, 1.0)
    return found


def evaluation(steps: Sequence[Pass], about: Mapping[str, Any]) -> Evaluation:
    """The evaluation of the codec."""
    return Evaluation("codec", steps, score, about)
