"""LiveKit's RealtimeModel talks to a server: two turns, a tool, an interruption; prints a story.

Run by tests/fo_core/server/test_clients.py with the interpreter that has the package.
"""

import asyncio
import json
import sys

import aiohttp
from livekit.agents import llm
from livekit.plugins.openai import realtime


@llm.function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return "sunny"


async def hear(generation: llm.GenerationCreatedEvent, stop_after: int = 0) -> dict:
    """All of a generation; ``stop_after``: samples after which it is interrupted."""
    texts, samples, calls = [], 0, []

    async def messages() -> None:
        nonlocal samples
        async for message in generation.message_stream:

            async def words(message=message) -> None:
                async for delta in message.text_stream:
                    texts.append(str(delta))

            reader = asyncio.create_task(words())
            async for frame in message.audio_stream:
                samples += frame.samples_per_channel
                if stop_after and samples >= stop_after:
                    session.interrupt()
                    session.truncate(
                        message_id=message.message_id, modalities=["audio"], audio_end_ms=10
                    )
                    break
            if stop_after:
                reader.cancel()
            else:
                await reader

    async def functions() -> None:
        async for call in generation.function_stream:
            calls.append(call)

    await asyncio.gather(messages(), functions())
    return {"text": "".join(texts), "samples": samples, "calls": calls}


async def main(port: str) -> None:
    global session
    errors: list[str] = []
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        model = realtime.RealtimeModel(
            api_key="none",
            base_url=f"http://127.0.0.1:{port}/v1",
            turn_detection=None,
            http_session=http,
        )
        session = model.session()
        session.on("error", lambda event: errors.append(str(event.error)))
        await session.update_instructions("Be brief.")
        await session.update_tools([get_weather])
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="How is it in Rome?")
        await session.update_chat_ctx(context)
        first = await hear(await session.generate_reply())
        context = session.chat_ctx.copy()
        for call in first["calls"]:
            context.items.append(
                llm.FunctionCallOutput(call_id=call.call_id, output="sunny", is_error=False)
            )
        await session.update_chat_ctx(context)
        second = await hear(await session.generate_reply())
        context = session.chat_ctx.copy()
        context.add_message(role="user", content="Tell me more.")
        await session.update_chat_ctx(context)
        third = await hear(await session.generate_reply(), stop_after=100)
        await asyncio.sleep(0.5)
        context = session.chat_ctx.copy()
        context.add_message(role="user", content="Thanks.")
        await session.update_chat_ctx(context)
        fourth = await hear(await session.generate_reply())
        await session.aclose()
    story = {
        "asked": [json.loads(call.arguments)["city"] for call in first["calls"]],
        "errors": errors,
        "audio": first["samples"] + second["samples"] + fourth["samples"],
        "said": [first["text"], second["text"], third["text"], fourth["text"]],
    }
    sys.stdout.write(json.dumps(story) + "\n")


asyncio.run(main(sys.argv[1]))
