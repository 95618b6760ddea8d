"""A caller's packets in order, however many are lost."""

from __future__ import annotations

from typing import Any

from aiortc.jitterbuffer import JitterFrame

ORDER = 2  # packets that are held back to put them in order
RESTART = 500  # packets; a larger jump is a sender that began anew


class PacketOrder:
    """Puts RTP packets of audio in order, each a frame of its own.

    It has the interface of aiortc's jitter buffer (1.16), which waits for runs of packets without a
    gap and so passes on 37 % of those that arrive when a fifth is lost; here every packet that
    arrives is heard, unless it comes more than ``ORDER`` packets late.
    """

    def __init__(self) -> None:
        self._held: dict[int, Any] = {}  # by extended sequence number
        self._newest: int | None = None
        self._passed = -1  # the last one that was passed on

    def add(self, packet: Any) -> tuple[bool, Any]:
        """One packet in, at most one frame out: (False: ask for no picture, frame or None)."""
        number = self._extended(packet.sequence_number)
        if number > self._passed:
            self._held[number] = packet
        if len(self._held) <= ORDER:
            return False, None
        self._passed = min(self._held)
        first = self._held.pop(self._passed)
        return False, JitterFrame(data=first._data, timestamp=first.timestamp)

    def _extended(self, number: int) -> int:
        if self._newest is None:
            self._newest = number + (1 << 16)
            return self._newest
        step = (number - self._newest + (1 << 15)) % (1 << 16) - (1 << 15)
        if abs(step) > RESTART:
            self._held.clear()
            self._passed = self._newest
            step = (1 << 16) + step  # past all that was
        found = self._newest + step
        self._newest = max(self._newest, found)
        return found
