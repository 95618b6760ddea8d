"""Out of band: the conversation in which a reply is made that leaves no trace in the user's own."""

from __future__ import annotations

from fo_core.dialogue.commands import Respond
from fo_core.dialogue.conversation import Conversation, Prefixes
from fo_core.models.steps import Steps


def conversation_apart(
    talk: Conversation, command: Respond, number: int, size: int, prefixes: Prefixes
) -> Steps[Conversation | None]:
    """A fork of a talk, or a fresh conversation, whose newest turn waits for its answer.

    Args:
        talk: The user's own.
        command: What is to be read and answered.
        number: Of the turn that is answered.
        size: Positions a step, where it is read again.
        prefixes: As of :meth:`Conversation.refeed`.

    Returns:
        None: there is nothing to answer.
    """
    twin = talk.fork() if command.messages is None else talk.fresh()
    for role, text in command.messages or ():
        if role == "user":
            twin.insert(twin.text_turn(number, text))
        else:
            twin.add_answer(text, lambda: number)
    system = twin.system if command.system is None else command.system
    if twin.use(system, command.tools or twin.tools) or command.messages is not None:
        yield from twin.refeed(size, prefixes)
    if twin.pending:
        twin.turns[-1].number = number
    elif command.system:
        yield from twin.read_text(number, command.system)
    else:
        return None
    return twin
