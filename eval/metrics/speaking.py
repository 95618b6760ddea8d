"""What goes wrong in generated speech besides single words: loops, early stops, pace."""

from __future__ import annotations

from eval.metrics.wer import normalise, short_language, unit

PHRASE = 6  # words of the longest phrase that is looked for in a loop
TIMES = 3  # a phrase said so often in a row, and not so in the text, is a loop
USUAL_PACE = {"en": 2.5, "zh": 4.0}  # words (characters) a second
SHORT = 0.5  # shorter than this share of what the text should take: stopped early


def words(text: str, language: str = "en") -> int:
    """Words as written (characters where the language is written without blanks)."""
    if unit(language) == "cer":
        return len(normalise(text, language).split())
    return sum(any(char.isalnum() for char in word) for word in text.split())


def repeats(text: str, language: str = "en") -> int:
    """How often the most repeated phrase of 1 to 6 words stands in a row."""
    said = normalise(text, language).split()
    most = min(len(said), 1)
    for size in range(1, PHRASE + 1):
        streak = 0  # words in a row that are the one ``size`` words before
        for before, word in zip(said, said[size:], strict=False):
            streak = streak + 1 if word == before else 0
            most = max(most, streak // size + 1)
    return most


def loops(text: str, heard: str, language: str = "en") -> bool:
    """Whether a phrase was said three times or more in a row that the text does not so repeat."""
    return repeats(heard, language) >= max(TIMES, repeats(text, language) + 1)


def stops_early(seconds: float, expected: float) -> bool:
    """Whether speech is shorter than half of what its text takes."""
    return seconds < SHORT * expected


def expected_seconds(text: str, language: str = "en") -> float:
    """What a text takes at a usual pace, where no recording of it says so."""
    return words(text, language) / USUAL_PACE.get(short_language(language), 2.5)
