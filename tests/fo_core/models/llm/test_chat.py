"""Chat parts from templates of several families, and from a published one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fo_core.errors import CheckpointError
from fo_core.models.llm import chat
from fo_core.models.llm.tiny import write_tokenizer

LLAMA3 = (
    "{{ '<|endoftext|>' }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '|\n\n' + "
    "m['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant|\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ '<|endoftext|>' }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<|im_start|>' + role + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
    "{% endif %}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHOTS = [("Q1?", "A1."), ("Q2?", "A2.")]


@pytest.fixture
def tokenizer(tmp_path: Path):
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def whole(tokenizer, parts: chat.ChatParts, users: list[str], answers: list[str]) -> str:
    """The text that the parts of a dialogue make together, as a session feeds them."""
    ids = list(parts.system_ids)
    for turn, user in enumerate(users):
        ids += parts.opening(turn == 0) + chat.encode(tokenizer, user) + parts.user_suffix_ids
        if turn < len(answers):
            ids += chat.encode(tokenizer, answers[turn])
    return tokenizer.decode(ids)


@pytest.mark.parametrize("template", [None, LLAMA3, GEMMA, DEFAULT])
@pytest.mark.parametrize("shots", [[], SHOTS])
@pytest.mark.parametrize("system", ["Be brief.", ""])
def test_parts_make_the_templates_own_text(tokenizer, template, shots, system) -> None:
    if template is not None:
        tokenizer.chat_template = template
    parts = chat.parts_from_tokenizer(tokenizer, system, shots)
    assert parts.end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    messages = chat.dialogue(system, shots, "Hello?")
    assert whole(tokenizer, parts, ["Hello?"], []) == chat.render_any(tokenizer, messages)
    messages += [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And?"}]
    text = chat.render_any(tokenizer, messages)
    assert whole(tokenizer, parts, ["Hello?", "And?"], ["Hi."]) == text


def test_parts_of_chatml_are_those_of_the_published_form(tokenizer) -> None:
    template = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<audio><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    own = chat.parts_from_tokenizer(tokenizer, "Be brief.")
    assert chat.parts_from_template(tokenizer, template) == own
    other = chat.parts_from_template(tokenizer, template, role="Be long.")
    assert other.system_ids == chat.encode(tokenizer, "<|im_start|>system\nBe long.")
    assert own.opening(True) == [own.end_id, *own.user_prefix_ids]


def test_unusable_templates_are_named(tokenizer) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(CheckpointError, match="does not close a message"):
        chat.parts_from_tokenizer(tokenizer, "x")
    tokenizer.chat_template = "{{ messages[-1]['content'] }}<|im_end|>"
    with pytest.raises(CheckpointError, match="changes or repeats"):
        chat.parts_from_tokenizer(tokenizer, "x")
    tokenizer.chat_template = None
    with pytest.raises(CheckpointError, match="no chat template"):
        chat.parts_from_tokenizer(tokenizer, "x")
    with pytest.raises(CheckpointError, match="lacks <audio>"):
        chat.parts_from_template(tokenizer, "<|im_start|>system\n<|im_end|>")
    with pytest.raises(CheckpointError, match="no token <end>"):
        chat.parts_from_template(tokenizer, "<audio>", end_token="<end>")


def test_surrogates_in_a_text_are_no_fault(tokenizer) -> None:
    """Bytes of a command line that are no UTF-8 (U+DCFF), half of a pair of JSON's escapes."""
    assert chat.encode(tokenizer, "a \udcff b") == chat.encode(tokenizer, "a \ufffd b")
    assert chat.encode(tokenizer, "\ud83d") == chat.encode(tokenizer, "\ufffd")
    assert chat.encode(tokenizer, "\ud83d\ude00") == chat.encode(tokenizer, "\U0001f600")
