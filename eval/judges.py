"""Who judges: speech recognisers by name, and an LLM behind an endpoint that reads answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fo_core.errors import EngineError

DEFAULT = "faster-whisper"


class Judge(Protocol):
    """A speech recogniser that took no part in training."""

    def transcribe(self, wave: np.ndarray) -> str: ...  # float32 [S] at 16 kHz


@dataclass(frozen=True)
class JudgeSpec:
    """Which recogniser; results with another one are results of another judge."""

    name: str = DEFAULT
    model: str | None = None  # folder or hub id; None: the engine's own default
    language: str = "en"

    def key(self) -> dict[str, Any]:
        """What its transcripts depend on, the package's version among it."""
        from eval.report.provenance import package_version
        from fo_core.engines.asr import ASR

        module = ASR.load(self.name)
        package = getattr(module, "PACKAGE", self.name)
        model = self.model or getattr(module, "DEFAULT", "its own")
        found: dict[str, Any] = {"judge": self.name, "model": model, "language": self.language}
        found |= getattr(module, "SETTINGS", {})
        return found | {"version": f"{package} {package_version(package)}"}

    def open(self, device: str = "cpu") -> Judge:
        """Load it.

        Raises:
            EngineError: There is none of this name, or it cannot work here.
        """
        from fo_core.engines.asr import ASR

        return ASR.load(self.name).Engine(model=self.model, language=self.language, device=device)


PROMPT = (
    "You grade answers to quiz questions.\n"
    "Question: {question}\nAccepted answers: {answers}\nReply to grade: {reply}\n"
    "Does the reply give one of the accepted answers, or the same in other words? "
    "The reply may be a speech transcript: forgive spelling. Say only yes or no."
)


def grade_prompt(question: str, answers: Sequence[str], reply: str) -> list[dict[str, str]]:
    """The messages that ask an LLM whether a reply is right."""
    listed = "; ".join(answers[:20])  # some questions have a hundred aliases
    text = PROMPT.format(question=question, answers=listed, reply=reply or "(nothing)")
    return [{"role": "user", "content": text}]


def read_grade(text: str) -> bool | None:
    """The LLM's yes or no; None where it said neither, or both."""
    said = re.sub(r"<think>.*?</think>", " ", text, flags=re.DOTALL).lower()
    found = set(re.findall(r"\b(yes|no)\b", said))
    return None if len(found) != 1 else found == {"yes"}


@dataclass(frozen=True)
class LLMJudge:
    """An LLM that reads answers, behind an OpenAI-compatible endpoint."""

    model: str  # its name there
    url: str | None = None  # None: $OPENAI_BASE_URL

    def key(self) -> dict[str, Any]:
        """What its grades depend on; the address is not among it."""
        return {"judge_llm": self.model, "prompt": PROMPT}

    def check(self) -> None:
        """Refuse a missing address before any work.

        Raises:
            EngineError: There is no address, or it is none.
        """
        from fo_core.engines.llm.openai import Engine

        Engine(self.model, self.url)

    def grade(
        self, asked: Sequence[tuple[str, Sequence[str], str]], tries: int = 3, pause: float = 1.0
    ) -> list[bool | None]:
        """Grade (question, accepted answers, reply) triples; None: the LLM did not decide.

        Raises:
            EngineError: The endpoint refuses, or is gone.
        """
        from fo_core.engines.llm.openai import Engine

        if not asked:
            return []
        engine = Engine(self.model, self.url, tries=tries, pause=pause)
        answers = engine.answer([grade_prompt(*one) for one in asked], max_new_tokens=512)
        return [read_grade(answer.text) for answer in answers]


def check(name: str, times: bool = False) -> None:
    """Refuse an unknown or uninstalled recogniser before any work.

    Args:
        name: A file of ``fo_core.engines.asr``.
        times: It must tell when each word was said (``words``).

    Raises:
        EngineError: There is none of this name, its package is missing, or it tells no times.
    """
    from fo_core.engines.asr import ASR

    engine = getattr(ASR.load(name), "Engine", None)
    if engine is None:
        raise EngineError(f"{name} is no speech recogniser", possible=", ".join(ASR.names()))
    if times and not hasattr(engine, "words"):
        raise EngineError(f"the judge {name} gives no times of words", possible="faster-whisper")
