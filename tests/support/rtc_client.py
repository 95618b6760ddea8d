"""A WebRTC caller of aiortc for tests, over a network that loses packets where it is asked to."""

from __future__ import annotations

import asyncio
import fractions
import functools
import json
import random
import time
from typing import Any

import av
import httpx2
import numpy as np
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from event_log import EventLog

from fo_core.server.webrtc.packet_order import PacketOrder

RATE = 48000
FRAME = RATE // 50


class Microphone(MediaStreamTrack):
    """Sends what it is given, in real time, and silence otherwise."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.wave = np.zeros(0, np.float32)
        self._count, self._began = 0, 0.0

    def say(self, wave: np.ndarray) -> None:
        """Send float32 [S] at 48 kHz."""
        self.wave = np.concatenate([self.wave, wave.astype(np.float32)])

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms."""
        if self.readyState != "live":
            raise MediaStreamError
        self._began = self._began or time.monotonic()
        await asyncio.sleep(self._began + self._count * FRAME / RATE - time.monotonic())
        now, self.wave = self.wave[:FRAME], self.wave[FRAME:]
        pcm = np.zeros(FRAME, np.int16)
        pcm[: len(now)] = np.round(32767 * np.clip(now, -1, 1))
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, self._count * FRAME
        frame.time_base = fractions.Fraction(1, RATE)
        self._count += 1
        return frame


class Caller(EventLog):
    """``async with Caller(url) as caller``: connected, with the answer's status and headers.

    Args:
        url: Of the server, ``http://host:port``.
        loss: Share of the packets, of every kind and in both directions, that are lost.
        session: Sent as a form with the offer; None: the offer alone.
        key: API key.
        path: Where the offer goes.
    """

    def __init__(
        self,
        url: str,
        loss: float = 0.0,
        session: dict[str, Any] | None = None,
        key: str = "",
        path: str = "/v1/realtime/calls",
    ) -> None:
        super().__init__()
        self.url, self.loss, self.session, self.key, self.path = url, loss, session, key, path
        self.peer, self.microphone = RTCPeerConnection(), Microphone()
        self.heard: list[tuple[float, np.ndarray]] = []  # when it came, float32 [S]
        self.location = ""
        self.lost = self.sent = 0
        self._dice = random.Random(0)
        self._tasks: list[asyncio.Task[None]] = []
        self._channel: Any = None

    async def offer(self) -> str:
        """An SDP offer."""
        self.peer.addTrack(self.microphone)
        self._channel = self.peer.createDataChannel("oai-events")
        self._channel.on("message", lambda message: self.keep(json.loads(message)))
        self.peer.on("track", lambda track: self._start(self._listen(track)))
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return str(self.peer.localDescription.sdp)

    async def post(self, sdp: str) -> httpx2.Response:
        """Send an offer."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        async with httpx2.AsyncClient(timeout=20) as client:
            if self.session is None:
                headers["Content-Type"] = "application/sdp"
                return await client.post(self.url + self.path, content=sdp, headers=headers)
            form = {
                "sdp": (None, sdp, "application/sdp"),
                "session": (None, json.dumps(self.session), "application/json"),
            }
            return await client.post(self.url + self.path, files=form, headers=headers)

    async def accept(self, answer: str) -> None:
        """Connect by an SDP answer."""
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        (transceiver,) = self.peer.getTransceivers()
        transceiver.receiver._RTCRtpReceiver__jitter_buffer = PacketOrder()
        if self.loss:
            self._lose(transceiver.receiver.transport.transport._connection)

    async def __aenter__(self) -> Caller:
        answer = await self.post(await self.offer())
        assert answer.status_code == 201, answer.text
        self.location = answer.headers["Location"]
        await self.accept(answer.text)
        await self.until("session.created")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.peer.close()
        for task in self._tasks:
            task.cancel()

    def send(self, type: str, **fields: Any) -> None:  # noqa: A002 the protocol's word
        """Send an event."""
        self._channel.send(json.dumps({"type": type, **fields}))

    def kinds(self) -> list[str]:
        """The types of the events that came."""
        return [event["type"] for event in self.events]

    def level(self, since: float, until: float) -> float:
        """Root mean square of what was heard between two times, time.monotonic()."""
        waves = [wave for when, wave in self.heard if since <= when < until]
        return float(np.sqrt(np.mean(np.concatenate(waves) ** 2))) if waves else 0.0

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _listen(self, track: Any) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            pcm = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
            self.heard.append((time.monotonic(), pcm.astype(np.float32).mean(axis=1) / 32768))

    def _lose(self, ice: Any) -> None:
        """Lose datagrams of this connection on their way out and in."""
        for protocol in ice._protocols:
            protocol.transport = _Wire(protocol.transport, self._keep)
            receive = protocol.datagram_received
            protocol.datagram_received = functools.partial(self._receive, receive)

    def _receive(self, receive: Any, data: bytes, address: Any) -> None:
        if self._keep():
            receive(data, address)

    def _keep(self) -> bool:
        self.sent += 1
        lost = self._dice.random() < self.loss
        self.lost += lost
        return not lost


class _Wire:
    """A transport that loses some of what is sent."""

    def __init__(self, transport: Any, keep: Any) -> None:
        self._transport, self._keep = transport, keep

    def sendto(self, data: bytes, address: Any) -> None:
        if self._keep():
            self._transport.sendto(data, address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
