"""Offers that cannot be answered are refused by one line that says why."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

pytest.importorskip("aiortc")
from fo_core.server.messages import Refused
from fo_core.server.webrtc.offer import MAX_OFFER, read_offer
from fo_core.server.webrtc.routes import addresses_of


@pytest.fixture(scope="module")
def offer() -> str:
    from rtc_client import Caller

    async def make() -> str:
        caller = Caller("http://127.0.0.1:1")
        try:
            return await caller.offer()
        finally:
            await caller.peer.close()

    return asyncio.run(make())


def test_a_good_offer_is_taken_without_the_callers_addresses(offer: str) -> None:
    assert "a=candidate:" in offer
    found = read_offer(offer)
    assert found.channel and found.speaks and "a=candidate" not in found.sdp
    silent = read_offer(offer.replace("a=sendrecv", "a=recvonly"))
    assert silent.channel and not silent.speaks


def without(offer: str, start: str) -> str:
    return "".join(line for line in offer.splitlines(True) if not line.startswith(start))


@pytest.mark.parametrize(
    ("change", "says", "code"),
    [
        (lambda o: "", "no SDP offer", "invalid_sdp"),
        (lambda o: "hello", "no SDP offer", "invalid_sdp"),
        (lambda o: '{"type": "offer"}', "no SDP offer", "invalid_sdp"),
        (lambda o: "v=0\r\nm=rubbish", "cannot be read", "invalid_sdp"),
        (lambda o: "v=0\r\n", "0 audio streams", "invalid_value"),
        (lambda o: o + "a" * MAX_OFFER, "bytes", "invalid_value"),
        (lambda o: o[: o.index("m=audio")], "0 audio streams", "invalid_value"),
        (lambda o: o.replace("opus/48000/2", "G729/8000"), "no Opus", "unsupported_codec"),
        (lambda o: o.replace("m=audio", "m=video"), "no video here", "invalid_value"),
        (lambda o: o + o[o.index("m=audio") : o.index("m=appl")], "2 audio", "invalid_value"),
        (lambda o: without(o, "a=ice-ufrag"), "ICE", "invalid_sdp"),
        (lambda o: without(o, "a=fingerprint"), "fingerprint", "invalid_sdp"),
        (lambda o: without(o, "a=setup"), "fingerprint", "invalid_sdp"),
        (lambda o: without(o, "a=sendrecv"), "no direction", "invalid_sdp"),
        (lambda o: without(o, "a=rtcp-mux"), "rtcp-mux", "invalid_sdp"),
        (lambda o: o.replace("m=audio ", "m=audio 0x"), "cannot be read", "invalid_sdp"),
    ],
)
def test_a_bad_offer_is_refused_by_one_line(offer: str, change: Any, says: str, code: str) -> None:
    with pytest.raises(Refused) as wrong:
        read_offer(change(offer))
    assert says in str(wrong.value) and wrong.value.code == code
    assert "\n" not in str(wrong.value) and len(str(wrong.value)) < 300


def test_any_damage_is_refused_or_harmless(offer: str) -> None:
    dice = random.Random(0)
    for _ in range(300):
        text = list(offer)
        for _ in range(dice.randint(1, 20)):
            text[dice.randrange(len(text))] = chr(dice.choice([0, 10, 32, 58, 61, 97, 255, 0x2028]))
        try:
            read_offer("".join(text))
        except Refused as wrong:
            assert "\n" not in str(wrong)


def test_candidates_are_where_the_server_listens() -> None:
    assert addresses_of("127.0.0.1") == ["127.0.0.1"]
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("0.0.0.0")
