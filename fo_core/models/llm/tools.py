"""Function tools of a frozen LLM: how its chat template shows them, its calls and their results.

A frozen LLM keeps the tool skill it was trained with, if it is asked in its own way: tools, calls
and results are rendered by its chat template, and what opens and closes a call is read off that.
Where a template knows no tools, or writes calls that are no JSON, the tools are described in the
system text and calls are asked for between ``<tool_call>`` and ``</tool_call>``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fo_core.errors import CheckpointError, DataError
from fo_core.models.llm import chat
from fo_core.models.llm.chat import ChatParts

Tool = dict[str, Any]  # {"name", "description", "parameters": JSON schema}
NAME, KEY, VALUE = "FOTOOL", "FOKEY", "FOVALUE"
PROMPT = """You can call functions. Each line between <tools> and </tools> describes one:
<tools>
{tools}
</tools>
To call a function, write nothing but
<tool_call>
{{"name": "the function", "arguments": {{"an argument": "its value"}}}}
</tool_call>
The result comes back between <tool_response> and </tool_response>. Answer with it in your words."""


@dataclass(frozen=True)
class ToolCall:
    """A call as the LLM wrote it."""

    name: str
    arguments: str  # a JSON object


@dataclass(frozen=True)
class ToolResult:
    """What came back for a call."""

    call: ToolCall
    call_id: str
    output: str


@dataclass(frozen=True)
class ToolFormat:
    """How an LLM writes calls."""

    native: bool  # by its template; else by our prompt
    open: str  # what begins a call; "": the answer begins with the JSON itself
    close: str  # what ends it; "": the end of the answer
    lead: str  # from the beginning of a call to the function's name
    middle: str  # from the name to the arguments


FALLBACK = ToolFormat(
    False, "<tool_call>", "</tool_call>", '<tool_call>\n{"name": "', '", "arguments": '
)


def described(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in the form that chat templates take."""
    return [{"type": "function", "function": {"description": "", **tool}} for tool in tools]


def tool_format(tokenizer: Any) -> ToolFormat:
    """How the LLM of a tokenizer writes calls, read off its chat template."""
    probe = described([{"name": NAME, "parameters": {"type": "object", "properties": {}}}])
    call = {
        "type": "function",
        "id": "call00000",
        "function": {"name": NAME, "arguments": {KEY: VALUE}},
    }
    asked = {"role": "user", "content": "FOQUESTION"}
    said = {"role": "assistant", "content": "FOANSWER"}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    try:
        if NAME not in chat.render(tokenizer, [asked], probe):
            return FALLBACK
        plain = chat.render(tokenizer, [asked, said, asked], probe)
        shown = chat.render(tokenizer, [asked, called, asked], probe)
    except CheckpointError:
        return FALLBACK
    start = len(os.path.commonprefix([plain, shown]))
    stop = len(os.path.commonprefix([plain[::-1], shown[::-1]]))
    body = shown[start : len(shown) - stop]
    if body.count(NAME) != 1 or body.count(VALUE) != 1 or "{" not in body.partition(NAME)[0]:
        return FALLBACK
    lead, _, rest = body.partition(NAME)
    middle, brace, _ = rest.partition("{")
    opening = lead.partition("{")[0].rstrip("[ \n").strip()
    closing = body.rpartition("}")[2].lstrip("] \n").strip()
    if not brace or not middle.startswith('"'):
        return FALLBACK
    return ToolFormat(True, opening, closing, lead.lstrip(), middle)


def system_with(tools: Sequence[Tool], system: str | None) -> str:
    """The system text of an LLM whose template knows no tools."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = PROMPT.format(tools=lines)
    return f"{system}\n\n{text}" if system else text


def read_calls(text: str) -> list[ToolCall]:
    """The calls in what the LLM wrote between the opening and the closing.

    Raises:
        DataError: It is no call.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise DataError(f"the LLM wrote a function call that is no JSON: {text[:200]!r}") from error
    calls = []
    for one in data if isinstance(data, list) else [data]:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise DataError(f"the LLM wrote a function call without a name: {text[:200]!r}")
        given = one.get("arguments", one.get("parameters", {}))
        arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        calls.append(ToolCall(name, arguments))
    return calls


def results_ids(
    tokenizer: Any, parts: ChatParts, how: ToolFormat, results: Sequence[ToolResult]
) -> tuple[list[int], list[int]]:
    """Ids of results behind the answer that asked for them, from the token that closes it on.

    Returns:
        The ids, and those that follow before the assistant speaks.
    """
    if how.native:
        found = _by_template(tokenizer, parts, results)
        if found is not None:
            return found
    texts = [f"<tool_response>\n{result.output}\n</tool_response>" for result in results]
    return [*parts.opening_ids, *chat.encode(tokenizer, "\n".join(texts))], parts.user_suffix_ids


def _by_template(
    tokenizer: Any, parts: ChatParts, results: Sequence[ToolResult]
) -> tuple[list[int], list[int]] | None:
    calls, answers = [], []
    for number, result in enumerate(results):
        mark = f"call{number:05d}"  # some templates want nine letters and digits
        named = {"name": result.call.name, "arguments": {KEY: VALUE}}
        calls.append({"type": "function", "id": mark, "function": named})
        answers.append(
            {
                "role": "tool",
                "tool_call_id": mark,
                "name": result.call.name,
                "content": result.output,
            }
        )
    asked = {"role": "user", "content": "FOQUESTION"}
    called = {"role": "assistant", "content": "", "tool_calls": calls}
    try:
        text = chat.render(tokenizer, [asked, called, *answers])
    except CheckpointError:
        return None
    end = tokenizer.decode([parts.end_id])
    after = text.rfind(VALUE, 0, text.find(results[0].output)) if results[0].output else -1
    start = text.find(end, after) if after >= 0 else -1
    if start < 0:
        return None
    body, suffix = text[start:], tokenizer.decode(parts.user_suffix_ids)
    if suffix and body.endswith(suffix):
        return chat.encode(tokenizer, body[: -len(suffix)]), parts.user_suffix_ids
    return chat.encode(tokenizer, body), []
