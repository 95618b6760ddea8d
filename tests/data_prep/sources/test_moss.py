import json

import pytest

from data_prep.sources.moss import parse, strip_markers
from fo_core.errors import DataError


def turn(human, moss="<|MOSS|>: Fine.<eom>\n", commands="None"):
    return {
        "Human": f"<|Human|>: {human}<eoh>\n",
        "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
        "Commands": f"<|Commands|>: {commands}<eoc>\n",
        "Tool Responses": "<|Results|>: None<eor>\n",
        "MOSS": moss,
    }


def test_a_published_record_loses_its_markers():
    found = parse({"chat": {"turn_1": turn("How are you?"), "turn_2": turn("And now?")},
                   "category": "Brainstorming"})  # fmt: skip
    assert [t.user for t in found.turns] == ["How are you?", "And now?"]
    assert found.turns[0].assistant == "Fine."
    assert found.category == "brainstorming" and found.missing == 0


def test_turns_are_in_the_order_of_their_numbers():
    chat = {f"turn_{n}": turn(str(n)) for n in (10, 2, 1)}
    assert [t.user for t in parse({"chat": chat}).turns] == ["1", "2", "10"]


def test_turns_filled_up_with_none_are_left_out():
    found = parse({"chat": {"turn_1": turn("a"), "turn_2": None, "turn_3": turn("")}})
    assert len(found.turns) == 1 and found.missing == 2


def test_the_other_layout():
    found = parse({"conversation": [{"human": " Hi ", "assistant": "Hello."}, {"human": "Bye"}]})
    assert [(t.user, t.assistant) for t in found.turns] == [("Hi", "Hello."), ("Bye", None)]


def test_a_turn_with_a_command_is_a_tool_turn():
    found = parse({"chat": {"turn_1": turn("a", commands='Search("x")'), "turn_2": turn("b")}})
    assert found.tools == (True, False)


def test_marks_of_web_search_and_control_characters_go():
    said = "<|MOSS|>: In 1969<sup><|1|></sup>.\x00\u200b\r\nYes<eom>\n"
    assert strip_markers(said) == "In 1969.\nYes"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([1], "of type list"),
        ("text", "of type str"),
        (None, "of type NoneType"),
        ({}, "no turns"),
        ({"chat": None}, "no turns"),
        ({"chat": {}}, "no turns"),
        ({"chat": {"turn_1": None}}, "no turns"),
        ({"chat": 3}, "chat is of type int"),
        ({"chat": {"turn_1": 3}}, "turn_1 is of type int"),
        ({"chat": {"turn_1": {"Human": 3}}}, "turn_1 Human is of type int"),
        ({"chat": {"turn_1": {"Human": "a", "MOSS": [1]}}}, "turn_1 MOSS is of type list"),
        ({"chat": {"turn_1": {"Human": "a"}}, "category": 3}, "category is of type int"),
        ({"conversation": [7]}, "conversation 1 is of type int"),
        ({"conversation": [{"human": None}]}, "no turns"),
        (json.loads('{"conversation": [{"human": "\\ud800"}]}'), "not Unicode"),
    ],
)
def test_a_wrong_record_says_what_is_wrong(record, said):
    with pytest.raises(DataError, match=said):
        parse(record)
