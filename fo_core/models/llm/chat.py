"""Where speech goes in a chat template: the ids before, between and after the audio slots.

The parts come from the tokenizer's own chat template by rendering it with marked texts, so any
template works whose turns have a fixed frame; published checkpoints bring theirs as a text with
``<audio>`` in it. Each part is tokenised alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fo_core.errors import CheckpointError
from fo_core.models.llm import reasoning

Message = dict[str, Any]  # {"role": "system" | "user" | "assistant" | "tool", "content": text}
AUDIO = "<audio>"
MARKS = ("FOFIRSTUSER", "FOANSWER", "FOSECONDUSER")


@dataclass(frozen=True)
class ChatParts:
    """Token ids around the audio of a dialogue.

    A dialogue is: system, then for every turn opening, [prompt embeddings,] audio, suffix, and the
    answer without its end token (the next opening closes it).
    """

    system_ids: list[int]  # before the first turn (shots included), without its closing token
    user_prefix_ids: list[int]  # between the end token of the last message and the audio
    user_suffix_ids: list[int]  # after the audio, up to where the assistant speaks
    end_id: int  # closes a message; the assistant's end of turn
    first_opening_ids: list[int] | None = None  # where the first turn opens differently

    @property
    def opening_ids(self) -> list[int]:
        """What opens a later turn: the end token of the message before, then the prefix."""
        return [self.end_id, *self.user_prefix_ids]

    def opening(self, first: bool) -> list[int]:
        """What is fed right before the prompt embeddings and the audio of a turn."""
        if first and self.first_opening_ids is not None:
            return self.first_opening_ids
        return self.opening_ids


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text alone: special tokens in the text are seen, none are added.

    Surrogates (bytes of a command line that are no UTF-8, escapes of JSON) that are no pair become
    U+FFFD: tokenizers take Unicode only.
    """
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def render(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
) -> str:
    """The template's text of a dialogue, up to where the assistant speaks.

    A reasoning LLM's thoughts are switched off where its template can do that; where it opens them
    by itself, they are closed at once.

    Raises:
        CheckpointError: There is no chat template, or it does not take these messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            "the LLM's tokenizer has no chat template",
            possible="an instruction-tuned model",
            do="put a chat_template in tokenizer_config.json",
        )
    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=True,
            **reasoning.SWITCHES,
        )
        return reasoning.close_opened(text)
    except Exception as error:  # jinja raises what the template's author chose
        raise CheckpointError(f"the LLM's chat template: {error}") from error


def dialogue(system: str | None, shots: Sequence[tuple[str, str]], user: str) -> list[Message]:
    """Messages of one question after a system text and example turns."""
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in shots:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return [*messages, {"role": "user", "content": user}]


def render_any(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
) -> str:
    """:func:`render`; a template without a system role gets its text before the first question."""
    try:
        return render(tokenizer, messages, tools)
    except CheckpointError:
        if len(messages) < 2 or messages[0]["role"] != "system":
            raise
        system, first, *rest = messages
        joined = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
        return render(tokenizer, [joined, *rest], tools)


def parts_from_tokenizer(
    tokenizer: Any,
    system: str | None,
    shots: Sequence[tuple[str, str]] = (),
    tools: Sequence[dict[str, Any]] = (),
) -> ChatParts:
    """The parts of a tokenizer's own chat template.

    Args:
        tokenizer: A transformers tokenizer.
        system: System text; None or empty leaves the template's default, if it has one.
        shots: Example turns (question, answer), put before the first turn.
        tools: Functions that the template shows, in its own form.

    Raises:
        CheckpointError: No template, or one whose turns have no fixed frame.
    """
    first, answer, second = MARKS
    messages = dialogue(system, shots, first)
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": second}]
    text = render_any(tokenizer, messages, tools)
    if any(text.count(mark) != 1 for mark in MARKS):
        raise CheckpointError(
            "the LLM's chat template changes or repeats the messages",
            possible="a template that shows every message once",
        )
    head, rest = text.split(first)
    between, suffix = rest.split(answer)[1].split(second)
    ids = encode(tokenizer, between)
    special = set(tokenizer.all_special_ids) | set(
        getattr(tokenizer, "added_tokens_decoder", None) or {}
    )
    if not ids or ids[0] not in special:
        raise CheckpointError(
            "the LLM's chat template does not close a message with a token of its own",
            possible="templates such as ChatML's, Llama's or Gemma's",
        )
    end, prefix = ids[0], ids[1:]
    prefix_text = between[len(tokenizer.decode([end])) :]
    if encode(tokenizer, prefix_text) != prefix:  # tokenised alone, as a dialogue feeds it
        prefix = encode(tokenizer, prefix_text)
    suffix_ids = encode(tokenizer, suffix)
    if head.endswith(between):
        return ChatParts(encode(tokenizer, head[: -len(between)]), prefix, suffix_ids, end)
    return ChatParts([], prefix, suffix_ids, end, first_opening_ids=encode(tokenizer, head))


def parts_from_template(
    tokenizer: Any, template: str, role: str | None = None, end_token: str = "<|im_end|>"
) -> ChatParts:
    """The parts of a published checkpoint: a ChatML text with ``<audio>`` where the user speaks.

    Args:
        tokenizer: A transformers tokenizer.
        template: ``<|im_start|>system … <|im_end|> … <audio> …``.
        role: System text that replaces the template's; None keeps that.
        end_token: The token that closes a message.

    Raises:
        CheckpointError: The template has no audio slot or no closed system part, or the tokenizer
            does not know the end token.
    """
    end = tokenizer.convert_tokens_to_ids(end_token)
    if end is None or encode(tokenizer, end_token) != [end]:
        raise CheckpointError(
            f"the LLM's tokenizer has no token {end_token}", possible="the tokenizer of Qwen2"
        )
    before, slot, after = template.partition(AUDIO)
    system, closed, prefix = before.partition(end_token)
    if not slot or not closed:
        raise CheckpointError(
            "chat_template lacks " + (AUDIO if not slot else f"{end_token} before {AUDIO}"),
            possible=f"<|im_start|>system … {end_token} … {AUDIO} …",
        )
    if role is not None:
        system = f"<|im_start|>system\n{role}"
    return ChatParts(
        encode(tokenizer, system), encode(tokenizer, prefix), encode(tokenizer, after), end
    )
