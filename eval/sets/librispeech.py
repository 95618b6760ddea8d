"""LibriSpeech's held-out parts: English audio books (openslr.org/12, CC BY 4.0)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fo_core.data.manifest import Item

KIND = "speech"
TITLE = "LibriSpeech"
LANGUAGE = "en"
COLUMNS = {part: part for part in ("dev-clean", "dev-other", "test-clean", "test-other")}


def present(corpus: Path) -> list[str]:
    """Parts that are in a corpus folder."""
    return [part for part in COLUMNS if (corpus / part).is_dir()]


def read(corpus: Path, part: str) -> list[Item]:
    """Utterances of a part of the folder that holds ``test-clean`` and its like."""
    from lhotse.recipes.librispeech import prepare_librispeech

    from eval.sets._lhotse import prepared

    return prepared(lambda: prepare_librispeech(corpus, dataset_parts=part), part, corpus, LANGUAGE)
