"""What a frozen LLM's folder says of it beside its weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LLMFacts:
    """Facts that a loader found."""

    architecture: str = ""  # name of the model's class
    why: str = ""  # why it runs on our own layers, or why it does not
    context: int | None = None  # positions it was made for; None = no limit is known
    ends: tuple[int, ...] = ()  # tokens that end an answer, by its generation config
    quantised: str = ""  # method of the quantisation; "" = none
