"""Loaded items into padded tensors: one function a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fo_core.data.manifest import IGNORE, Item
from fo_core.errors import DataError
from fo_core.registry import did_you_mean

PAD = -1  # in speech_tokens
TOKEN_RATE = 40  # speech tokens a second
Batch = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What a training task reads of an item."""

    rate: int  # of its sound in Hz; 0 = no sound is read
    needs: tuple[str, ...]  # fields of the item that must not be empty
    collate: Callable[[Sequence[tuple[Item, np.ndarray]]], Batch]
    tokens: bool = False  # what a batch pads is speech tokens, not the sound that is read

    def fits(self, item: Item) -> bool:
        """Whether an item has what the task needs; one of ``kind`` noise has no text to give."""
        noise = item.kind == "noise"
        return all(getattr(item, name) or (noise and name == "text") for name in self.needs)

    def length(self, item: Item) -> float:
        """Length of what a batch of such items pads, s."""
        return len(item.speech_tokens) / TOKEN_RATE if self.tokens else item.duration


def pad_waves(waves: Sequence[np.ndarray], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Waves of several lengths: (float32 [B, S] padded with zeros, lengths [B])."""
    lens = torch.tensor([len(wave) for wave in waves])
    size = -(-int(lens.max()) // multiple) * multiple
    padded = torch.zeros(len(waves), size)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return padded, lens


def pad_rows(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Integer rows of several lengths: (int64 [B, T] padded with ``fill``, lengths [B])."""
    lens = torch.tensor([len(row) for row in rows])
    padded = torch.full((len(rows), int(lens.max())), fill, dtype=torch.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, lens


def speech(loaded: Sequence[tuple[Item, np.ndarray]]) -> Batch:
    """{wave [B, S] at 16 kHz, wave_lens [B], text, answer (may be empty), messages, items}."""
    items, waves = [i for i, _ in loaded], [w for _, w in loaded]
    wave, lens = pad_waves(waves)
    return {
        "wave": wave,
        "wave_lens": lens,
        "text": [i.text for i in items],
        "answer": [i.answer for i in items],
        "messages": [list(i.messages) for i in items],
        "items": items,
    }


def qa(loaded: Sequence[tuple[Item, np.ndarray]]) -> Batch:
    """``speech``, and {states [B, chunks] pad -1, state_lens [B]}."""
    batch = speech(loaded)
    items = batch["items"]
    states, lens = pad_rows([item.states or (IGNORE,) for item in items], IGNORE)
    return {
        **batch,
        "states": states,
        "state_lens": lens,
    }


def tts(loaded: Sequence[tuple[Item, np.ndarray]]) -> Batch:
    """{text, answer, messages, speech_tokens [B, T] pad -1, token_lens, global_tokens [B, G]}."""
    items = [item for item, _ in loaded]
    tokens, lens = pad_rows([item.speech_tokens for item in items], PAD)
    voice, _ = pad_rows([item.global_tokens or (0,) for item in items], 0)
    return {
        "text": [item.text for item in items],
        "answer": [item.answer or item.text for item in items],
        "messages": [list(item.messages) for item in items],
        "speech_tokens": tokens,
        "token_lens": lens,
        "global_tokens": voice,
        "letter_tokens": [item.letter_tokens for item in items],
        "letter_sounds": [item.letter_sounds for item in items],
        "items": items,
    }


def reply(loaded: Sequence[tuple[Item, np.ndarray]]) -> Batch:
    """Spoken questions whose items carry the speech tokens of their answers.

    ``tts`` of the answers (``text`` is the answer, ``messages`` what came before the question), and
    {wave [B, S] at 16 kHz, wave_lens [B], question} of the questions.
    """
    items, waves = [i for i, _ in loaded], [w for _, w in loaded]
    wave, lens = pad_waves(waves)
    texts = {"text": [item.answer for item in items], "question": [item.text for item in items]}
    return {**tts(loaded), "wave": wave, "wave_lens": lens, **texts}


def codec(loaded: Sequence[tuple[Item, np.ndarray]]) -> Batch:
    """{wave [B, S] at 24 kHz (crops of one length where the set is cropped), wave_lens, items}."""
    wave, lens = pad_waves([wave for _, wave in loaded])
    return {"wave": wave, "wave_lens": lens, "items": [item for item, _ in loaded]}


TASKS: Mapping[str, Task] = {
    "speech": Task(16000, ("text",), speech),
    "sound": Task(16000, (), speech),
    "qa": Task(16000, ("text", "answer"), qa),
    "states": Task(16000, ("states",), qa),
    "tts": Task(0, ("text", "speech_tokens"), tts, tokens=True),
    "reply": Task(16000, ("text", "answer", "speech_tokens"), reply, tokens=True),
    "codec": Task(24000, (), codec),
    "voices": Task(24000, ("speech_tokens",), codec),
}


def find_task(name: str) -> Task:
    """The task of a name.

    Raises:
        DataError: There is no such task.
    """
    if name not in TASKS:
        raise DataError(f"unknown data task {name!r}", possible=did_you_mean(name, list(TASKS)))
    return TASKS[name]
