"""URO-Bench: 36 sets of spoken dialogues, of one round and of several (MIT).

Published as Honggao/URO-Bench: ``basic/SUBSET/test.jsonl`` and ``pro/SUBSET/test.jsonl`` with
``{"source_wav", "source_text", "target_text"}`` (a text or several), or for several rounds ``{"id",
"dialogue": [{"round", "source_wav", "source_text", "target_text"}]}``; paths from the file on. Its
scorers read, by subset, ``pred_text.jsonl``, ``question_text.jsonl``, ``gt_text.jsonl`` (``{"0000":
text}`` a line) and ``audio/0000.wav``; of several rounds ``output_with_text.jsonl`` and
``ID/chat_ROUND.wav``. Their scores are an LLM's, so nothing is right or wrong here without
``--judge-llm``; the error rate of the speech is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.sets import Question
from eval.source import need, records, strings
from fo_core.io.files import write_jsonl

KIND = "questions"
TITLE = "URO-Bench"
COLUMN = ""
LANGUAGE = "en"
HUB = "Honggao/URO-Bench"
PATTERNS = ("test.jsonl", "*.jsonl")
RECORDED = True
_BASIC = ("AlpacaEval", "CommonEval", "WildchatEval", "StoralEval", "Summary", "TruthfulEval",
          "GaokaoEval", "Gsm8kEval", "MLC", "Repeat")  # fmt: skip
_PRO = ("CodeSwitching-en", "GenEmotion-en", "GenStyle-en", "MLCpro-en", "Safety-en", "SRT-en",
        "UnderEmotion-en", "Multilingual", "ClothoEval-en", "MuChoEval-en", "MtBenchEval-en",
        "SpeakerAware-en")  # fmt: skip
_CHINESE = ("AlpacaEval-zh", "Claude-zh", "LCSTS-zh", "MLC-zh", "OpenbookQA-zh", "Repeat-zh",
            "CodeSwitching-zh", "GenEmotion-zh", "GenStyle-zh", "MLCpro-zh", "Safety-zh", "SRT-zh",
            "UnderEmotion-zh", "SpeakerAware-zh")  # fmt: skip
SUBSETS = dict.fromkeys((*_BASIC, *_PRO, *_CHINESE), "open")


def read(folder: Path, subsets: Sequence[str]) -> list[Question]:
    """The questions of some subsets; a round of a longer talk is a question after the earlier."""
    found: list[Question] = []
    for subset in subsets:
        for path in _files(folder, subset):
            for number, row in enumerate(records(path)):
                if "dialogue" in row:
                    found += _rounds(path, subset, number, row)
                else:
                    about = {"_step": number}
                    found.append(_question(path, subset, f"{number:04d}", number, row, (), about))
    return found


def _files(folder: Path, subset: str) -> list[Path]:
    places = [p for p in sorted(folder.rglob(subset)) if p.is_dir()]
    return [next(iter(sorted(p.glob("*.jsonl")))) for p in places if any(p.glob("*.jsonl"))]


def _rounds(path: Path, subset: str, number: int, row: Mapping[str, Any]) -> list[Question]:
    found: list[Question] = []
    heard: list[str] = []
    ident = str(row.get("id", number))
    for turn in row["dialogue"]:
        about = {"_id": row.get("id", number), "_round": turn["round"]} | {
            k: turn[k] for k in ("source_wav", "source_text", "target_text") if k in turn
        }
        name = f"{ident}-{turn['round']}"
        one = _question(path, subset, name, number, turn, tuple(heard), about)
        found.append(one)
        heard.append(one.audio)
    return found


def _question(
    path: Path,
    subset: str,
    name: str,
    number: int,
    row: Mapping[str, Any],
    earlier: tuple[str, ...],
    about: Mapping[str, Any],
) -> Question:
    place = path.parent / str(need(row, ("source_wav",), path, number + 1))
    text = str(need(row, ("source_text",), path, number + 1))
    target = row.get("target_text", text)
    here = place.is_file() and all(earlier)
    return Question(
        f"{subset}/{name}",
        text.strip(),
        strings(list(target) if isinstance(target, (list, tuple)) else target),
        str(place) if here else "",
        subset,
        "open",
        earlier if here else (),
        {"target": target} | dict(about),
    )


def export(rows: Sequence[Mapping[str, Any]], out: Path, model: str) -> list[Path]:
    """Write each subset's files as its scorers read them, into ``out/SUBSET``."""
    found: list[Path] = []
    for subset in dict.fromkeys(row["category"] for row in rows):
        mine = [r for r in rows if r["category"] == subset and "answer" in r]
        found += _one_round(
            [r for r in mine if "_step" in r["published"]], out / subset, out.parent
        )
        found += _several([r for r in mine if "_round" in r["published"]], out / subset, out.parent)
    return found


def _one_round(rows: Sequence[Mapping[str, Any]], out: Path, results: Path) -> list[Path]:
    if not rows:
        return []
    files: dict[str, list[dict[str, str]]] = {"pred_text": [], "question_text": [], "gt_text": []}
    for row in rows:
        name = f"{row['published']['_step']:04d}"
        target = row["published"]["target"]
        files["pred_text"].append({name: row["answer"]})
        files["question_text"].append({name: row["question"]})
        joined = " / ".join(target) if isinstance(target, list) else str(target)
        files["gt_text"].append({name: joined})
        _sound(row, results, out / "audio" / f"{name}.wav")
    for name, lines in files.items():
        write_jsonl(out / f"{name}.jsonl", lines)
    return [out / f"{name}.jsonl" for name in files]


def _several(rows: Sequence[Mapping[str, Any]], out: Path, results: Path) -> list[Path]:
    talks: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        talks.setdefault(str(row["published"]["_id"]), []).append(row)
    if not talks:
        return []
    lines = []
    for ident, turns in talks.items():
        said: Iterable[dict[str, Any]] = (
            {"round": r["published"]["_round"]}
            | {k: r["published"].get(k) for k in ("source_wav", "source_text", "target_text")}
            | {"output_text": r["answer"].strip()}
            for r in turns
        )
        lines.append(
            {"id": turns[0]["published"]["_id"], "num_round": len(turns), "dialogue": list(said)}
        )
        for row in turns:
            _sound(row, results, out / ident / f"chat_{row['published']['_round']}.wav")
    write_jsonl(out / "output_with_text.jsonl", lines)
    return [out / "output_with_text.jsonl"]


def _sound(row: Mapping[str, Any], results: Path, place: Path) -> None:
    """A reply as WAV where the scorers look for it; half a second of silence where there is none,
    which they hear as no words."""
    import numpy as np

    from fo_core.io import audio

    path = row.get("reply_wav")
    wave = audio.read(results / path, 24000, 3600.0, 0.0) if path else np.zeros(12000, np.float32)
    audio.write(place, wave, 24000)
