"""The LLM's context as a whole: cutting, forgetting and reading again what it has read.

What the user said is kept as the vectors that the LLM read, so nothing is heard anew. Reading again
costs one prefill of everything that is kept.
"""

from __future__ import annotations

import torch

from fo_core.dialogue.history import tokens_heard
from fo_core.dialogue.playback import Playback
from fo_core.dialogue.session import ROOM, Session
from fo_core.dialogue.states import Event
from fo_core.dialogue.writer import Answer
from fo_core.models.llm_state import LLMState
from fo_core.models.steps import Steps


def refeed_steps(session: Session, size: int = 64, system: LLMState | None = None) -> Steps[None]:
    """Read the system text and all turns into an empty cache.

    Args:
        session: While nobody speaks.
        size: Positions a step.
        system: A state that has read this session's system text, to start from a copy of it.
    """
    llm, turns = session.model.llm, session.turns
    session.turns = [turn for turn in turns if turn.event is not Event.IGNORE]
    session.forgotten += len(turns) - len(session.turns)
    session.cache = llm.init_state(1, ROOM) if system is None else system.fork(ROOM)
    ids = session.parts.system_ids
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


def drop_oldest(session: Session, room: int) -> int:
    """Forget the oldest turns until what is kept fits ``room`` positions; how many were forgotten.

    The newest turn stays whatever its size. :func:`refeed_steps` is due afterwards.
    """
    turns = session.turns
    sizes = [later.start - turn.start for turn, later in zip(turns, turns[1:], strict=False)]
    length, count = session.length, 0
    while count < len(sizes) and length > room:
        length -= sizes[count]
        count += 1
    session.forgotten += count
    del turns[:count]
    return count


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
    return session.forget_after(turn, tokens)
