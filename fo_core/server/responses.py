"""One reply as the protocol's events, in the order that clients rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fo_core.dialogue.events import FunctionCall, Usage
from fo_core.server.items import Conversation, Item
from fo_core.server.messages import new_id
from fo_core.server.wire import SPEECH_RATE, Resampler, WireFormat, to_base64

Event = dict[str, Any]


@dataclass
class Wanted:
    """A reply as a client asks for it."""

    speak: bool
    max_tokens: int | None
    metadata: dict[str, str] = field(default_factory=dict)
    audio_out: WireFormat | None = None  # None: the session's
    apart: bool = False  # of no conversation
    tools: bool = False  # it may call functions, and say nothing


def item_event(name: str, item: Item) -> Event:
    """``conversation.item.NAME``."""
    data = {"previous_item_id": item.previous, "item": item.to_dict()}
    return {"type": f"conversation.item.{name}", **data}


class Reply:
    """A reply while it is being made.

    ``response.created`` → for every item of its output ``output_item.added`` →
    ``conversation.item.added`` → what the item holds → ``output_item.done`` →
    ``conversation.item.done`` → at the end ``response.done``. A message holds
    ``content_part.added`` → (transcript delta | audio delta)* → ``content_part.done``, a function
    call ``function_call_arguments.delta`` and ``.done``.

    Args:
        turn: Of the talk.
        wanted: What was asked for.
        fmt: Of its audio.
        conversation: Takes its items; None: they belong to none.
        conversation_id: Of the conversation.
    """

    def __init__(
        self,
        turn: int,
        wanted: Wanted,
        fmt: WireFormat,
        conversation: Conversation | None,
        conversation_id: str,
    ) -> None:
        self.id = new_id("resp")
        self.turn, self.fmt, self.speak = turn, fmt, wanted.speak
        self.metadata = dict(wanted.metadata)
        self._wanted, self._conversation = wanted, conversation
        self._conversation_id = None if conversation is None else conversation_id
        self._resampler = Resampler(SPEECH_RATE, fmt.rate)
        self._status = "in_progress"
        self._details: Event | None = None
        self._usage: Usage | None = None
        self._output: list[Item] = []
        self._message: Item | None = None  # that is open
        self._spoken = 0  # samples of the open message, at 24 kHz

    def _at(self, item: Item) -> Event:
        index = self._output.index(item)
        return {"response_id": self.id, "item_id": item.id, "output_index": index}

    def _content(self, item: Item) -> Event:
        return {**self._at(item), "content_index": 0}

    def _part(self, item: Item) -> Event:
        if self.speak:
            return {"type": "audio", "transcript": item.text}
        return {"type": "text", "text": item.text}

    def created(self) -> Event:
        """The answer has begun."""
        return {"type": "response.created", "response": self.to_dict()}

    def _open(self, item: Item) -> Iterator[Event]:
        self._output.append(item)
        place = {"response_id": self.id, "output_index": len(self._output) - 1}
        yield {"type": "response.output_item.added", **place, "item": item.to_dict()}
        if self._conversation is not None:
            self._conversation.add(item)
            yield item_event("added", item)

    def _close(self, item: Item, status: Any) -> Iterator[Event]:
        item.status = status
        place = {"response_id": self.id, "output_index": self._output.index(item)}
        yield {"type": "response.output_item.done", **place, "item": item.to_dict()}
        if self._conversation is not None:
            yield item_event("done", item)

    def opened(self) -> Iterator[Event]:
        """The message is open, where it is certain that there will be one."""
        if not self._wanted.tools:
            yield from self._open_message()

    def _open_message(self) -> Iterator[Event]:
        if self._message is None:
            item = Item(new_id("item"), "assistant", self.turn, "", self.speak, "in_progress")
            self._message = item
            yield from self._open(item)
            part = self._part(item)
            yield {"type": "response.content_part.added", **self._content(item), "part": part}

    def _close_message(self, status: str, keep_rest: bool) -> Iterator[Event]:
        item, self._message, self._spoken = self._message, None, 0
        if item is None:
            return
        if self.speak:
            rest = self._resampler.flush()
            if keep_rest and len(rest):
                yield self._delta(item, rest)
            yield {"type": "response.output_audio.done", **self._content(item)}
            done = "response.output_audio_transcript.done"
            yield {"type": done, **self._content(item), "transcript": item.text}
        else:
            yield {"type": "response.output_text.done", **self._content(item), "text": item.text}
        part = self._part(item)
        yield {"type": "response.content_part.done", **self._content(item), "part": part}
        yield from self._close(item, status)

    def text(self, text: str) -> Iterator[Event]:
        """Some words."""
        yield from self._open_message()
        item = self._message
        assert item is not None
        item.text += text
        name = "output_audio_transcript" if self.speak else "output_text"
        yield {"type": f"response.{name}.delta", **self._content(item), "delta": text}

    def audio(self, wave: np.ndarray, told: bool = True) -> Iterator[Event]:
        """Some audio, float32 [S] at 24 kHz; nothing if all of it stays in the resampler.

        Args:
            wave: The samples.
            told: Send them as events; False: they go another way.
        """
        yield from self._open_message()
        item = self._message
        assert item is not None
        self._spoken += len(wave)
        item.milliseconds = -(-1000 * self._spoken // SPEECH_RATE)
        rest = self._resampler.step(wave if told else wave[:0])
        if len(rest):
            yield self._delta(item, rest)

    def _delta(self, item: Item, wave: np.ndarray) -> Event:
        data = to_base64(self.fmt.encode(wave))
        return {"type": "response.output_audio.delta", **self._content(item), "delta": data}

    def call(self, call: FunctionCall) -> Iterator[Event]:
        """A function is called."""
        yield from self._close_message("completed", True)
        item = Item(new_id("item"), "assistant", self.turn, "", False, "in_progress")
        item.kind, item.call_id, item.name = "function_call", call.call_id, call.name
        yield from self._open(item)
        item.text = call.arguments
        at, kind = {**self._at(item), "call_id": call.call_id}, "response.function_call_arguments"
        yield {"type": f"{kind}.delta", **at, "delta": call.arguments}
        yield {"type": f"{kind}.done", **at, "name": call.name, "arguments": call.arguments}
        yield from self._close(item, "completed")

    def closed(self, status: str, details: Event | None, usage: Usage) -> Iterator[Event]:
        """The answer is whole, or cut off.

        Args:
            status: Of the response.
            details: Why it is not completed.
            usage: What was read and written.
        """
        self._status, self._details, self._usage = status, details, usage
        whole = "completed" if status == "completed" else "incomplete"
        yield from self._close_message(whole, status != "cancelled")
        yield {"type": "response.done", "response": self.to_dict()}

    def to_dict(self) -> Event:
        """The response as the protocol shows it."""
        ended = self._status != "in_progress"
        details = {"type": self._status, **(self._details or {})} if ended else None
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self._status,
            "status_details": details,
            "output": [item.to_dict() for item in self._output] if ended else [],
            "output_modalities": ["audio" if self.speak else "text"],
            "conversation_id": self._conversation_id,
            "max_output_tokens": self._wanted.max_tokens or "inf",
            "metadata": self.metadata or None,
            "usage": _usage(self._usage or Usage()) if ended else None,
        }


def _usage(usage: Usage) -> Event:
    read, written = usage.input_text + usage.input_audio, usage.output_text + usage.output_audio
    return {
        "total_tokens": read + written,
        "input_tokens": read,
        "output_tokens": written,
        "input_token_details": {
            "text_tokens": usage.input_text,
            "audio_tokens": usage.input_audio,
            "image_tokens": 0,
            "cached_tokens": usage.cached,
            "cached_tokens_details": {
                "text_tokens": usage.cached,
                "audio_tokens": 0,
                "image_tokens": 0,
            },
        },
        "output_token_details": {
            "text_tokens": usage.output_text,
            "audio_tokens": usage.output_audio,
        },
    }
