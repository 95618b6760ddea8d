"""Tells function calls from what is to be spoken, while the LLM writes its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fo_core.dialogue.speech.segmenter import Segment, Segmenter
from fo_core.errors import DataError
from fo_core.models.llm import chat
from fo_core.models.llm.tools import Tool, ToolCall, ToolFormat, read_calls

Choice = Literal["auto", "none", "required"] | dict[str, str]  # {"type": "function", "name": ...}


@dataclass(frozen=True)
class ToolConfig:
    """The functions that an LLM may call."""

    tools: tuple[Tool, ...] = ()
    choice: Any = "auto"  # a Choice: "none": no calls; "required" or a name: a call for certain
    parallel: bool = True  # several calls in an answer; False: the answer ends with the first

    @property
    def offered(self) -> tuple[Tool, ...]:
        """Those that the LLM is told of."""
        return () if self.choice == "none" else self.tools

    def forced(self, tokenizer: Any, how: ToolFormat) -> list[int]:
        """Ids that an answer begins with, where it has to be a call."""
        if not self.tools or self.choice in ("auto", "none"):
            return []
        if self.choice == "required":
            names = [tool["name"] for tool in self.tools]
            text = how.lead + (names[0] + how.middle if len(names) == 1 else "")
        else:
            text = how.lead + self.choice["name"] + how.middle
        return chat.encode(tokenizer, text)


class CallSegmenter:
    """A :class:`Segmenter` that keeps function calls out of the pieces to speak.

    Tokens that may begin a call are held back until that is certain. Pieces go on counting all
    generated tokens, those of calls too.

    Args:
        segmenter: Fresh; cuts what is no call.
        tokenizer: The LLM's.
        how: How it writes calls.
        parallel: False: the answer is full after the first call.
    """

    def __init__(
        self, segmenter: Segmenter, tokenizer: Any, how: ToolFormat, parallel: bool = True
    ) -> None:
        self._segmenter, self._tokenizer, self._how = segmenter, tokenizer, how
        self._parallel = parallel
        self._held: list[int] = []  # may be, or are, a call
        self._inside = False  # they are
        self.count = 0  # tokens pushed
        self.calls: list[ToolCall] = []
        self._told = 0  # calls that :meth:`new_calls` gave
        self.faults: list[str] = []  # calls that could not be read

    def fresh(self) -> CallSegmenter:
        """Another one of the same kind, for an answer that begins anew."""
        inner = Segmenter(self._tokenizer, self._segmenter.cfg)
        return CallSegmenter(inner, self._tokenizer, self._how, self._parallel)

    @property
    def text(self) -> str:
        """All text that is no call, so far."""
        return self._segmenter.text

    @property
    def full(self) -> bool:
        """Whether generation has to stop."""
        single = bool(self.calls) and not self._parallel
        return single or self.count >= self._segmenter.cfg.max_tokens

    def new_calls(self) -> list[ToolCall]:
        """The calls since this was asked last."""
        found = self.calls[self._told :]
        self._told = len(self.calls)
        return found

    def push(self, token_id: int) -> list[Segment]:
        """Take one generated token; the pieces to speak that it completes."""
        self.count += 1
        self._held.append(token_id)
        text = self._decode(self._held)
        if not self._inside:
            return self._outside(text)
        how = self._how
        if how.close and how.close in text[len(how.open) :]:
            return self._call(text.rpartition(how.close)[0])
        return []

    def finish(self) -> list[Segment]:
        """The rest of the answer."""
        found: list[Segment] = []
        if self._inside:
            found += self._call(self._decode(self._held))
        found += self._release()
        return found + self._segmenter.finish()

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False).replace("\ufffd", "")

    def _outside(self, text: str) -> list[Segment]:
        mark, bare = self._how.open, text.lstrip()
        if not mark:  # a call is an answer that begins with its JSON
            first = self.count == len(self._held)
            if first and (not bare or bare.startswith(("{", "[{"))):
                self._inside = bool(bare)
                return []
            return self._release()
        if bare.startswith(mark):
            self._inside = True
            return self._segmenter.cut()
        if mark.startswith(bare):
            return []
        found: list[Segment] = []
        while self._held:  # the first held token begins no call, a later one may
            found += self._segmenter.push(self._held.pop(0))
            bare = self._decode(self._held).lstrip()
            if bare and (mark.startswith(bare) or bare.startswith(mark)):
                break
        return found

    def _release(self) -> list[Segment]:
        held, self._held = self._held, []
        return [segment for token in held for segment in self._segmenter.push(token)]

    def _call(self, text: str) -> list[Segment]:
        body = text.strip().removeprefix(self._how.open).strip()
        try:
            self.calls += read_calls(body)
        except DataError as error:
            self.faults.append(str(error))
        found = self._segmenter.skip(len(self._held))
        self._held, self._inside = [], False
        return found
