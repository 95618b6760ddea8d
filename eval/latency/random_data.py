"""Noise with words, for training steps that are only timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.latency.models import words
from fo_core.data.item import Item
from fo_core.io import audio
from fo_core.streaming import SAMPLE_RATE

LEXICON = 200  # words that are drawn from
PACE = 2.5  # words a second
LONGEST = 15.0  # seconds of an item


def random_items(folder: Path, seconds: float) -> list[Item]:
    """Recordings of 2 to 15 s that are so long in all, of noise; WAV files in a folder."""
    draw, lexicon, items = np.random.default_rng(0), words(LEXICON), list[Item]()
    while sum(item.num_samples for item in items) < seconds * SAMPLE_RATE:
        length = draw.uniform(2.0, LONGEST)
        wave = 0.1 * draw.standard_normal(int(length * SAMPLE_RATE), dtype=np.float32)
        path = folder / f"{len(items):05d}.wav"
        audio.write(path, wave, SAMPLE_RATE)
        text = " ".join(draw.choice(lexicon, max(1, round(PACE * length))))
        items.append(Item(path.stem, str(path), SAMPLE_RATE, len(wave), text, role="user"))
    return items
