"""Thoughts of reasoning LLMs (L2): never spoken, never part of an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fo_core.models.llm import chat, reasoning
from fo_core.models.llm.tiny import CHATML, write_tokenizer

QWEN3 = CHATML.replace(
    "'<|im_start|>assistant\n' }}",
    "'<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)
ALWAYS = CHATML.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\n<think>\n' }}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>\nAn hour.\n</think>\n\nIt is noon.", "\n\nIt is noon."),
        ("An hour.</think>It is noon.", "It is noon."),  # the prompt opened it
        ("<think></think>Yes.", "Yes."),
        ("<think>one</think><think>two</think>Yes.", "Yes."),
        ("[THINK]hm[/THINK]Yes.", "Yes."),
        ("<think>cut off in the mid", ""),
        ("It is noon.", "It is noon."),
        ("", ""),
    ],
)
def test_whole_answers_lose_their_thoughts(text: str, said: str) -> None:
    assert reasoning.without_thoughts(text) == said


@pytest.mark.parametrize("template", [QWEN3, ALWAYS])
def test_the_template_is_told_not_to_think_and_what_it_opens_is_closed(
    tmp_path: Path, template: str
) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, template)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = chat.render(tokenizer, [{"role": "user", "content": "Why?"}])
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    parts = chat.parts_from_tokenizer(tokenizer, "Be brief.")
    assert tokenizer.decode(parts.user_suffix_ids).endswith("<think>\n\n</think>\n\n")


def feed(text: str, force: bool = False) -> tuple[str, bool]:
    """What of a text, fed character by character, is no thought; whether some are still open."""
    found = reasoning.ThoughtFilter(lambda ids: "".join(map(chr, ids)), lambda s: [*map(ord, s)])
    said, held = "", ""
    queue = [*text]
    while queue:
        char = queue.pop(0)
        held += char
        if found.push(ord(char)):
            said, held = "", ""
        elif not found.holding:
            said, held = said + held, ""
        if force and not queue:
            queue = [*map(chr, found.forced)]
    return (said if found.inside else said + held), found.inside


def test_while_it_is_written_thoughts_are_held_back() -> None:
    assert feed("<think>An hour.</think>Yes.") == ("Yes.", False)
    assert feed("\n<think>\nAn hour.") == ("", True)
    assert feed("An hour.</think>Yes.") == ("Yes.", False)
    assert feed("<thin air> is what they said.") == ("<thin air> is what they said.", False)
    assert feed("a < b, and c > d") == ("a < b, and c > d", False)


def test_thoughts_that_go_on_too_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "LONGEST", 40)
    said, inside = feed("<think>" + "hm, " * 20, force=True)
    assert not inside and not said.strip()
