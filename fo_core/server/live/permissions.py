"""What a page may send and is sent over its data channel, as the session's owner says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fo_core.server.live.messages import REFUSED, SERVED
from fo_core.server.messages import Refused

Names = frozenset[str] | None  # None: all


@dataclass(frozen=True)
class Permissions:
    """Event types; None: all."""

    client: Names = None  # that the page may send
    server: Names = None  # that it is sent

    def check(self, kind: str) -> None:
        """Refuse an event that the page may not send.

        Raises:
            Refused: It may not.
        """
        if self.client is not None and kind not in self.client:
            what = f"this session's page may not send {kind[:64]}; it may send "
            what += ", ".join(sorted(self.client)) or "nothing"
            raise Refused(what, "type", "permission_denied")

    def allow(self, kind: str) -> bool:
        """Whether the page is sent such an event."""
        return self.server is None or kind in self.server

    def told(self) -> str:
        """In words."""
        sides = (("may send", self.client), ("is sent", self.server))
        told = [f"{what}: {_listed(names)}" for what, names in sides]
        return "this session's page " + "; it ".join(told)


def _listed(names: Names) -> str:
    return "all events" if names is None else ", ".join(sorted(names)) or "nothing"


def read_permissions(config: Any) -> Permissions:
    """Permissions of the openai package's ``DataChannelConfig``.

    Raises:
        Refused: It names an event that there is not.
    """
    sends, gets = config.allowed_client_events, config.allowed_server_events
    where = "session.client.data_channel"
    client = None if sends in (None, "all") else frozenset(sends)
    for name in sorted((client or frozenset()) - {*SERVED, *REFUSED}):
        raise Refused(f"no client event {name[:64]!r}", f"{where}.allowed_client_events")
    if gets in (None, "all"):
        return Permissions(client)
    known, names = server_events(), []
    for number, selector in enumerate(gets):
        at = f"{where}.allowed_server_events.{number}"
        if selector.type not in known:
            raise Refused(f"no server event {selector.type[:64]!r}", at)
        if (selector.response_event is not None) != (selector.type == "response.event"):
            what = "response_event is for response.event, which wants it"
            raise Refused(what, f"{at}.response_event")
        names.append(selector.type)
    return Permissions(client, frozenset(names))


def server_events() -> frozenset[str]:
    """The protocol's server events."""
    from typing import get_args

    from openai.types.live import ServerEvent

    kinds = get_args(get_args(ServerEvent)[0])
    return frozenset(get_args(kind.model_fields["type"].annotation)[0] for kind in kinds)
