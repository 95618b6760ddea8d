"""Items of what a lhotse recipe prepares."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fo_core.data.manifest import Item
from fo_core.errors import DataError, first_line


def prepared(
    recipe: Callable[[], Mapping[str, Any]], part: str, corpus: Path, language: str
) -> list[Item]:
    """Run a recipe and take the utterances of one part, in the order of their ids.

    Raises:
        DataError: The corpus is not laid out as published.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            found = recipe()[part]
    except Exception as error:  # recipes assert, and raise what the files make them raise
        raise DataError(
            f"{corpus} is not laid out as published: {first_line(error)}", do="check the folder"
        ) from error
    recordings = {recording.id: recording for recording in found["recordings"]}
    items = []
    for said in sorted(found["supervisions"], key=lambda one: one.id):
        recording = recordings[said.recording_id]
        items.append(
            Item(
                id=said.id,
                audio=str(recording.sources[0].source),
                rate=recording.sampling_rate,
                num_samples=recording.num_samples,
                text=said.text or "",
                speaker=str(said.speaker or ""),
                language=language,
                start=said.start,
                seconds=said.duration,
                channel=said.channel if isinstance(said.channel, int) else None,
                num_channels=recording.num_channels,
            )
        )
    return items
