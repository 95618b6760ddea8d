"""What all connections of a server share: its limits, its pool, its counters and its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fo_core.config import config
from fo_core.dialogue.sessions.pool import Pool, PoolFull
from fo_core.dialogue.sessions.talk import Talk
from fo_core.dialogue.settings import TurnConfig
from fo_core.errors import FoError
from fo_core.server.drain import SAYS, Drain
from fo_core.server.logs import say
from fo_core.server.messages import Refused
from fo_core.server.metrics import Metrics


@config
class ServeConfig:
    """Who may use the server, and how much."""

    host: str = "127.0.0.1"  # address to listen at; anything else is reachable from outside
    port: int = 8000  # TCP port
    api_key: str | None = None  # wanted from every client; None = none is wanted
    session_seconds: float = 3600.0  # longest session, as the pool has it
    message_bytes: int = 21 * 2**20  # of one message: 15 MiB of audio in base64
    messages_per_second: float = 400.0  # of one client, sustained
    burst: int = 2000  # messages at once
    send_seconds: float = 20.0  # a client that takes nothing for so long is put out
    connect_seconds: float = 15.0  # a WebRTC caller that is not connected by then is put out
    client_secrets: int = 1000  # that are valid at a time
    certificate: Path | None = None  # PEM file for TLS
    private_key: Path | None = None  # PEM file for TLS
    origins: tuple[str, ...] = ()  # pages of other sites that may talk (https://example.com)


@dataclass(frozen=True)
class ServerContext:
    """What all connections of a server share.

    Args:
        cfg: Limits.
        pool: Holds the talks.
        drain: Says when the server is about to end.
        metrics: Counts.
    """

    cfg: ServeConfig
    pool: Pool
    drain: Drain
    metrics: Metrics

    def open_talk(self, turn: TurnConfig) -> Talk:
        """A talk of such turn taking.

        Raises:
            PoolFull: There is no room, or the server is about to end.
            FoError: The model cannot talk.
        """
        if self.drain.begun:
            raise PoolFull(SAYS, do="try again later")
        return self.pool.open(turn=turn)

    def talk(self, turn: TurnConfig) -> Talk:
        """A talk for a client that speaks one of the protocols.

        Raises:
            Refused: There is none.
        """
        try:
            return self.open_talk(turn)
        except FoError as wrong:
            full = isinstance(wrong, PoolFull)
            going = self.drain.begun
            code = "server_shutdown" if going else "too_many_sessions" if full else "model"
            raise Refused(str(wrong), code=code) from wrong

    def refused(self, code: str, request_id: str, **more: Any) -> None:
        """Count and log that a client was refused."""
        self.metrics.refused(code)
        say("refused", logging.WARNING, request_id=request_id, code=code, **more)
