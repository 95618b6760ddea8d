"""AISHELL-1: 178 h of read Mandarin, openslr.org/33.

Its texts are cleaned by lhotse's own recipe; the spaces between words go, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import text_lines

SUMMARY = "AISHELL-1: 178 h of read Mandarin"
LAYOUT = (
    "a folder with transcript/aishell_transcript_v0.8.txt and wav/{train,dev,test}/SPEAKER/*.wav"
)
LICENCE = "Apache-2.0"
LANGUAGE = "zh"
SCRIPT = "transcript/aishell_transcript_v0.8.txt"


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """Utterances of train, dev and test.

    Raises:
        DataError: Its transcript is not there.
    """
    from lhotse.recipes.aishell import text_normalize

    root = next((r for r in (source, source / "data_aishell") if (r / SCRIPT).is_file()), None)
    if root is None:
        not_found(source, LAYOUT)
    texts = {}
    for number, line, fault in text_lines(root / SCRIPT):
        if fault:
            yield Broken(f"{Path(SCRIPT).name}:{number}", fault)
            continue
        name, *words = line.split()
        texts[name] = text_normalize(" ".join(words)).strip().replace(" ", "")
    for part in ("train", "dev", "test"):
        for path in sorted((root / "wav" / part).rglob("*.wav")):
            if path.stem in texts:
                speaker = path.parent.name
                yield Utterance(path.stem, str(path), texts[path.stem], speaker, split=part)
            else:
                yield Broken(path.stem, f"{path.name} has no transcript")
