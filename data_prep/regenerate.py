"""The frozen LLM's own answers to every user turn, each on its own earlier answers.

Answers are kept in a journal keyed by the whole prompt, so the step resumes after any kill and an
equal prompt is asked once. What cannot be spoken is dropped with the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_prep.normalize import speakable
from data_prep.synthesize import Progress, quiet
from fo_core.config import config
from fo_core.errors import DataError
from fo_core.files import read_jsonl
from fo_core.registry import Registry

Message = dict[str, str]  # {"role": system | user | assistant, "content": text}
SHOTS = (  # of no fact in the domain: they show a small LLM the length of an answer
    ("What color is a cherry?", "A cherry is red."),
    ("What is the capital of Finland?", "The capital of Finland is Helsinki."),
)
BATCHES = 4  # between two writes of the journal


class Reply(Protocol):
    """What an LLM engine gives for a prompt."""

    text: str
    finished: bool  # it ended by itself


class Answerer(Protocol):
    """What each file of ``fo_core.engines.llm`` has as ``Engine(spec, dtype)``."""

    def answer(
        self, messages: list[list[Message]], max_new_tokens: int, batch_size: int
    ) -> Sequence[Reply]:
        """Greedy answers, in the order of the prompts."""
        ...


@config
class RegenerateConfig:
    """Which LLM answers, how it is asked, and which answers are kept."""

    engine: str = "transformers"  # name in fo_core.engines.llm
    llm: str = "embedded"  # folder, hub id, .gguf file, or "embedded"
    dtype: str = "bfloat16"  # of its weights
    system: str = "Answer with one short sentence."  # system prompt; "" = none
    shots: tuple[tuple[str, str], ...] = SHOTS  # examples (user, assistant) before every dialogue
    max_new_tokens: int = 32  # longer answers count as cut off
    batch_size: int = 48  # prompts side by side
    max_words: int = 40  # longer answers are dropped


@dataclass(frozen=True)
class Dialogue:
    """The user's turns of a dialogue; the answers are to be written."""

    id: str
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """A user turn with the LLM's answer."""

    dialogue: str
    turn: int
    text: str  # the user's
    answer: str
    messages: tuple[Message, ...]  # earlier turns of the dialogue (no system prompt, no examples)


def fault(answer: str, finished: bool, max_words: int) -> str:
    """Why an answer cannot be used: empty, cut off, looping, too long, unspeakable; else ""."""
    words = re.findall(r"[\w']+", answer.lower())
    if not answer.strip() or not words:
        return "empty"
    if not finished:
        return "cut off"
    if len(words) > max_words:
        return "too long"
    for size in (1, 2, 3, 4, 6):
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        for i in range(len(grams) - 3 * size):
            if grams[i] == grams[i + size] == grams[i + 2 * size] == grams[i + 3 * size]:
                return "looping"
    if "```" in answer or "http" in answer or "|" in answer or re.search(r"[{}\\<>]", answer):
        return "unspeakable"
    letters = sum(char.isalpha() for char in answer)
    if not speakable(answer) or sum(c.isalpha() and not c.isascii() for c in answer) > letters / 4:
        return "unspeakable"
    return ""


class Asked(Protocol):
    """What stands before every dialogue, as a config says it."""

    @property
    def system(self) -> str: ...  # "" = none

    @property
    def shots(self) -> tuple[tuple[str, str], ...]: ...  # examples (user, assistant)


def prompt(cfg: Asked, earlier: Sequence[Message], text: str) -> list[Message]:
    """The messages that ask for an answer to ``text`` after earlier turns."""
    asked: list[Message] = []
    if cfg.system:
        asked.append({"role": "system", "content": cfg.system})
    for user, assistant in cfg.shots:
        asked += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return [*asked, *earlier, {"role": "user", "content": text}]


def regenerate(
    dialogues: Sequence[Dialogue],
    cfg: RegenerateConfig,
    journal: str | Path,
    engine: Answerer | None = None,
    progress: Progress = quiet,
) -> tuple[list[Answered], list[dict[str, Any]]]:
    """Answer every turn of every dialogue.

    Args:
        dialogues: What users say.
        cfg: The LLM and its prompt.
        journal: JSONL file of what was answered before; grows as we go.
        engine: An LLM that is loaded already; None loads ``cfg.engine`` when it is needed.
        progress: Called with ("regenerate", done, total).

    Returns:
        The answered turns in order, and the dropped ones with "reason"; a dropped turn ends its
        dialogue.
    """
    asker = _Asker(cfg, Path(journal), engine)
    total = sum(len(d.turns) for d in dialogues)
    history: dict[str, list[Message]] = {d.id: [] for d in dialogues}
    done: dict[tuple[str, int], Answered] = {}
    rejects: list[dict[str, Any]] = []
    ended = 0
    for turn in range(max((len(d.turns) for d in dialogues), default=0)):
        alive = [d for d in dialogues if turn < len(d.turns) and d.id in history]
        asked = [prompt(cfg, history[d.id], d.turns[turn]) for d in alive]
        replies = asker.ask(
            asked, lambda n, before=ended: progress("regenerate", before + n, total)
        )
        ended += len(alive)
        for dialogue, (text, finished) in zip(alive, replies, strict=True):
            said = dialogue.turns[turn]
            reason = fault(text, finished, cfg.max_words)
            if reason:
                rejects.append({"id": dialogue.id, "turn": turn, "text": said, "answer": text,
                                "reason": reason})  # fmt: skip
                del history[dialogue.id]
                ended += len(dialogue.turns) - turn - 1
                continue
            earlier = history[dialogue.id]
            done[dialogue.id, turn] = Answered(dialogue.id, turn, said, text, tuple(earlier))
            user, assistant = ({"role": "user", "content": said},
                               {"role": "assistant", "content": text})  # fmt: skip
            history[dialogue.id] = [*earlier, user, assistant]
    progress("regenerate", total, total)
    order = [(d.id, turn) for d in dialogues for turn in range(len(d.turns))]
    return [done[place] for place in order if place in done], rejects


class _Asker:
    """The LLM behind its journal."""

    def __init__(self, cfg: RegenerateConfig, journal: Path, engine: Answerer | None) -> None:
        self.cfg, self.journal, self.engine = cfg, journal, engine
        rows = read_jsonl(journal, whole=False) if journal.exists() else []
        self.known = {row["key"]: (row["text"], row["finished"]) for row in rows if "key" in row}

    def key(self, messages: Sequence[Message]) -> str:
        """Hash of the prompt, the LLM and the limit."""
        cfg = self.cfg
        said = [cfg.engine, cfg.llm, cfg.dtype, cfg.max_new_tokens, list(messages)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]

    def ask(self, prompts: Sequence[list[Message]], tell: Any) -> list[tuple[str, bool]]:
        """(answer, finished) of each prompt; only new ones reach the LLM, the shortest first."""
        keys = [self.key(p) for p in prompts]
        new = {key: p for key, p in zip(keys, prompts, strict=True) if key not in self.known}
        waiting = sorted(new, key=lambda k: (sum(len(m["content"]) for m in new[k]), k))
        tell(sum(key not in new for key in keys))
        size = BATCHES * self.cfg.batch_size
        for start in range(0, len(waiting), size):
            block = waiting[start : start + size]
            self._answer(block, [new[key] for key in block])
            tell(sum(key in self.known for key in keys))
        return [self.known[key] for key in keys]

    def _answer(self, keys: list[str], prompts: list[list[Message]]) -> None:
        if self.engine is None:
            registry = Registry("LLM engine", "fo_core.engines.llm")
            self.engine = registry.load(self.cfg.engine).Engine(self.cfg.llm, self.cfg.dtype)
        assert self.engine is not None
        replies = self.engine.answer(prompts, self.cfg.max_new_tokens, self.cfg.batch_size)
        rows = []
        for key, reply in zip(keys, replies, strict=True):
            self.known[key] = (reply.text.strip(), bool(reply.finished))
            rows.append({"key": key, "text": reply.text.strip(), "finished": bool(reply.finished)})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        try:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            cut = self.journal.exists() and not self.journal.read_bytes().endswith(b"\n")
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(("\n" if cut and self.journal.stat().st_size else "") + lines)
        except OSError as error:
            raise DataError(f"cannot write {self.journal}: {error}") from error
