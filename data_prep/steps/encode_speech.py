"""Speech tokens of the assistant's audio by a trained codec, stored in the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch

from data_prep.runner.run import Progress, quiet
from fo_core.data.manifest import Item

Sound = tuple[str, float, float, int | None]  # file, start, seconds, channel


class Encoder(Protocol):
    """What is used of a codec."""

    sample_rate: int
    hop: int

    def encode(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Wave [B, S] -> tokens [B, T, K], global [B, 1, G]."""
        ...


@torch.inference_mode()
def encode_items(
    items: Sequence[Item],
    codec: Encoder,
    device: str | torch.device = "cpu",
    batch_seconds: float = 40.0,
    progress: Progress = quiet,
) -> list[Item]:
    """Copies of the items that carry their tokens.

    Only sounds of the same number of tokens share a batch, so that padding never reaches the
    voice (a mean over time) or the last tokens. A codec with several layers gives its first one.

    Args:
        items: Assistant turns.
        codec: A trained codec in eval mode.
        device: Where the codec is.
        batch_seconds: Most sound in one batch, s.
        progress: Called with ("encode", done, total).

    Raises:
        AudioError: A sound is missing.
    """
    hop = codec.hop
    sounds: set[Sound] = set()
    by_length: dict[int, list[Item]] = {}
    for item in items:
        if _sound(item) not in sounds:
            sounds.add(_sound(item))
            count = -(-round(item.duration * codec.sample_rate) // hop)
            by_length.setdefault(count, []).append(item)
    found: dict[Sound, tuple[list[int], list[int]]] = {}
    total = len(sounds)
    for count in sorted(by_length):
        size = max(1, int(batch_seconds * codec.sample_rate // (max(count, 1) * hop)))
        group = by_length[count]
        for start in range(0, len(group), size):
            batch = group[start : start + size]
            waves = np.zeros((len(batch), count * hop), dtype=np.float32)
            for row, item in zip(waves, batch, strict=True):
                wave = item.load_audio(codec.sample_rate)[: len(row)]
                row[: len(wave)] = wave
            tokens, voice = codec.encode(torch.from_numpy(waves).to(device))
            for i, item in enumerate(batch):
                found[_sound(item)] = (tokens[i, :, 0].tolist(), voice[i].reshape(-1).tolist())
            progress("encode", len(found), total)
    return [item.with_tokens(*found[_sound(item)]) for item in items]


def _sound(item: Item) -> Sound:
    """What two items have in common that are the same sound."""
    return item.audio, item.start, item.seconds, item.channel


def answered(
    questions: Iterable[Item], answers: Iterable[Item], most: int | None = None
) -> list[Item]:
    """Spoken questions with the speech tokens of their answers: data of the task ``reply``.

    Args:
        questions: The user's turns; one whose answer has no tokens is skipped.
        answers: Assistant turns with tokens.
        most: Questions an answer at most, each worded differently (the first ones); None: all.
    """
    spoken = {item.text: item for item in answers}
    wordings: dict[str, set[str]] = {}
    pairs = []
    for item in questions:
        answer, asked = spoken.get(item.answer), wordings.setdefault(item.answer, set())
        if answer is None or most is not None and (item.text in asked or len(asked) >= most):
            continue
        asked.add(item.text)
        pairs.append(item.with_tokens(answer.speech_tokens, answer.global_tokens))
    return pairs
