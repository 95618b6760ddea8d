"""The bot does not hear itself."""

import numpy as np
import pytest

from fo_core.devices.echo import EchoCanceller
from fo_core.io.audio import resample

pytest.importorskip("pywebrtc_audio")


def test_the_echo_goes_and_the_user_stays():
    draw = np.random.default_rng(0)
    played = (0.1 * draw.standard_normal(24000 * 4)).astype(np.float32)
    far = resample(played, 24000, 16000)
    echo = np.zeros_like(far)
    echo[800:] = 0.5 * far[:-800]  # 50 ms later
    user = np.zeros_like(far)
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    user[48000:] = tone[: len(user) - 48000]
    canceller, cleaned = EchoCanceller(24000), []
    for number in range(0, len(far), 320):
        canceller.played(played[number * 3 // 2 : number * 3 // 2 + 480])
        cleaned.append(canceller.clean((echo + user)[number : number + 320]))
    out = np.concatenate(cleaned)
    assert out.size == len(far)

    def level(wave):
        return 20 * np.log10(np.sqrt((wave**2).mean()) + 1e-9)

    assert level(out[32000:48000]) < level(echo[32000:48000]) - 12
    assert level(out[52000:]) > level(user[52000:]) - 8


def test_odd_blocks_wait_for_whole_frames():
    canceller = EchoCanceller(24000)
    sizes = [canceller.clean(np.zeros(n, np.float32)).size for n in (100, 100, 500)]
    assert sizes == [0, 160, 480]
    for _ in range(100):
        canceller.played(np.zeros(24000, np.float32))
    assert sum(piece.size for piece in canceller._far) <= 16000  # bounded


def test_loudspeaker_and_microphone_may_be_threads_of_their_own():
    """One thread counted what the other was changing: "deque mutated during iteration"."""
    import threading

    canceller, faults, stop = EchoCanceller(24000), [], threading.Event()

    def play():
        try:
            while not stop.is_set():
                canceller.played(np.zeros(480, np.float32))
        except RuntimeError as error:
            faults.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    out = sum(canceller.clean(np.zeros(320, np.float32)).size for _ in range(300))
    stop.set()
    thread.join()
    assert not faults and out == 300 * 320
