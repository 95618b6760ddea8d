"""Text engines: questions in, the LLM's own answers out.

An engine is a module with ``class Engine`` whose instances have ``answer(dialogues,
max_new_tokens, batch_size) -> list[Answer]`` (greedy) and ``draw(dialogues, draws, max_new_tokens,
batch_size) -> list[Answer | EngineError]``, where each row has its own :class:`Draw` and its own
failure; a dialogue is a list of ``{"role", "content"}``.
"""

from dataclasses import dataclass

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


@dataclass(frozen=True)
class Draw:
    """How the words of one answer are chosen."""

    temperature: float = 0.0  # 0 = always the likeliest token
    seed: int = 0  # sampling seed, where the temperature is above 0


@dataclass(frozen=True)
class Answer:
    """What the LLM answered."""

    text: str  # without special tokens and outer blanks
    finished: bool  # it ended by itself, not at the limit
