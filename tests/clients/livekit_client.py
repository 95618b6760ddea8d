"""LiveKit's RealtimeModel talks to a server: two turns, a tool, an interruption; prints a story.

Run by tests/fo_core/server/test_clients.py with the interpreter that has the package. With
recordings as further arguments it speaks into a microphone and interrupts by voice, else it types.
"""

import asyncio
import json
import sys

import aiohttp
from livekit import rtc
from livekit.agents import llm
from livekit.plugins.openai import realtime
from microphone import RATE, Microphone
from openai.types.realtime.realtime_audio_input_turn_detection import ServerVad


@llm.function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return "sunny"


async def hear(generation: llm.GenerationCreatedEvent, stop_after: int = 0, stop=None) -> dict:
    """All of a generation; ``stop_after``: samples after which it is interrupted, by ``stop``."""
    texts, samples, calls, by_voice = [], 0, [], stop is not None

    async def messages() -> None:
        nonlocal samples, stop
        async for message in generation.message_stream:

            async def words(message=message) -> None:
                async for delta in message.text_stream:
                    texts.append(str(delta))

            reader = asyncio.create_task(words())
            async for frame in message.audio_stream:
                samples += frame.samples_per_channel
                if not stop_after or samples < stop_after:
                    continue
                if by_voice:
                    if stop is not None:
                        stop()
                    stop = None
                else:
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


async def give_results(calls: list) -> None:
    context = session.chat_ctx.copy()
    for call in calls:
        output = llm.FunctionCallOutput(call_id=call.call_id, output="sunny", is_error=False)
        context.items.append(output)
    await session.update_chat_ctx(context)


async def by_typing() -> list[dict]:
    async def say(text: str) -> None:
        context = session.chat_ctx.copy()
        context.add_message(role="user", content=text)
        await session.update_chat_ctx(context)

    await say("How is it in Rome?")
    first = await hear(await session.generate_reply())
    await give_results(first["calls"])
    second = await hear(await session.generate_reply())
    await say("Tell me more.")
    third = await hear(await session.generate_reply(), stop_after=100)
    await asyncio.sleep(0.5)
    await say("Thanks.")
    return [first, second, third, await hear(await session.generate_reply())]


async def by_voice(recordings: list[str]) -> list[dict]:
    made: asyncio.Queue[llm.GenerationCreatedEvent] = asyncio.Queue()
    session.on("generation_created", made.put_nowait)

    async def send(block: bytes) -> None:
        session.push_audio(rtc.AudioFrame(block, RATE, 1, len(block) // 2))

    microphone = Microphone(recordings, send)
    sound = asyncio.create_task(microphone.run())
    microphone.speak()
    first = await hear(await made.get())
    await give_results(first["calls"])
    await session.generate_reply()
    second = await hear(await made.get())
    await asyncio.sleep(1.0)  # it is played
    microphone.speak()
    third = await hear(await made.get(), 100, microphone.speak)
    fourth = await hear(await made.get())
    sound.cancel()
    return [first, second, third, fourth]


async def main(port: str, recordings: list[str]) -> None:
    global session
    errors: list[str] = []
    async with aiohttp.ClientSession() as http, asyncio.timeout(100):
        model = realtime.RealtimeModel(
            api_key="none",
            base_url=f"http://127.0.0.1:{port}/v1",
            turn_detection=ServerVad(type="server_vad") if recordings else None,
            http_session=http,
        )
        session = model.session()
        session.on("error", lambda event: errors.append(str(event.error)))
        await session.update_instructions("Be brief.")
        await session.update_tools([get_weather])
        heard = await (by_voice(recordings) if recordings else by_typing())
        await session.aclose()
    story = {
        "asked": [json.loads(call.arguments)["city"] for call in heard[0]["calls"]],
        "errors": errors,
        "audio": sum(one["samples"] for one in heard),
        "said": [one["text"] for one in heard],
    }
    sys.stdout.write(json.dumps(story) + "\n")


asyncio.run(main(sys.argv[1], sys.argv[2:]))
