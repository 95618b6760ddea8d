"""One reply as the protocol's events, in the order that clients rely on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fo_core.server.items import Item
from fo_core.server.messages import new_id
from fo_core.server.wire import SPEECH_RATE, Resampler, WireFormat, to_base64

Event = dict[str, Any]


class Reply:
    """A reply while it is being made.

    ``response.created`` → ``output_item.added`` → ``conversation.item.added`` →
    ``content_part.added`` → (transcript delta | audio delta)* → ``content_part.done`` →
    ``output_item.done`` → ``conversation.item.done`` → ``response.done``.
    """

    def __init__(
        self,
        turn: int,
        fmt: WireFormat,
        speak: bool,
        conversation: str,
        max_tokens: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.id = new_id("resp")
        self.fmt, self.speak = fmt, speak
        self.item = Item(new_id("item"), "assistant", turn, "", speak, "in_progress")
        self._resampler = Resampler(SPEECH_RATE, fmt.rate)
        self._status = "in_progress"
        self._details: Event | None = None
        self._conversation, self._max_tokens = conversation, max_tokens
        self.metadata = dict(metadata or {})

    @property
    def _at(self) -> Event:
        return {
            "response_id": self.id,
            "item_id": self.item.id,
            "output_index": 0,
            "content_index": 0,
        }

    def _part(self) -> Event:
        if self.speak:
            return {"type": "audio", "transcript": self.item.text}
        return {"type": "text", "text": self.item.text}

    def created(self) -> Iterator[Event]:
        """The answer has begun; the conversation's item follows."""
        yield {"type": "response.created", "response": self.to_dict()}
        yield {
            "type": "response.output_item.added",
            "response_id": self.id,
            "output_index": 0,
            "item": self.item.to_dict(),
        }

    def opened(self) -> Event:
        """The item's one content part is open."""
        return {"type": "response.content_part.added", **self._at, "part": self._part()}

    def text(self, text: str) -> Event:
        """Some words."""
        self.item.text += text
        name = "output_audio_transcript" if self.speak else "output_text"
        return {"type": f"response.{name}.delta", **self._at, "delta": text}

    def audio(self, wave: np.ndarray) -> Event | None:
        """Some audio, float32 [S] at 24 kHz; None if all of it stays in the resampler."""
        self.item.milliseconds += round(1000 * len(wave) / SPEECH_RATE)
        return self._delta(self._resampler.step(wave))

    def _delta(self, wave: np.ndarray) -> Event | None:
        if not len(wave):
            return None
        data = to_base64(self.fmt.encode(wave))
        return {"type": "response.output_audio.delta", **self._at, "delta": data}

    def closed(self, status: str, details: Event | None, samples: int) -> Iterator[Event]:
        """Everything but the last two events; the item is whole or cut off.

        Args:
            status: Of the response.
            details: Why it is not completed.
            samples: Of its audio at 24 kHz.
        """
        self._status, self._details = status, details
        self.item.status = "completed" if status == "completed" else "incomplete"
        if self.speak:
            self.item.milliseconds = round(1000 * samples / SPEECH_RATE)
            rest = self._delta(self._resampler.flush()) if status != "cancelled" else None
            if rest is not None:
                yield rest
            yield {"type": "response.output_audio.done", **self._at}
            done = "response.output_audio_transcript.done"
            yield {"type": done, **self._at, "transcript": self.item.text}
        else:
            yield {"type": "response.output_text.done", **self._at, "text": self.item.text}
        yield {"type": "response.content_part.done", **self._at, "part": self._part()}
        yield {
            "type": "response.output_item.done",
            "response_id": self.id,
            "output_index": 0,
            "item": self.item.to_dict(),
        }

    def to_dict(self) -> Event:
        """The response as the protocol shows it."""
        ended = self._status != "in_progress"
        details = {"type": self._status, **(self._details or {})} if ended else None
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self._status,
            "status_details": details,
            "output": [self.item.to_dict()] if ended else [],
            "output_modalities": ["audio" if self.speak else "text"],
            "conversation_id": self._conversation,
            "max_output_tokens": self._max_tokens or "inf",
            "metadata": self.metadata or None,
        }
