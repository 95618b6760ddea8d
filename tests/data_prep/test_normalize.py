import pytest

from data_prep.normalize import number_words, ordinal_words, speakable, year_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (24, "twenty four"),
        (100, "one hundred"),
        (365, "three hundred sixty five"),
        (1001, "one thousand one"),
        (2_500_000, "two million five hundred thousand"),
        (-7, "minus seven"),
        (10**13, " ".join(["one", *["zero"] * 13])),
    ],
)
def test_numbers(value: int, words: str) -> None:
    assert number_words(value) == words


def test_ordinals_and_years() -> None:
    assert [ordinal_words(n) for n in (1, 2, 3, 12, 20, 21, 100)] == [
        "first", "second", "third", "twelfth", "twentieth", "twenty first", "one hundredth",
    ]  # fmt: skip
    assert year_words(1969) == "nineteen sixty nine" and year_words(2005) == "two thousand five"
    assert year_words(1905) == "nineteen oh five" and year_words(1800) == "eighteen hundred"
    assert year_words(2024) == "twenty twenty four"


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("A spider has 8 legs.", "A spider has eight legs."),
        ("It is 3.14", "It is three point one four."),
        ("It costs $5.", "It costs five dollars."),
        ("In 1969, on July 20th.", "In nineteen sixty nine, on July twentieth."),
        ("1,234 people", "one thousand two hundred thirty four people."),
        ("It is -5°C & 50% wet", "It is minus five degrees Celsius and fifty percent wet."),
        ("**Bold** _it_ `code`", "Bold it code."),
        ("- one\n- two", "one,two."),
        ("See [the page](http://x.y/z) now", "See the page now."),
        ("Go to https://example.com/a?b=c", "Go to."),
        ("Hello…  world!!", "Hello world!"),
        ("“Yes,” he said", "Yes, he said."),
        ("```python\nprint(1)\n```", ""),
        ("...", ""),
        ("", ""),
        ("😀", ""),
    ],
)
def test_speakable(text: str, spoken: str) -> None:
    assert speakable(text).replace(", ", ",") == spoken.replace(", ", ",")


def test_speakable_is_stable() -> None:
    for text in ("A spider has 8 legs.", "In 1969 & 2005, $20!", "1. One\n2. Two"):
        assert speakable(speakable(text)) == speakable(text)
