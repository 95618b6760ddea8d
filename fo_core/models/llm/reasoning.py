"""A reasoning LLM's thoughts: switched off where its template can, else dropped before anyone sees.

Thoughts stand between two tags. What comes before a closing tag is dropped whether or not there was
an opening one; what follows an opening one that is never closed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

TAGS = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1, SmolLM3, QwQ, GLM, Phi-4-reasoning
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
)
ANSWERS_AT = {"<|start|>assistant": "<|channel|>final<|message|>"}  # gpt-oss: no analysis before it
SWITCHES = {"enable_thinking": False, "thinking": False}  # of chat templates
LONGEST = 512  # tokens of thoughts after which they are closed by force


def without_thoughts(text: str) -> str:
    """A whole answer, special tokens included, without its thoughts."""
    ends = [(text.rfind(close), close) for _, close in TAGS if close in text]
    if ends:
        place, close = max(ends)
        return text[place + len(close) :]
    begins = [text.find(opening) for opening, _ in TAGS if opening in text]
    return text[: min(begins)] if begins else text


def close_opened(prompt: str) -> str:
    """A prompt whose end opens thoughts, with empty ones instead.

    Templates of LLMs that always think end so: the answer then comes at once.
    """
    text = prompt.rstrip()
    for opening, close in TAGS:
        if text.endswith(opening):
            return f"{text}\n\n{close}\n\n"
    return prompt + next((more for end, more in ANSWERS_AT.items() if text.endswith(end)), "")


def switch(template: str) -> str:
    """How a chat template's thoughts are kept from an answer: a word for reports."""
    for name in SWITCHES:
        if name in template:
            return f"off ({name}=False)"
    if any(tag in template for pair in TAGS for tag in pair):
        return "no switch: thoughts are dropped"
    return "none"


class ThoughtFilter:
    """Tells thoughts from the answer while both are being written.

    Args:
        decode: Text of token ids, special tokens included.
        encode: Ids of a text, to close thoughts that go on too long.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], encode: Callable[[str], list[int]]
    ) -> None:
        self._decode, self._encode = decode, encode
        self._ids: list[int] = []  # of the answer, thoughts included
        self._close = ""  # what ends the thoughts that are open
        self.holding = False  # in thoughts, or in what may be the first letters of their tag

    def push(self, token: int) -> bool:
        """Whether thoughts end with this token: neither it nor what came before is the answer."""
        self._ids.append(token)
        tail = self._decode(self._ids[-24:])  # longer than any tag, letter by letter
        closes = (self._close,) if self._close else tuple(close for _, close in TAGS)
        if any(close in tail for close in closes):
            self.holding, self._close, self._ids = False, "", []
            return True
        if not self._close and len(self._ids) <= 24:
            begun = tail.lstrip()
            opened = [close for opening, close in TAGS if begun.startswith(opening)]
            self._close = opened[0] if opened else ""
            self.holding = bool(self._close) or any(
                opening.startswith(begun) for opening, _ in TAGS
            )
        return False

    @property
    def inside(self) -> bool:
        """Whether thoughts were opened and not closed."""
        return bool(self._close)

    @property
    def forced(self) -> list[int]:
        """Ids that close thoughts that go on too long; [] while they may go on."""
        if not self._close or len(self._ids) < LONGEST:
            return []
        return self._encode(f"\n{self._close}\n\n")


def answer_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of an answer's ids without its end token: no thoughts, specials, outer blanks."""
    whole = tokenizer.decode(list(ids), skip_special_tokens=False)
    said = without_thoughts(whole)
    if said == whole:
        said = tokenizer.decode(list(ids), skip_special_tokens=True)
    for special in tokenizer.all_special_tokens:
        said = said.replace(special, "")
    return said.strip()
