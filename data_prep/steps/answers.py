"""Step ``regenerate`` of written dialogues: the frozen LLM answers every user turn anew.

Each answer comes from the LLM's own earlier answers, with a system text for spoken style. An answer
that cannot be used (empty, cut off, looping, too long, not speakable) is asked for again by other
chances and, where it was cut off, with more room; then its dialogue ends before that turn.

An answer depends on the seed, the dialogue's id and the turn, never on what else is answered at the
same time (fo_core/engines/llm/transformers.py). Answers are also kept in ``answers/`` as they come,
so a run that is taken up again asks nothing twice even inside a dialogue.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import replace as change
from pathlib import Path
from typing import Any

from data_prep.filters import FILTERS, Limits, faults
from data_prep.runner.journal import Journal, read_outcomes
from data_prep.runner.run import (
    Made,
    Progress,
    Reject,
    RunConfig,
    StepReport,
    StopRun,
    quiet,
    rows_of,
    run_step,
)
from data_prep.sources.dialogues import Dialogue
from fo_core.config import config, replace, to_dict
from fo_core.devices.compute import choose
from fo_core.engines import LLM
from fo_core.engines.llm import Answer, Draw
from fo_core.errors import DataError, EngineError, FoError
from fo_core.normalize import speakable

Message = dict[str, str]  # {"role": system | user | assistant, "content": text}
VERSION = 2  # of the treatment below: a change of it looks at all answers anew
ASKED = 1  # of the prompts: a change of it asks anew
ASKS = {"asks-code", "asks-table", "asks-picture", "long"}  # filters of questions only
NO_SPACES = {"zh", "ja", "th"}  # languages whose letters are counted as words
SYSTEM = (
    "You are a friendly voice assistant; everything you write is read aloud. Answer in one or two "
    "short sentences of plain spoken words, in the language of the question. Never use lists, "
    "headings, code, symbols, links or emoji."
)
SHOTS = (
    ("How can I sleep better?", "Go to bed at the same time every night, and keep the room dark."),
    ("What is a good name for a cat?", "I like Luna. It is short, and it sounds friendly."),
)


@config
class AnswersConfig:
    """Which LLM answers, how it is asked, and which answers are kept."""

    engine: str = "transformers"  # name in fo_core.engines.llm; "openai" is any such endpoint
    llm: str = "embedded"  # folder, hub id, .gguf file, "embedded"; the endpoint's model name
    dtype: str = "float32"  # of a local LLM: others settle many more near ties one by one
    device: str = "auto"  # of a local LLM: cpu, cuda, cuda:N, mps; auto: by this machine
    base_url: str = ""  # of an endpoint; "" = $OPENAI_BASE_URL
    timeout: float = 120.0  # s that an endpoint may take for one answer
    tries: int = 5  # how often an endpoint that fails is asked, later each time
    pause: float = 1.0  # s before the second try, doubled for each further one
    give_up: int = 8  # questions in a row that an endpoint may fail before the run ends
    system: str = SYSTEM  # "" = none
    shots: tuple[tuple[str, str], ...] = SHOTS  # examples (user, assistant) before every dialogue
    seed: int = 0  # sampling seed
    temperature: float = 0.0  # of the first try; 0 = always the likeliest word
    retries: int = 2  # further tries for an answer that cannot be used
    retry_temperature: float = 0.7  # of these
    max_new_tokens: int = 80  # where an answer is cut
    retry_length_factor: float = (
        1.5  # times as many tokens for a further try after one that was cut
    )
    max_words: int = 60  # longer answers cannot be used; Chinese characters count as half a word
    max_history: int = 6000  # characters of a dialogue before a turn; longer ones end here
    min_turns: int = 1  # dialogues with fewer answered turns are dropped
    batch_size: int = 32  # questions at a time
    dialogues: int = 64  # dialogues at a time: more fill the batches better


def run(
    cfg: AnswersConfig, source: Path, out: Path, how: RunConfig, progress: Progress
) -> StepReport:
    """Answer every dialogue of ``source``; rows with the new answers go to ``out``.

    Raises:
        FoError: As :func:`data_prep.runner.run.run_step`; the LLM is missing or out of reach.
    """
    LLM.load(cfg.engine)  # a wrong name is said before any work
    if how.engine == "local":
        how = replace(how, workers=1)  # one LLM on this machine; an endpoint is asked side by side
    work = Answering(cfg, str(out / "answers"))
    if how.engine == "local":  # a group of dialogues takes minutes: its questions are counted too
        work.tell, work.asked = progress, _questions(source, how.limit)
    return run_step("regenerate", source, work, out, how=how, settings=settings(cfg),
                    progress=progress, batch=cfg.dialogues)  # fmt: skip


def _questions(source: Path, limit: int) -> dict[str, int]:
    """Id of each dialogue -> the questions up to it and with it, in the order of the manifest."""
    counts: dict[str, int] = {}
    asked = 0
    for row in itertools.islice(rows_of(source), limit or None):
        turns = row.get("turns") if isinstance(row, dict) else None
        asked += len(turns) if isinstance(turns, list) else 0
        if isinstance(row, dict):
            counts[str(row.get("id"))] = asked
    return counts


def settings(cfg: AnswersConfig) -> dict[str, Any]:
    """What an answer depends on: everything but how it is computed."""
    how = {"device", "timeout", "tries", "pause", "give_up", "batch_size", "dialogues", "base_url"}
    return {"version": VERSION, **{k: v for k, v in to_dict(cfg).items() if k not in how}}


@dataclass
class _Asked:
    """A dialogue under way."""

    dialogue: Dialogue
    done: list[Message] = field(default_factory=list)  # turns answered so far
    attempt: int = 0
    room: float = 0.0  # tokens for the next answer
    reason: str = ""  # why it ended early
    faults: list[str] = field(default_factory=list)  # of answers that were asked for again

    @property
    def turn(self) -> int:
        """The turn to be answered."""
        return len(self.done) // 2

    @property
    def over(self) -> bool:
        """Whether nothing is left to ask."""
        return bool(self.reason) or self.turn == len(self.dialogue.turns)


class Answering:
    """Answers groups of dialogues; made in every process.

    Args:
        cfg: How.
        kept: Folder of the answers that were given before.
    """

    def __init__(self, cfg: AnswersConfig, kept: str) -> None:
        self.cfg, self.kept = replace(cfg, device=choose(cfg.device)), kept
        self.gpus = int(self.cfg.device.startswith("cuda"))  # of one Ray actor
        self.tell: Progress = quiet
        self.asked: dict[str, int] = {}  # as _questions counts them

    def start(self) -> None:
        """Load the LLM and the answers given before."""
        cfg = self.cfg
        made = LLM.load(cfg.engine).Engine
        if cfg.engine == "openai":
            self.engine = made(cfg.llm, cfg.base_url or None, tries=cfg.tries, pause=cfg.pause,
                               timeout=cfg.timeout)  # fmt: skip
        elif cfg.engine == "embedded":
            self.engine = made(cfg.dtype, cfg.device)
        else:
            self.engine = made(cfg.llm, cfg.dtype, cfg.device)
        folder = Path(self.kept)
        folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, tuple[str, bool]] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for key, row in read_outcomes(path):
                self.known[key.hex()] = (str(row["text"]), bool(row["finished"]))
        name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl"
        self.journal = Journal(folder / name).__enter__()
        self.answered = self.failed = 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> list[Made | Reject]:
        """The rows with new answers, or why there are none."""
        asked: list[_Asked | Reject] = []
        for row in rows:
            try:
                asked.append(_Asked(Dialogue.from_dict(row), room=self.cfg.max_new_tokens))
            except DataError as error:
                asked.append(Reject(str(error)))
        self.group = alive = [a for a in asked if isinstance(a, _Asked)]
        self._tell()
        while alive := [a for a in alive if not a.over]:
            self._round(alive)
            self._tell()
        return [a if isinstance(a, Reject) else self._made(a) for a in asked]

    def _tell(self, more: int = 0) -> None:
        """Say how many questions are done, ``more`` of the round under way among them."""
        if not self.group or not self.asked:
            return
        first = self.group[0].dialogue
        before = self.asked[first.id] - len(first.turns)
        over = sum(len(a.dialogue.turns) if a.over else a.turn for a in self.group)
        total = next(reversed(self.asked.values()))
        self.tell("answers", min(before + over + more, total), total)

    def _round(self, alive: Sequence[_Asked]) -> None:
        """Ask one question of every dialogue."""
        for each in alive:
            if sum(len(m["content"]) for m in each.done) > self.cfg.max_history:
                each.reason = "the dialogue before it is too long"
        alive = [a for a in alive if not a.reason]
        prompts = [prompt(self.cfg, a.done, a.dialogue.turns[a.turn].user) for a in alive]
        replies = self._ask(prompts, [self._draw(a) for a in alive], [int(a.room) for a in alive])
        for each, reply in zip(alive, replies, strict=True):
            self._take(each, reply)

    def _take(self, each: _Asked, reply: tuple[str, bool] | EngineError) -> None:
        """Keep an answer that can be used; else try again, or end the dialogue."""
        if isinstance(reply, EngineError):
            each.reason = f"the LLM gave no answer: {reply}"
            return
        text, finished = reply
        fault = fault_of(text, finished, each.dialogue.language, self.cfg.max_words)
        if not fault and twice([text, *(m["content"] for m in each.done[1::2])]):
            fault = "said before"
        if not fault:
            user = each.dialogue.turns[each.turn].user
            each.done += [
                {"role": "user", "content": user},
                {"role": "assistant", "content": text},
            ]
            each.attempt, each.room = 0, self.cfg.max_new_tokens
            return
        each.faults.append(fault)
        each.attempt += 1
        if fault == "cut off":
            each.room *= self.cfg.retry_length_factor
        if each.attempt > self.cfg.retries:
            each.reason = fault

    def _draw(self, each: _Asked) -> Draw:
        cfg = self.cfg
        named = f"{cfg.seed}/{each.dialogue.id}/{each.turn}/{each.attempt}"
        seed = int.from_bytes(hashlib.sha256(named.encode()).digest()[:6], "big")
        heat = cfg.retry_temperature if each.attempt else cfg.temperature
        return Draw(heat, seed if heat else 0)

    def _ask(
        self, prompts: Sequence[list[Message]], draws: Sequence[Draw], rooms: Sequence[int]
    ) -> list[tuple[str, bool] | EngineError]:
        """(answer, finished) of each prompt; equal ones are asked once."""
        keys = [self._key(*asked) for asked in zip(prompts, draws, rooms, strict=True)]
        found: dict[str, tuple[str, bool] | EngineError] = {}
        for room in sorted(set(rooms)):
            new = {
                key: place
                for place, key in enumerate(keys)
                if rooms[place] == room and key not in self.known
            }
            order = sorted(new, key=lambda k: (sum(len(m["content"]) for m in prompts[new[k]]), k))
            for start in range(0, len(order), self.cfg.batch_size):
                part = order[start : start + self.cfg.batch_size]
                replies = self.engine.draw([prompts[new[k]] for k in part],
                                           [draws[new[k]] for k in part], room,
                                           self.cfg.batch_size)  # fmt: skip
                found.update(self._keep(part, replies))
                self._tell(sum(key in found or key in self.known for key in keys))
        return [self.known[key] if key in self.known else found[key] for key in keys]

    def _keep(
        self, keys: Sequence[str], replies: Iterable[Answer | EngineError]
    ) -> dict[str, EngineError]:
        """Note answers; the failures, unless there are too many to go on."""
        failures = {}
        for key, reply in zip(keys, replies, strict=True):
            if isinstance(reply, EngineError):
                failures[key] = reply
                continue
            said = (reply.text.strip(), bool(reply.finished))
            self.known[key] = said
            self.journal.add(bytes.fromhex(key), {"text": said[0], "finished": said[1]})
        good = len(keys) - len(failures)
        self.answered += good
        self.failed = 0 if good else self.failed + len(failures)
        if failures and (self.failed >= self.cfg.give_up or not self.answered):
            first: FoError = next(iter(failures.values()))
            raise StopRun(first.what, first.possible, first.do)
        return failures

    def _key(self, prompt: Sequence[Message], draw: Draw, room: int) -> str:
        said = [ASKED, self.cfg.engine, self.cfg.llm, self.cfg.dtype, asdict(draw), room]
        return hashlib.sha256(json.dumps([*said, list(prompt)]).encode()).hexdigest()[:32]

    def _made(self, each: _Asked) -> Made | Reject:
        turns = [
            change(turn, assistant=answer["content"])
            for turn, answer in zip(each.dialogue.turns, each.done[1::2], strict=False)
        ]
        counts = {f"asked again ({_kind(f)})": 0.0 for f in each.faults}
        for fault in each.faults:
            counts[f"asked again ({_kind(fault)})"] += 1
        counts |= {"turns": len(turns), "turns skipped": len(each.dialogue.turns) - len(turns)}
        lost = {"id": each.dialogue.id, "turn": each.turn, "reason": each.reason}
        if len(turns) < max(1, self.cfg.min_turns):
            return Made(rejects=[lost], counts=counts)
        made = change(each.dialogue, turns=tuple(turns))
        row = {**made.to_dict(), "llm": self.cfg.llm}
        return Made([row], [lost] if each.reason else [], counts)


def prompt(cfg: AnswersConfig, earlier: Sequence[Message], text: str) -> list[Message]:
    """The messages that ask for an answer to ``text`` after earlier turns."""
    asked: list[Message] = []
    if cfg.system:
        asked.append({"role": "system", "content": cfg.system})
    for user, assistant in cfg.shots:
        asked += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return [*asked, *earlier, {"role": "user", "content": text}]


def _kind(fault: str) -> str:
    return fault.partition(" (")[0]


def twice(said: Iterable[str]) -> bool:
    """Whether something of more than a word or two is said again, in the same words."""
    plain = ("".join(filter(str.isalnum, text.lower())) for text in said)
    long = [text for text in plain if len(text.encode()) >= 12]
    return len(set(long)) < len(long)


def fault_of(answer: str, finished: bool, language: str, max_words: int) -> str:
    """Why an answer cannot be spoken in a dialogue; "" if it can.

    What any answer in words can lack, and what moss-003's filters find in turns.
    """
    if language in NO_SPACES:
        letters = re.findall(r"[^\W\d_]", answer)
        fault = "empty" if not letters else "" if finished else "cut off"
        if not fault and len(letters) > 2 * max_words:
            fault = "too long"
        if not fault and re.search(r"(.{1,8})\1{4,}", answer):
            fault = "looping"
    else:
        fault = _fault(answer, finished, max_words)
    if not fault and twice(re.split(r"[.!?。！？\n]+", answer)):
        fault = "looping"
    if fault:
        return fault
    checks = {name: check for name, check in FILTERS.items() if name not in ASKS}
    named = faults(answer, language, Limits(), checks)
    return f"unspeakable ({named[0]})" if named else ""


def _fault(answer: str, finished: bool, max_words: int) -> str:
    """Why an answer in words cannot be used: empty, cut off, looping, too long, unspeakable."""
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
