"""WenetSpeech's test sets: Mandarin of the web and of meetings (openslr.org/121)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fo_core.data.manifest import Item

KIND = "speech"
TITLE = "WenetSpeech"
LANGUAGE = "zh"
COLUMNS = {"TEST_NET": "test_net", "TEST_MEETING": "test_meeting"}


def present(corpus: Path) -> list[str]:
    """Parts that are in a corpus folder."""
    places = {"TEST_NET": "test_net", "TEST_MEETING": "test_meeting"}
    return [part for part, name in places.items() if (corpus / "audio" / name).is_dir()]


def read(corpus: Path, part: str) -> list[Item]:
    """Utterances of a part of the folder that holds ``WenetSpeech.json`` and ``audio/``."""
    from lhotse.recipes.wenet_speech import prepare_wenet_speech

    from eval.sets._lhotse import prepared

    return prepared(
        lambda: prepare_wenet_speech(corpus, dataset_parts=[part]), part, corpus, LANGUAGE
    )
