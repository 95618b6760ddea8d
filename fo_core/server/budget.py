"""How many messages a client may send."""

from __future__ import annotations

import time
from typing import Any


class Budget:
    """A token bucket of messages."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._rate, self._burst = per_second, float(burst)
        self._left, self._then = float(burst), time.monotonic()

    def spend(self) -> bool:
        """Whether one more message is within the budget."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._then) * self._rate)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def shown(self) -> dict[str, Any]:
        """As the protocol's ``rate_limits`` show it."""
        return {
            "name": "requests",
            "limit": int(self._burst),
            "remaining": int(self._left),
            "reset_seconds": round((self._burst - self._left) / self._rate, 3),
        }
