import pytest

from data_prep.filters import FILTERS, Limits, faults, language_of

# What each filter is for, and what it must let through.
STOPS = {
    "code": [
        "```\nx = 1\n```",
        "what does `let` do?",
        "for (int i = 0; i < 3; i++) {\n}",
        "a == b?",
    ],
    "asks-code": [
        "Write a Python program to sort a list.",
        "Construct a Java program to add.",
        "用JavaScript实现排序",
        "请给出代码",
    ],
    "table": ["| a | b |\n|---|---|\n| 1 | 2 |", "name\tage\tcity"],
    "asks-table": ["Put it in a table, please.", "把它做成表格"],
    "asks-picture": ["Draw a cat.", "Create an image of a city.", "请给我画一幅画"],
    "listing": ["I need:\n- eggs\n- milk", "1. one\n2. two", "一、苹果\n二、梨"],
    "link": ["see https://x.y/z", "mail a.b@c.de", "open /usr/bin/env", "go to example.com"],
    "latex": [
        "solve $x^2 = 4$",
        r"what is \frac{1}{2}?",
        "the roots of 3x + 2 = 5 * y",
        "a line parallel to y = x + 1",
        "the formula is a = (v_f - v_i) / t",
    ],
    "markup": ["<b>bold</b>", "# Title", "this is **important**"],
    "blank": ["my name is [name]", "about {topic}", "fill in ____ here"],
    "digits": ["call 004915112345678"],
    "symbols": ["🙂🙂🙂 ok", "@#~^ @#~^ hi"],
    "lines": ["a\nb\nc\nd"],
    "long": ["word " * 61],
    "repeats": ["noooooooooo", "no no no no no"],
    "script": ["...", "привет мир", "what is 苹果 in English?"],
}
SPEAKABLE = [
    "What methods can help me break bad habits?",
    "Which programming languages are common?",
    "Write a play script about a robot.",
    "Please create a weight loss program for me.",
    "I was born in 1984, and it costs $5.50, doesn't it?",
    "Tell me about self-driving cars... and e.g. trains.",
    "用诗歌的形式来表达我们对自然界的尊重之情",
    "AI技术在教育行业有哪些应用场景？",
    "Set the table for four, please.",
    "Is it 3 or 4 % of the 1,000 people?",
    "Construct an essay on the impact of AI on society.",
]


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_stops_what_it_is_for(name):
    for text in STOPS[name]:
        assert name in faults(text, language_of(text) if name != "script" else "en", Limits()), text


@pytest.mark.parametrize("text", SPEAKABLE)
def test_what_people_say_passes(text):
    assert faults(text, language_of(text), Limits()) == []


def test_the_quick_look_changes_nothing():
    texts = [*SPEAKABLE, *(text for found in STOPS.values() for text in found)]
    for text in texts:
        language = language_of(text)
        slow = [name for name, check in FILTERS.items() if check(text, language, Limits())]
        assert faults(text, language, Limits()) == slow, text


def test_a_filter_can_be_off():
    on = {name: check for name, check in FILTERS.items() if name != "code"}
    assert "code" in faults("```x```", "en", Limits())
    assert "code" not in faults("```x```", "en", Limits(), on)


@pytest.mark.timeout(20)
def test_no_text_makes_a_filter_slow():
    """A nested quantifier once made the quick look exponential in the length of a turn."""
    for text in (
        "word " * 900 + "#",
        "a" * 4000 + "#",
        "(" * 4000,
        "\n" * 4000 + ";",
        "a.b" * 1500,
    ):
        faults(text, "en", Limits())
    assert faults("a" * 10**6, "en", Limits()) == ["long"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("hello there", "en"),
        ("使用PHP语言", "zh"),
        ("これは何ですか", "ja"),
        ("안녕하세요", "ko"),
        ("привет", "ru"),
        ("1 2 3", ""),
    ],
)
def test_language_by_script(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("language", "text", "stopped"),
    [
        ("de", "Wie spät ist es in Köln?", False),
        ("de-AT", "Grüß Gott, wie geht's?", False),
        ("en-GB", "How are you today?", False),
        ("vi", "Thủ đô của Pháp là gì?", False),
        ("uk", "Яка столиця Франції?", False),
        ("bn", "ফ্রান্সের রাজধানী কী?", False),
        ("de", "привет мир", True),
        ("ru", "What is the capital of France?", True),
    ],
)
def test_the_script_of_every_language_is_known(language, text, stopped):
    """German and any other language without a script of its own was refused as a foreign one."""
    assert ("script" in faults(text, language, Limits())) is stopped
