"""Tiny real models and data: every stage, the stream and the commands run on them in seconds.

The language has eight letters, each a sound of its own, so that learning is real: an encoder can
hear them and a speech decoder can say them. The LLM is random (see ``fo_core.models.llm.tiny``).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fo_core import config as cfg
from fo_core.data.manifest import Item, describe
from fo_core.io import audio
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig, build
from fo_core.models.llm.frozen_llm import FrozenLLM

LETTERS = "abcdefgh"
LETTER_SECONDS = 0.16  # one letter's sound
CODES = 16  # codes of the tiny codec
CODES_A_LETTER = 3  # speech tokens that say a letter


def tiny_model(seed: int = 0, llm: FrozenLLM | None = None, **parts: Any) -> FreezeOmni:
    """A tiny model with initial weights.

    Args:
        seed: Of the weights.
        llm: A loaded LLM; None loads the tiny one.
        **parts: Sections of the config to merge over ``conf/models/tiny.yaml``
            (``adapter={"type": "ctc"}``).
    """
    llm = llm or FrozenLLM.load("tiny")
    size = Path(str(resources.files("fo_core"))) / "conf" / "models" / "tiny.yaml"
    torch.manual_seed(seed)
    return build(cfg.load(FreezeOmniConfig, cfg.merge(cfg.read_yaml(size), parts)), llm=llm)


def letter_wave(letter: str, rate: int, pitch: float = 1.0) -> np.ndarray:
    """The sound of a letter: two gliding tones, float32 [0.16 s]."""
    index = LETTERS.index(letter)
    time = np.arange(round(LETTER_SECONDS * rate)) / rate
    low, high = 250.0 + 90.0 * index, 1200.0 + 350.0 * ((3 * index) % len(LETTERS))
    phase = 2 * np.pi * pitch * (time + (0.8 if index % 2 else -0.8) * time**2)
    wave = 0.3 * np.sin(low * phase) + 0.15 * np.sin(high * phase)
    fade = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.01)
    return (wave * fade).astype(np.float32)


def say(text: str, rate: int, pitch: float = 1.0) -> np.ndarray:
    """The sounds of a text's letters, one after the other."""
    return np.concatenate([letter_wave(letter, rate, pitch) for letter in text])


def tiny_items(folder: str | Path, count: int, seed: int = 0) -> tuple[list[Item], list[Item]]:
    """Questions and their answers: every letter is answered by the next one.

    Args:
        folder: The sounds are written there.
        count: Of each.
        seed: Of the texts, voices and pauses.

    Returns:
        Items of the user (with answer and chunk states) and of the assistant (with speech tokens).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    questions, answers = [], []
    for number in range(count):
        text = "".join(draw.choice(list(LETTERS), draw.integers(2, 6)))
        answer = "".join(LETTERS[(LETTERS.index(c) + 1) % len(LETTERS)] for c in text)
        name = f"{seed}-{number:04d}"
        start, tail = draw.uniform(0.0, 0.2), 0.48
        sound = say(text, 16000, draw.uniform(0.95, 1.05))
        end = start + len(sound) / 16000
        wave = np.concatenate([np.zeros(round(start * 16000), np.float32), sound])
        wave = np.concatenate([wave, np.zeros(round(tail * 16000), np.float32)])
        wave += draw.normal(0, 1e-3, len(wave)).astype(np.float32)
        audio.write(folder / f"{name}-q.wav", wave, 16000)
        chunks = -(-len(wave) // 2560)
        states = tuple(int((c + 1) * 0.16 >= end + 0.16) for c in range(chunks))
        questions.append(
            describe(
                folder / f"{name}-q.wav",
                id=f"{name}-q",
                text=text,
                role="user",
                kind="question",
                answer=answer,
                states=states,
            )
        )
        audio.write(folder / f"{name}-a.wav", say(answer, 24000), 24000)
        tokens = [
            (5 * LETTERS.index(c) + 3 * i) % CODES for c in answer for i in range(CODES_A_LETTER)
        ]
        answers.append(
            describe(
                folder / f"{name}-a.wav",
                id=f"{name}-a",
                text=answer,
                role="assistant",
                messages=({"role": "user", "content": text},),
                speech_tokens=tuple(tokens),
            )
        )
    return questions, answers
