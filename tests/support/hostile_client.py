"""What no honest client sends."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from typing import Any

import pytest

AUDIO = base64.b64encode(random.Random(0).randbytes(2400)).decode()


def rubbish(draw: random.Random, keys: Sequence[str], word: str, depth: int = 0) -> Any:
    """Any JSON value.

    Args:
        draw: Draws it.
        keys: Of its objects.
        word: A text that is right somewhere.
        depth: Of lists and objects around it.
    """
    kind = draw.randrange(9 if depth < 3 else 6)
    if kind == 6:
        return [rubbish(draw, keys, word, depth + 1) for _ in range(draw.randrange(4))]
    if kind > 6:
        count = draw.randrange(4)
        return {draw.choice(keys): rubbish(draw, keys, word, depth + 1) for _ in range(count)}
    return [None, True, draw.randint(-(2**70), 2**70), draw.random() * 1e300, AUDIO, word][kind]


async def is_closed_for(socket: Any, size: int) -> None:
    """A message of so many bytes is too big: the connection is closed for it."""
    import websockets

    with pytest.raises(websockets.ConnectionClosed) as closed:
        await socket.send("x" * size)
        while True:
            await socket.recv()
    assert closed.value.rcvd.code == 1009
