"""Text as it is spoken: Markdown, addresses, numbers, units and symbols become words.

A language is one file beside this one with ``read(text) -> str``; a language without a file has
its numbers read by num2words and its other signs left to the synthesiser.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from fo_core.normalize._markup import plain
from fo_core.registry import Registry

LANGUAGES = Registry("language of spoken text", "fo_core.normalize")


@functools.cache
def _reader(language: str) -> Callable[[str], str]:
    if language in LANGUAGES.names():
        reader: Callable[[str], str] = LANGUAGES.load(language).read
        return reader
    from fo_core.normalize import _other

    return functools.partial(_other.read, language=language)


def speakable(text: str, language: str = "en") -> str:
    """Text that any voice of the language reads as meant; empty if there is nothing to say.

    Args:
        text: An LLM's answer or a user's turn, possibly with Markdown.
        language: Language code; what follows a hyphen ("en-GB") is ignored.

    Returns:
        One line of words and sentence punctuation, ending in a mark that ends a sentence.
        ``speakable`` of it is the same again.

    Raises:
        EngineError: The package that reads this language is missing.
    """
    return _reader(language.replace("_", "-").split("-")[0].lower() or "en")(plain(text))
