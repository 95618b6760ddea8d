"""Function tools: by the LLM's own template, called, answered, spoken; and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig, TurnConfig
from fo_core.dialogue.speech.segmenter import Segmenter, SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.tool_calls import CallSegmenter, ToolConfig
from fo_core.models.freeze_omni import PARTS
from fo_core.models.llm import chat
from fo_core.models.llm.tiny import CHATML
from fo_core.models.llm.tools import FALLBACK, ToolCall, ToolResult, results_ids, tool_format

LONG = SegmenterConfig(max_tokens=400, careful=False)  # room for calls, a token a byte
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
# the frame that Qwen's templates have, in our own words
NATIVE = (
    "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %}\n{{ tool | tojson }}"
    "{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer(mumbler: Any, monkeypatch: Any) -> Any:
    return mumbler.llm.tokenizer


def cut(tokenizer: Any, text: str, how: Any = FALLBACK, **limits: Any) -> CallSegmenter:
    cfg = SegmenterConfig(min_tokens=1, careful=False)
    found = CallSegmenter(Segmenter(tokenizer, cfg), tokenizer, how, **limits)
    found.pieces = [p for token in chat.encode(tokenizer, text) for p in found.push(token)]
    found.pieces += found.finish()
    return found


@pytest.mark.parametrize(
    ("text", "spoken", "calls"),
    [
        ("It is noon. Bye.", "It is noon. Bye.", 0),
        (CALL, "", 1),
        ("Let me look. " + CALL, "Let me look.", 1),
        (CALL + "\n" + CALL, "", 2),
        ("a < b and <tool> is no call", "a < b and <tool> is no call", 0),
        ("<tool_call>\n[" + CALL[12:-13] + "]\n</tool_call> Done.", " Done.", 1),
    ],
)
def test_calls_are_kept_out_of_the_speech(
    tokenizer: Any, text: str, spoken: str, calls: int
) -> None:
    found = cut(tokenizer, text)
    assert found.text == spoken and not found.faults
    assert found.calls == [ToolCall("get_weather", '{"city": "Rome"}')] * calls
    assert found.count == len(chat.encode(tokenizer, text))
    for piece in found.pieces:  # a piece knows which generated tokens it covers
        ids = chat.encode(tokenizer, text)[piece.start : piece.stop]
        assert tokenizer.decode(ids).strip() == piece.text_raw.strip()


def test_a_call_that_cannot_be_read_is_said(tokenizer: Any) -> None:
    found = cut(tokenizer, "<tool_call>{name: get_weather}</tool_call>")
    assert not found.calls and "no JSON" in found.faults[0] and not found.text


def test_one_call_is_all_where_parallel_calls_are_not_wanted(tokenizer: Any) -> None:
    assert cut(tokenizer, CALL, parallel=False).full and not cut(tokenizer, CALL).full


def test_the_form_of_calls_is_read_off_the_template(tokenizer: Any, monkeypatch: Any) -> None:
    assert tool_format(tokenizer) == FALLBACK  # ChatML alone knows no tools
    monkeypatch.setattr(tokenizer, "chat_template", NATIVE)
    found = tool_format(tokenizer)
    assert found.native and (found.open, found.close) == ("<tool_call>", "</tool_call>")
    assert found.lead == '<tool_call>\n{"name": "' and found.middle == '", "arguments": '
    bare = NATIVE.replace("\n<tool_call>\n", "").replace("\n</tool_call>", "")
    monkeypatch.setattr(tokenizer, "chat_template", bare.replace('"arguments"', '"parameters"'))
    found = tool_format(tokenizer)
    assert found.native and (found.open, found.close) == ("", "")
    text = '{"name": "get_weather", "parameters": {"city": "Rome"}}'
    assert cut(tokenizer, text, found).calls == [ToolCall("get_weather", '{"city": "Rome"}')]
    assert cut(tokenizer, "No {braces} first.", found).text == "No {braces} first."


def test_results_are_what_the_template_makes_of_them(tokenizer: Any, monkeypatch: Any) -> None:
    results = [
        ToolResult(ToolCall("get_weather", "{}"), f"call_{n}", text)
        for n, text in enumerate(("sunny", "cold"))
    ]
    for template in (CHATML, NATIVE):
        monkeypatch.setattr(tokenizer, "chat_template", template)
        parts, how = chat.parts_from_tokenizer(tokenizer, "Be brief."), tool_format(tokenizer)
        ids, suffix = results_ids(tokenizer, parts, how, results)
        text = tokenizer.decode([*ids, *suffix])
        assert text.startswith("<|im_end|>\n<|im_start|>user\n<tool_response>\nsunny\n")
        assert text.endswith("cold\n</tool_response><|im_end|>\n<|im_start|>assistant\n")


def test_tools_stand_in_the_system_text(mumbler: Any, monkeypatch: Any) -> None:
    llm = mumbler.llm
    for template, native in ((CHATML, False), (NATIVE, True)):
        monkeypatch.setattr(llm.tokenizer, "chat_template", template)
        mumbler.__dict__.pop("tool_format", None)
        assert mumbler.tool_format.native is native
        text = llm.tokenizer.decode(mumbler.chat_for("Be brief.", (), [WEATHER]).system_ids)
        assert "get_weather" in text and "The weather in a city." in text and "Be brief." in text
    mumbler.__dict__.pop("tool_format", None)


def duplex_with(model: Any, **choice: Any) -> Duplex:
    model.trained |= set(PARTS)
    talk = DialogueConfig(segmenter=LONG, speaker=SpeakerConfig(max_tokens=30))
    duplex = Duplex(model, talk, turn=TurnConfig(detect="manual"))
    duplex.send(do.Configure(tools=ToolConfig((WEATHER,), **choice)))
    return duplex


def ask(duplex: Duplex, *commands: Any) -> list[ev.DuplexEvent]:
    for command in commands:
        duplex.send(command)
    return list(duplex.run())


def of(events: list[ev.DuplexEvent], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_call_and_its_result_in_a_talk(mumbler: Any, scripted: Any) -> None:
    scripted("Let me look. " + CALL + CALL, "It is sunny.", "You are welcome.")
    duplex = duplex_with(mumbler)
    events = ask(duplex, do.HearText("How is it in Rome?"))
    calls, done = of(events, ev.FunctionCall), of(events, ev.ReplyDone)[0]
    assert [(c.name, c.arguments) for c in calls] == [("get_weather", '{"city": "Rome"}')] * 2
    assert done.text == "Let me look." and done.samples > 0 and done.status == "completed"
    assert done.usage.output_text > 60 and done.usage.output_audio > 0
    results = [do.HearResult(call.call_id, f"sunny {n}") for n, call in enumerate(calls)]
    events = ask(duplex, *results, do.Respond())
    assert of(events, ev.ReplyDone)[0].text == "It is sunny." and not of(events, ev.Error)
    turns = duplex.conversation.turns
    assert [len(turn.results) for turn in turns] == [0, 2]  # parallel results are one message
    read = mumbler.llm.tokenizer.decode  # what the LLM has read is what its template would say
    table = mumbler.llm.embedding_table
    rows = turns[1].heard[0][0]
    ids = [int((table - row).square().sum(-1).argmin()) for row in rows]
    assert "sunny 0\n</tool_response>\n<tool_response>\nsunny 1" in read(ids)
    events = ask(duplex, do.HearText("Thanks!"))
    assert of(events, ev.ReplyDone)[0].text == "You are welcome."
    wrong = of(ask(duplex, do.HearResult("call_x", "no", id="w")), ev.Error)[0]
    assert (wrong.code, wrong.cause) == ("no_such_call", "w")
    length = duplex.conversation.length
    duplex.unread = True  # and reading it again comes to the same
    ask(duplex)
    assert abs(duplex.conversation.length - length) <= 1


def test_an_interruption_leaves_the_calls_in_the_history(mumbler: Any, scripted: Any) -> None:
    scripted("Let me look. " + CALL, "It is sunny.")
    duplex = duplex_with(mumbler)
    events = ask(duplex, do.HearText("How is it in Rome?"))
    call = of(events, ev.FunctionCall)[0]
    assert of(ask(duplex, do.Interrupt()), ev.Interrupted)
    events = ask(duplex, do.HearResult(call.call_id, "sunny"), do.Respond())
    assert of(events, ev.ReplyDone)[0].text == "It is sunny."
    said = mumbler.llm.tokenizer.decode(duplex.conversation.turns[0].answer.token_ids)
    assert "get_weather" in said


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
def test_a_call_can_be_required(mumbler: Any, scripted: Any, choice: Any) -> None:
    scripted('{"city": "Rome"}}\n</tool_call>')  # the LLM writes on from the function's name
    events = ask(duplex_with(mumbler, choice=choice), do.HearText("Rome?"))
    assert of(events, ev.FunctionCall)[0].arguments == '{"city": "Rome"}'


def test_no_calls_where_they_are_not_wanted(mumbler: Any, scripted: Any) -> None:
    scripted("<tool_call> is what I would write.")
    events = ask(duplex_with(mumbler, choice="none"), do.HearText("Rome?"))
    assert not of(events, ev.FunctionCall)
    assert of(events, ev.ReplyDone)[0].text.startswith("<tool_call>")


async def until(connection: Any, *kinds: str) -> list[dict[str, Any]]:
    """Events up to one of these kinds."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        async for event in connection:
            found.append(event.to_dict())
            if event.type in kinds:
                return found
    raise AssertionError(f"closed before {kinds}")


def test_the_protocol_of_a_call(
    serve: Any, mumbler: Any, sdk: Any, checked: Any, scripted: Any
) -> None:
    async def talk(server: Any) -> None:
        async with sdk(server).realtime.connect(model="tiny") as connection:
            await until(connection, "conversation.created")
            tools = [{"type": "function", **WEATHER}]
            await connection.session.update(session={"type": "realtime", "tools": tools})
            (updated,) = await until(connection, "session.updated", "error")
            assert updated["session"]["tools"] == tools
            scripted("Let me look. " + CALL + CALL, "It is sunny.")
            content = [{"type": "input_text", "text": "Rome?"}]
            message = {"type": "message", "role": "user", "content": content}
            await connection.conversation.item.create(item=message)
            await connection.response.create()
            events = await until(connection, "response.done", "error")
            kinds = checked(events)
            call = [
                "response.output_item.added",
                "conversation.item.added",
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "response.output_item.done",
                "conversation.item.done",
            ]
            assert kinds[-13:] == call * 2 + ["response.done"]
            done = events[-1]["response"]
            assert [item["type"] for item in done["output"]] == ["message", *["function_call"] * 2]
            assert done["usage"]["total_tokens"] > 0 and done["status"] == "completed"
            previous = done["output"][-1]["id"]
            for item in done["output"][1:]:
                assert json.loads(item["arguments"]) == {"city": "Rome"}
                result = {"type": "function_call_output", "call_id": item["call_id"]}
                result |= {"output": '{"weather": "sunny"}'}
                await connection.conversation.item.create(item=result, previous_item_id=previous)
                found = await until(connection, "conversation.item.done", "error")
                previous = found[-1]["item"]["id"]
            await connection.response.create()
            events = await until(connection, "response.done", "error")
            checked(events)
            content = events[-1]["response"]["output"][0]["content"][0]
            assert content["transcript"] == "It is sunny."
            unknown = {"type": "function_call_output", "call_id": "call_x", "output": ""}
            await connection.conversation.item.create(item=unknown, event_id="mine")
            (wrong,) = await until(connection, "error")
            assert wrong["error"]["param"] == "item.call_id"
            assert wrong["error"]["event_id"] == "mine"

    with serve(mumbler, talk={"segmenter": LONG}) as server:
        asyncio.run(talk(server))
