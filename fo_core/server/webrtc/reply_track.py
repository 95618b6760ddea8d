"""A server's voice as an audio track: a reply's samples as Opus packets, one every 20 ms."""

from __future__ import annotations

import fractions
from typing import Any

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from fo_core.server.webrtc.pacing import Pacer
from fo_core.server.webrtc.playout import Playout
from fo_core.server.wire import SPEECH_RATE

FRAME = SPEECH_RATE // 50  # samples a packet
CLOCK = 48000  # of RTP timestamps of Opus
OPTIONS = {
    "application": "voip",
    "frame_duration": "20",
    "compression_level": "5",
    "fec": "1",  # a packet also holds a coarse copy of the one before it
    "packet_loss": "20",  # percent; without it the encoder makes no such copies
}


class OpusEncoder:
    """float32 [FRAME] at 24 kHz to packets of mono Opus."""

    def __init__(self) -> None:
        codec: Any = av.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = SPEECH_RATE, "mono", "s16"
        codec.bit_rate, codec.options = 40_000, OPTIONS
        self._codec, self._count = codec, 0

    def encode(self, wave: np.ndarray) -> bytes:
        """One packet."""
        pcm = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SPEECH_RATE, self._count * FRAME
        frame.time_base = fractions.Fraction(1, SPEECH_RATE)
        self._count += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class ReplyTrack(MediaStreamTrack):
    """Sends what a playout holds, in real time; silence where it holds nothing."""

    kind = "audio"

    def __init__(self, playout: Playout) -> None:
        super().__init__()
        self._playout, self._encoder = playout, OpusEncoder()
        self._pacer = Pacer(FRAME / SPEECH_RATE)
        self._count = 0

    async def recv(self) -> av.Packet:
        """The next packet, when its time has come."""
        if self.readyState != "live":
            raise MediaStreamError
        await self._pacer.wait()
        wave = self._playout.take(FRAME)
        packet = av.Packet(self._encoder.encode(wave))  # 0.2 ms
        packet.pts = self._count * FRAME * CLOCK // SPEECH_RATE
        packet.time_base = fractions.Fraction(1, CLOCK)
        self._count += 1
        return packet
