"""The LLM's context as a whole: cutting, forgetting and reading again what it has read.

What the user said is kept as the vectors that the LLM read, so nothing is heard anew. Reading again
costs one prefill of everything that is kept.
"""

from __future__ import annotations

import torch

from fo_core.dialogue.history import Turn, tokens_heard
from fo_core.dialogue.playback import Playback
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.session import ROOM, Session
from fo_core.dialogue.states import Event
from fo_core.dialogue.writer import Answer
from fo_core.models.llm.state import LLMState
from fo_core.models.steps import Steps

Prefixes = Recent[tuple[int, ...], LLMState]  # system texts that were read, by their ids


def new_prefixes() -> Prefixes:
    """No system text was read yet; the newest eight will stay read for the next user."""
    return Recent(8)


def refeed_steps(session: Session, size: int = 64, prefixes: Prefixes | None = None) -> Steps[None]:
    """Read the system text and all turns into an empty cache.

    Args:
        session: While nobody speaks.
        size: Positions a step.
        prefixes: Start from the state that has read the system text, if it is there; where it is
            not and nothing was said yet, it is put there.
    """
    llm, turns = session.model.llm, session.turns
    session.turns = [turn for turn in turns if turn.event is not Event.IGNORE]
    session.forgotten += len(turns) - len(session.turns)
    ids = session.parts.system_ids
    key, prefixes = tuple(ids), new_prefixes() if prefixes is None else prefixes
    system = prefixes.get(key)
    session.cache = llm.init_state(1, ROOM) if system is None else system.fork(ROOM)
    if system is None and ids:
        yield from session.read_steps(llm.embed(ids), size)
    for turn in session.turns:
        turn.start = session.length
        rows = [*turn.heard]
        if not turn.results:
            opening = llm.embed(session.parts.opening(turn.start == len(ids)))
            rows = [opening, session.model.prompt(1), *rows]
        if turn.answer is not None:
            rows.append(session.suffix(turn))
        vectors = torch.cat([row.to(llm.dtype) for row in rows], dim=1)
        yield from session.read_steps(vectors, size)
        if turn.answer is not None:
            turn.answer.start = session.length
            if turn.answer.token_ids:
                yield from session.read_steps(llm.embed(turn.answer.token_ids), size)
    if not session.turns and key not in prefixes:
        prefixes[key] = session.cache.fork(0)


def overfull(session: Session) -> bool:
    """Whether more is kept than the context may hold, and there is a turn to forget."""
    return session.length > session.context and len(session.turns) > 1


def drop_oldest(session: Session, keep: float) -> int:
    """Forget the oldest turns of a full context; how many were forgotten.

    The newest turn stays whatever its size. :func:`refeed_steps` is due afterwards.

    Args:
        session: While nobody speaks.
        keep: Share of the context that what is kept then may fill.
    """
    if not overfull(session):
        return 0
    turns, room = session.turns, int(keep * session.context)
    sizes = [later.start - turn.start for turn, later in zip(turns, turns[1:], strict=False)]
    length, count = session.length, 0
    while count < len(sizes) and length > room:
        length -= sizes[count]
        count += 1
    session.forgotten += count
    del turns[:count]
    return count


def fork_steps(session: Session, play: Playback | None, played: int, size: int) -> Steps[Session]:
    """A copy that knows of the answer that plays what was played of it.

    Args:
        session: While it speaks.
        play: The answer's audio; None: there is none yet.
        played: Samples of it.
        size: As of :func:`refeed_steps`.
    """
    twin = session.fork()
    if play is not None and not forget_unheard(twin, play, played):
        yield from refeed_steps(twin, size)
    return twin


def forget_unheard(session: Session, play: Playback, played: int) -> bool:
    """Cut the answer that plays to what was played of it.

    Returns:
        False: something was said after it, and the context has to be read again.
    """
    turn = next((t for t in session.turns if t.number == play.turn), None)
    if turn is None or (turn.answer is not None and turn.answer.calls):
        return True  # the calls were made: what comes back for them belongs to the whole answer
    if turn.answer is None:
        turn.answer = Answer(start=session.length)
        return True
    tokens = tokens_heard(turn, play.spoken, played, play.rate, session.model.llm.tokenizer)
    return forget_after(session, turn, tokens)


def forget_after(session: Session, turn: Turn, tokens: int) -> bool:
    """Drop from the history all of a turn's answer but its first ``tokens`` tokens.

    Returns:
        False: turns came after it, so the LLM has to read the history again.
    """
    answer = turn.answer
    if answer is None or tokens >= len(answer.token_ids):
        return True
    newest = turn is session.turns[-1]
    if newest:
        session.cache.crop(min(session.length, answer.start + tokens))
    decode = session.model.llm.tokenizer.decode
    turn.cut(tokens, decode(answer.token_ids[:tokens], skip_special_tokens=True))
    return newest
