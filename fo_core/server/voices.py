"""Which voice a client asks for: one of the model's, once and for all before it is first heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fo_core.models.voices import OWN
from fo_core.server.messages import Refused

# the protocols' built-in voices: clients send them unasked, so they mean "any"
BUILT_IN = frozenset(
    (
        "alloy ash ballad cedar coral echo marin sage shimmer verse "
        "beacon bossa cinder delta gleam meridian quartz ripple shida stone tempo vesper willow"
    ).split()
)


def wanted_voice(asked: Any, voices: Sequence[str], now: str, heard: bool, param: str) -> str:
    """The name of the voice to speak with from now on.

    Args:
        asked: Name, ``{"id": name}``, or None.
        voices: The model's, its own first.
        now: In force.
        heard: Audio was sent to the client: the voice is settled.
        param: The field, for errors.

    Raises:
        Refused: There is no such voice, or another one is settled.
    """
    name = asked.get("id") if isinstance(asked, dict) else asked
    if name is None or (name in BUILT_IN and name not in voices):
        return now
    name = voices[0] if name == OWN else name
    if name not in voices:
        raise Refused(f"no voice {str(name)[:64]!r}; possible: {', '.join(voices)}", param)
    if heard and name != now:
        what = f"the voice stays {now!r}: audio was sent in it; open another session for {name!r}"
        raise Refused(what, param, "cannot_update_voice")
    return name
