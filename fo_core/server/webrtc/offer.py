"""A caller's SDP offer: read, checked, and made safe to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiortc.sdp import SessionDescription

from fo_core.errors import first_line
from fo_core.server.messages import Refused

MAX_OFFER = 64 * 1024  # bytes; a browser's has 2 to 8 KiB
CODEC = "opus/48000/2"
DROPPED = ("a=candidate:", "a=end-of-candidates")


@dataclass(frozen=True)
class Offer:
    """An offer that can be answered."""

    sdp: str  # without the caller's own addresses
    channel: bool  # it has data channels
    speaks: bool  # it sends audio


def read_offer(sdp: str) -> Offer:
    """Check an offer.

    The caller's own candidates are left out: the server answers whoever reaches it, and never sends
    a packet to an address that only a message named.

    Raises:
        Refused: It is no SDP, or not one audio stream in Opus over DTLS.
    """
    if len(sdp) > MAX_OFFER:
        raise Refused(f"an SDP of {len(sdp):,} bytes, {MAX_OFFER:,} are allowed", "sdp")
    if not sdp.lstrip().startswith("v=0"):
        raise Refused("this is no SDP offer: it begins with v=0", "sdp", "invalid_sdp")
    lines = [line for line in sdp.strip().splitlines() if not line.startswith(DROPPED)]
    kept = "\r\n".join(lines) + "\r\n"
    try:
        found = SessionDescription.parse(kept)
    # the parser asserts, indexes and converts: whatever it stumbles over is a bad offer
    except Exception as error:
        what = f"the SDP offer cannot be read ({first_line(error)})"
        raise Refused(what, "sdp", "invalid_sdp") from error
    media: dict[str, list[Any]] = {"audio": [], "application": []}
    for part in found.media:
        if part.kind not in media:
            raise Refused(f"no {part.kind} here; possible: audio and a data channel", "sdp")
        media[part.kind].append(part)
        ice = part.ice
        if ice is None or not ice.usernameFragment or not ice.password:
            raise Refused(f"its {part.kind} has no ICE credentials", "sdp", "invalid_sdp")
        if part.dtls is None or not part.dtls.fingerprints:
            raise Refused(f"its {part.kind} has no DTLS fingerprint", "sdp", "invalid_sdp")
    audio = [part for part in media["audio"] if part.port]
    if len(audio) != 1 or len(media["audio"]) != 1 or len(media["application"]) > 1:
        what = f"{len(audio)} audio streams and {len(media['application'])} for data channels"
        raise Refused(f"the offer has {what}; possible: one audio stream, one for data", "sdp")
    codecs = [str(codec) for codec in audio[0].rtp.codecs]
    if CODEC not in [codec.lower() for codec in codecs]:
        listed = ", ".join(codecs[:8])[:200] or "none"
        what = f"no Opus among the codecs of its audio ({listed}); possible: {CODEC}"
        raise Refused(what, "sdp", "unsupported_codec")
    if not audio[0].rtcp_mux:
        raise Refused("its audio has no a=rtcp-mux", "sdp", "invalid_sdp")
    if audio[0].direction is None:  # which aiortc wants, though SDP does not
        raise Refused("its audio has no direction, such as a=sendrecv", "sdp", "invalid_sdp")
    speaks = audio[0].direction in ("sendrecv", "sendonly")
    return Offer(kept, bool(media["application"]), speaks)
