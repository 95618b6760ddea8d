"""Our own clean-up; the published one is compared with its golden cases in convert/."""

from __future__ import annotations

import pytest

from fo_core.text import speakable


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Pi is 3.14.", "Pi is 3.14."),
        ("**Spiders** have `8` legs", "Spiders have 8 legs."),
        ("Hello (world), again", "Hello, world, again."),
        ("line1\nline2\r\n\tend", "line1, line2, end."),
        ("# Title\n\n- one\n- two", "Title, one, two."),
        ("1. Read.\n2. Write.", "1: Read. 2: Write."),
        ("It ended in 5. Then 6.", "It ended in 5. Then 6."),
        ("Wait,", "Wait."),
        ("你好、世界（测试）", "你好，世界，测试。"),
        ("half \ufffd a character", "half a character."),
        ("？ yes", "yes."),
        ("  \n", ""),
        ("...", ""),
        ("Really?!", "Really?!"),
    ],
)
def test_ours(text, spoken):
    assert speakable(text) == spoken
    assert speakable(spoken) == spoken


def test_official_keeps_its_quirks():
    assert speakable("Pi is 3.14.", "official") == "Pi is 3:14."
    assert speakable("line1\nline2", "official") == "line1line2。"
