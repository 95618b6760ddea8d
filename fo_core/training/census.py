"""What a new model takes over from its data: CTC tokens, pronunciations, the assistant's voice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.models.llm.chat import encode


def ctc_tokens(tokenizer: Any, texts: Iterable[str]) -> tuple[int, ...]:
    """Ids of all tokens that the LLM's tokenizer makes of some transcripts, in rising order.

    Raises:
        DataError: There is no text.
    """
    found = {token for text in texts for token in encode(tokenizer, text)}
    if not found:
        raise DataError("no item has a transcript", do="give a manifest of transcribed speech")
    return tuple(sorted(found))


def common_sounds(items: Iterable[Item], least: int = 20) -> tuple[str, ...]:
    """Pronunciations of letters that occur at least so often, in order; () where none is known."""
    counts = Counter(sound for item in items for sound in item.letter_sounds)
    return tuple(sorted(sound for sound, count in counts.items() if count >= least))


def common_voice(items: Sequence[Item]) -> tuple[int, ...]:
    """The global token that most items have, place by place; empty where none has any.

    Raises:
        DataError: Items have different numbers of global tokens.
    """
    rows = [item.global_tokens for item in items if item.global_tokens]
    if len({len(row) for row in rows}) > 1:
        raise DataError("the items' global tokens are of several codecs", do="encode them again")
    return tuple(Counter(column).most_common(1)[0][0] for column in zip(*rows, strict=True))
