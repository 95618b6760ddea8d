"""VoiceBench: nine sets of spoken instructions with their audio in parquet (Apache-2.0).

Published under hlt-lab/voicebench as ``SUBSET/SPLIT-00000-of-00001.parquet`` with ``prompt``,
``audio`` ({"bytes", "path"}) and, by subset, ``reference``, ``key``, ``instruction_id_list``,
``kwargs``, ``id``. Its scorer reads ``MODEL-SUBSET-SPLIT-MODALITY.jsonl``: every field but the
audio, and ``response``. The parts that rules score are worked out here as well: letters of
``openbookqa`` and ``mmsu`` (no letter is wrong; theirs guesses), refusals of ``advbench`` (by our
own phrases), instructions of ``ifeval``, ``sd-qa`` by the words of the reference. The others want
a reader, on what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.sets import Question
from eval.source import embedded_audio, first, need, records, strings
from fo_core.io.files import write_jsonl

KIND = "questions"
TITLE = "VoiceBench"
COLUMN = ""
LANGUAGE = "en"
HUB = "hlt-lab/voicebench"
PATTERNS = ("*.parquet",)
RECORDED = True
SUBSETS = {  # name -> rule
    "alpacaeval": "open",
    "alpacaeval_full": "open",
    "commoneval": "open",
    "wildvoice": "open",
    "openbookqa": "letter",
    "mmsu": "letter",
    "sd-qa": "contains",
    "bbh": "open",
    "ifeval": "ifeval",
    "advbench": "refusal",
}
MODALITIES = {"audio": "answer", "text": "text_answer"}  # theirs -> our field
AUDIO = "audio"


def read(folder: Path, subsets: Sequence[str]) -> list[Question]:
    """The questions of some subsets, every split of each."""
    found = []
    for subset in subsets:
        for path in sorted((folder / subset).glob("*.parquet")):
            split = path.name.split("-0")[0].removesuffix(".parquet")
            for number, row in enumerate(records(path)):
                name = f"{subset}/{split}/{number:04d}"
                published = {k: _plain(v) for k, v in row.items() if k.lower() != AUDIO}
                found.append(
                    Question(
                        name,
                        str(need(row, ("prompt",), path, number + 1)).strip(),
                        strings(first(row, ("reference",))),
                        embedded_audio(row.get(AUDIO), f"voicebench/{name}"),
                        subset,
                        SUBSETS[subset],
                        published=published | {"_split": split},
                    )
                )
    return found


def export(rows: Sequence[Mapping[str, Any]], out: Path, model: str) -> list[Path]:
    """Write ``MODEL-SUBSET-SPLIT-audio.jsonl`` (and ``-text``, of the text LLM) for its scorer."""
    files: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        fields = {k: v for k, v in row["published"].items() if k != "_split"}
        for modality, field in MODALITIES.items():
            if field in row:
                name = f"{model}-{row['category']}-{row['published']['_split']}-{modality}.jsonl"
                files.setdefault(name, []).append(fields | {"response": row[field]})
    for name, lines in files.items():
        write_jsonl(out / name, lines)
    return [out / name for name in files]


def _plain(value: Any) -> Any:
    """JSON-ready, as the published fields are."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
