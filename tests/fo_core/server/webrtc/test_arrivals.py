"""Lost, late and repeated packets; gaps in time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("aiortc")
from fo_core.server.webrtc.input_timeline import InputTimeline
from fo_core.server.webrtc.packet_order import ORDER, PacketOrder

FRAME = 960


@dataclass
class Packet:
    sequence_number: int
    timestamp: int = 0
    _data: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._data = str(self.sequence_number).encode()


def passed(numbers: list[int]) -> list[int]:
    order = PacketOrder()
    frames = [order.add(Packet(number % 2**16))[1] for number in numbers]
    return [int(frame.data) for frame in frames if frame is not None]


def test_packets_come_out_in_order_and_once() -> None:
    came = [0, 2, 1, 1, 3, 5, 4, 6, 3, 7, 8, 9]
    assert passed(came) == list(range(10 - ORDER))


def test_a_packet_that_is_too_late_is_left_out() -> None:
    assert passed([0, 1, 3, 4, 5, 2, 6, 7]) == [0, 1, 3, 4, 5][: 7 - ORDER]


def test_of_a_stream_that_loses_a_fifth_every_packet_that_arrives_is_heard() -> None:
    rng = np.random.default_rng(0)
    arrived = [number for number in range(65_000, 67_000) if rng.random() > 0.2]
    assert passed(arrived) == [number % 2**16 for number in arrived[:-ORDER]]


def test_aiortcs_own_buffer_still_drops_most_of_it() -> None:
    """Why there is one of ours; where this fails, ours can go."""
    from aiortc.jitterbuffer import JitterBuffer

    buffer, rng = JitterBuffer(capacity=16, prefetch=4), np.random.default_rng(0)
    arrived = [n for n in range(2000) if rng.random() > 0.2]
    found = [buffer.add(Packet(n, 960 * n))[1] for n in arrived]
    assert sum(frame is not None for frame in found) < 0.5 * len(arrived)


def test_a_sender_that_begins_anew_is_heard_again() -> None:
    found = passed([*range(100), *range(40_000, 40_100)])
    assert found[-50:] == list(range(40_050 - ORDER, 40_100 - ORDER))


def test_time_goes_on_through_gaps() -> None:
    rng = np.random.default_rng(1)
    timeline, wave = InputTimeline(), np.sin(np.arange(200 * FRAME) / 30).astype(np.float32)
    heard, last = [], 0
    for number in range(200):
        if number and rng.random() < 0.2:
            continue
        here = slice(number * FRAME, (number + 1) * FRAME)
        heard.append(timeline.frame(number * FRAME, wave[here]))
        last = here.stop
    sound = np.concatenate(heard)
    assert len(sound) == last
    same = sum(
        np.array_equal(sound[i : i + FRAME], wave[i : i + FRAME]) for i in range(0, last, FRAME)
    )
    assert same >= len(heard)  # what arrived is at its place, unchanged


def test_a_gap_goes_on_where_the_sound_ended_and_falls_silent() -> None:
    timeline, wave = InputTimeline(), np.sin(np.arange(FRAME) / 30).astype(np.float32)
    timeline.frame(0, wave)
    sound = timeline.frame(FRAME * 10, wave)
    assert len(sound) == 10 * FRAME and np.array_equal(sound[-FRAME:], wave)
    assert abs(sound[0] - wave[-1]) < 0.05
    assert not sound[3 * FRAME : 9 * FRAME].any() and sound[:FRAME].any()


def test_time_that_is_past_is_not_heard_twice_and_odd_clocks_do_no_harm() -> None:
    timeline, wave = InputTimeline(), np.arange(FRAME, dtype=np.float32)
    timeline.frame(0, wave)
    assert len(timeline.frame(0, wave)) == 0
    assert np.array_equal(timeline.frame(FRAME - 100, wave), wave[100:])
    assert len(timeline.frame(10**12, wave)) == 2 * 48000 + FRAME  # bounded
    assert np.array_equal(timeline.frame(0, wave), wave)  # a clock that began anew
    assert len(timeline.silence(480)) == 480
    assert np.array_equal(timeline.frame(77_777, wave), wave)  # follows without a gap
