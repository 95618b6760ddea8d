"""Blocks of any size become chunks; a voice begins and ends; commands keep their place."""

import numpy as np
import pytest
import torch

from fo_core.dialogue.audio_input import InputQueue, VadSegmenter, Voice, check_block
from fo_core.dialogue.settings import TurnConfig
from fo_core.errors import AudioError, ConfigError

CHUNK = 2560


def test_blocks_become_chunks_in_order():
    inbox, wave = InputQueue(), np.arange(3 * CHUNK, dtype=np.float32)
    for piece in np.split(wave, [1, 700, 2559, 2560, 5000]):
        inbox.push(piece)
    found = []
    while inbox.has_chunk():
        found.append(inbox.take(CHUNK))
    assert [f.size for f in found] == [CHUNK] * 3 and np.array_equal(np.concatenate(found), wave)
    assert inbox.waiting == 0 and inbox.take(CHUNK).size == 0


def test_commands_wait_for_the_sound_before_them():
    inbox, done = InputQueue(), []

    def command(before: int) -> bool:
        done.append(before)
        return True

    inbox.push(np.zeros(CHUNK + 100, np.float32))
    inbox.put(command)
    inbox.push(np.ones(CHUNK, np.float32))
    assert inbox.command() is None and inbox.has_chunk()
    inbox.take(CHUNK)
    assert not inbox.has_chunk()  # the command stands before the next whole chunk
    assert inbox.command() == (command, 100)
    inbox.done(command)
    assert inbox.has_chunk() and inbox.take(CHUNK).sum() == CHUNK - 100


def test_a_voice_begins_and_ends():
    voice, told = Voice(), []
    for index, voiced in enumerate([0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1]):
        told.append(voice.see(bool(voiced), 512 * index, onset=2, silence=3))
    assert [i for i, what in enumerate(told) if what == "started"] == [4]
    assert [i for i, what in enumerate(told) if what == "stopped"] == [10]
    assert voice.began == 512 * 3 and not voice.speaking and voice.ended == 512 * 12
    voice.forget()
    assert voice.run == 0


def test_the_look_back_keeps_what_nobody_heard(vad):
    segmenter = VadSegmenter(vad, TurnConfig(), history=2)
    for value in range(4):
        chunk = segmenter.push(np.full(CHUNK, value / 100, np.float32))
        segmenter.keep(chunk.wave)
    assert segmenter.position == 4 * CHUNK
    assert [float(chunk[0]) for chunk in segmenter.look_back()] == pytest.approx([0.02, 0.03])
    assert not segmenter.look_back()


def test_what_is_no_sound_is_refused():
    for block in (np.zeros((2, 2), np.float32), np.zeros(3, np.int16), np.array([np.nan])):
        with pytest.raises(AudioError):
            check_block(block)
    assert check_block(torch.tensor([2.0, -3.0])).tolist() == [1.0, -1.0]
    for setting in ({"threshold": 1.0}, {"silence_ms": -1.0}):
        with pytest.raises(ConfigError):
            TurnConfig(**setting)
