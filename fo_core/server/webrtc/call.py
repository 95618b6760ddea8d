"""One WebRTC peer: Opus both ways and a data channel, bound to one address of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from fo_core.errors import FoError, first_line
from fo_core.server.messages import Refused
from fo_core.server.webrtc.channel import LABEL, ChannelSocket
from fo_core.server.webrtc.media import TRACK_RATE, Frame
from fo_core.server.webrtc.offer import Offer
from fo_core.server.webrtc.packet_order import PacketOrder
from fo_core.server.webrtc.playout import Playout
from fo_core.server.webrtc.reply_track import ReplyTrack

MAX_CHANNELS = 8  # data channels of a caller; of one other than LABEL nothing is read
LOOK = 1.0  # seconds between two looks at what a caller makes this machine keep


class NotConnected(FoError):
    """The caller did not get through in time."""


class Call:
    """A peer connection and what it carries.

    Args:
        socket: Takes the data channel.
        addresses: Of this machine, at which the peer may be reached.
    """

    def __init__(self, socket: ChannelSocket, addresses: Sequence[str]) -> None:
        self._peer, self.socket, self._addresses = RTCPeerConnection(), socket, addresses
        self._track: Any = None  # the caller's
        self._channels, self._over = 0, False
        self._news = asyncio.Event()  # something about the connection has changed
        self._peer.on("track", self._take_track)
        self._peer.on("datachannel", self._take_channel)
        self._peer.on("connectionstatechange", self._changed)

    async def answer(self, offer: Offer, playout: Playout) -> str:
        """The SDP answer; replies are sent out of the playout as soon as there is a connection.

        Raises:
            Refused: The offer cannot be answered.
        """
        self._peer.addTrack(ReplyTrack(playout))
        (transceiver,) = self._peer.getTransceivers()
        capabilities = RTCRtpReceiver.getCapabilities("audio")
        assert capabilities is not None
        opus = [codec for codec in capabilities.codecs if codec.mimeType.lower() == "audio/opus"]
        transceiver.setCodecPreferences(opus)
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            self._bind()
            # aiortc's own drops most of what arrives when packets are lost, and cannot be set
            transceiver.receiver._RTCRtpReceiver__jitter_buffer = PacketOrder()  # type: ignore[attr-defined]
            await self._peer.setLocalDescription()
        # whatever the library stumbles over is in the offer
        except Exception as error:
            what = f"the SDP offer cannot be answered ({first_line(error)})"
            raise Refused(what, "sdp", "invalid_sdp") from error
        return str(self._peer.localDescription.sdp)

    def _bind(self) -> None:
        """Offer candidates at these addresses only: a server at 127.0.0.1 stays there."""
        transports = {t.receiver.transport for t in self._peer.getTransceivers()}
        if self._peer.sctp is not None:
            transports.add(self._peer.sctp.transport)
        for transport in transports:
            ice: Any = transport.transport.iceGatherer._connection
            gather = ice.get_component_candidates
            ice.get_component_candidates = functools.partial(_gather, gather, self._addresses)

    async def connected(self, channel: bool, seconds: float) -> None:
        """Wait until the caller is there.

        Args:
            channel: It is to open a data channel, too.
            seconds: To wait.

        Raises:
            NotConnected: It gave up, or the time is over.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._peer.connectionState in ("new", "connecting") and not self._over:
                    self._news.clear()
                    await self._news.wait()
                if channel and self._peer.connectionState == "connected":
                    await self.socket.opened.wait()
        if self._peer.connectionState != "connected":
            raise NotConnected(f"no connection in {seconds:g} s ({self._peer.connectionState})")
        if channel and not self.socket.opened.is_set():
            raise NotConnected(f"no data channel {LABEL} in {seconds:g} s")

    async def frames(self) -> Frame | None:
        """The caller's next frame: time of its first sample and float32 [S], at 48 kHz, mono."""
        assert self._track is not None, "an offer that speaks was answered"
        try:
            frame = await self._track.recv()
        except MediaStreamError:
            return None
        pcm = frame.to_ndarray().reshape(-1, len(frame.layout.channels))  # packed int16 [S, C]
        wave = pcm.astype(np.float32).mean(axis=1) / 32768
        return int(frame.pts * frame.time_base * TRACK_RATE), wave

    async def watch(self) -> None:
        """Hang up where a caller sends more of one message than the window that it was given."""
        while self._peer.sctp is None or self._peer.sctp._advertised_rwnd >= 0:
            await asyncio.sleep(LOOK)
        self.socket.disconnect()

    def hang_up(self) -> None:
        """End the session, and with it the call."""
        self._over = True
        self._news.set()
        self.socket.hang_up()

    async def close(self) -> None:
        """End the connection; may be called again."""
        self.socket.disconnect()
        await self._peer.close()

    def _take_track(self, track: Any) -> None:
        self._track = track

    def _take_channel(self, channel: Any) -> None:
        self._channels += 1
        if self._channels > MAX_CHANNELS:
            self.socket.disconnect()
        elif channel.label == LABEL and not self.socket.opened.is_set():
            self.socket.attach(channel)
        else:
            channel.close()

    def _changed(self) -> None:
        self._news.set()
        if self._peer.connectionState in ("failed", "closed"):
            self.socket.disconnect()


async def _gather(
    gather: Any, bound: Sequence[str], component: int, addresses: Any, **given: Any
) -> list[Any]:
    """Aioice's gathering, at other addresses than those it found."""
    return list(await gather(component=component, addresses=list(bound), **given))
