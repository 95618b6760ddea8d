"""AISHELL-1: read Mandarin (openslr.org/33, Apache-2.0).

Read without lhotse's recipe, which opens the 120,000 training files too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fo_core.data.manifest import Item

KIND = "speech"
TITLE = "AISHELL-1"
LANGUAGE = "zh"
COLUMNS = {"test": "aishell-1", "dev": "aishell-1 dev"}
TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"


def _root(corpus: Path) -> Path:
    inner = corpus / "data_aishell"
    return inner if inner.is_dir() else corpus


def present(corpus: Path) -> list[str]:
    """Parts that are in a corpus folder."""
    return [part for part in COLUMNS if (_root(corpus) / "wav" / part).is_dir()]


def read(corpus: Path, part: str) -> list[Item]:
    """Utterances of a part; those without a transcript are skipped, as in lhotse's recipe."""
    from fo_core.data.manifest import describe
    from fo_core.errors import DataError

    root = _root(corpus)
    try:
        lines = (root / TRANSCRIPT).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{root} has no {TRANSCRIPT}", do="unpack AISHELL-1 there") from error
    said = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines if " " in line}
    return [
        describe(path, id=path.stem, text=said[path.stem].replace(" ", ""), language=LANGUAGE,
                 speaker=path.parent.name)
        for path in sorted((root / "wav" / part).rglob("*.wav"))
        if path.stem in said
    ]  # fmt: skip
