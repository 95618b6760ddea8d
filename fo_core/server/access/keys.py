"""Who may come in: the server's key, client secrets made with it, and pages of known origins."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

from fo_core.server.access.client_secrets import PREFIX, ClientSecrets
from fo_core.server.access.origins import allowed_origin
from fo_core.server.context import ServeConfig
from fo_core.server.messages import Refused
from fo_core.server.settings import SessionSettings

CALL_QUERY = ("model", "api_key", "states")  # parameters of the address of a Realtime call
QUERY = (*CALL_QUERY, "yield")  # ... of a WebSocket, whose client plays: it says whether it pauses
NO_KEY = "the API key is wrong or missing"
KEY_PROTOCOL = "openai-insecure-api-key."  # how a browser sends a key: a subprotocol of this name


def key_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """The API key that a client sent: as bearer, as a subprotocol, or in the query."""
    bearer = headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return protocol.strip()[len(KEY_PROTOCOL) :]
    return query.get("api_key", "")


def check_query(query: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse an address with other parameters than these.

    Raises:
        Refused: It has one.
    """
    for name in sorted(set(query) - set(known)):
        what = f"no query parameter {name[:64]!r} here; possible: {', '.join(known)}"
        raise Refused(what, name[:64], "unknown_parameter")


class Access:
    """Lets clients in.

    Args:
        cfg: The server's key and the origins that may talk.
        first_settings: Makes those of a new session.
    """

    def __init__(self, cfg: ServeConfig, first_settings: Callable[[], SessionSettings]) -> None:
        self._cfg, self.first_settings = cfg, first_settings
        self.secrets = ClientSecrets(cfg.client_secrets)

    def has_key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        """Whether a client sent the server's own key, or none is wanted."""
        sent, key = key_of(headers, query), self._cfg.api_key
        return key is None or hmac.compare_digest(sent.encode(), key.encode())

    def check(
        self, headers: Mapping[str, str], query: Mapping[str, str], wrong_key: str = NO_KEY
    ) -> None:
        """Let in who has the server's key, and asks for nothing else in its query.

        Raises:
            Refused: It has not (``wrong_key``), or asks for something.
        """
        if not self.has_key(headers, query):
            raise Refused(wrong_key, code="invalid_api_key")
        check_query(query, ("api_key",))

    def session(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        host: str | None,
        known: Sequence[str] = QUERY,
    ) -> SessionSettings:
        """What the session of a client begins with.

        Args:
            headers: Of its request.
            query: Of its request.
            host: The server as the client sees it.
            known: Parameters that its query may have.

        Raises:
            Refused: It may not open one.
        """
        self.check_origin(headers, host)
        if "intent" in query:
            what = f"no intent {query['intent'][:64]!r} in the address; "
            what += "send session.update (type: transcription, for transcripts alone)"
            raise Refused(what, "intent", "unsupported")
        check_query(query, known)
        if query.get("states", "1") not in ("0", "1"):
            raise Refused(f"states={query['states'][:64]}; possible: 0, 1", "states")
        sent = key_of(headers, query)
        if sent.startswith(PREFIX) and sent != self._cfg.api_key:
            found = self.secrets.settings(sent)
            if found is None:
                what = "this client secret is unknown or has expired; make a new one"
                raise Refused(what, code="invalid_api_key")
            return found
        if not self.has_key(headers, query):
            raise Refused(NO_KEY, code="invalid_api_key")
        return self.first_settings()

    def check_origin(self, headers: Mapping[str, str], host: str | None) -> None:
        """Refuse pages of other sites.

        Raises:
            Refused: It is one.
        """
        origin = headers.get("origin")
        if not allowed_origin(origin, host, self._cfg.origins):
            what = f"pages of {origin} may not talk to {host} (fo serve --origin {origin})"
            raise Refused(what, code="wrong_origin")
