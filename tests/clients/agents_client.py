"""openai-agents talks to a server: two turns, a tool, an interruption; prints its story as JSON.

Run by tests/fo_core/server/test_clients.py with the interpreter that has the package.
"""

import asyncio
import json
import sys

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner

asked: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "sunny"


async def main(port: str) -> None:
    agent = RealtimeAgent(name="Guide", instructions="Be brief.", tools=[get_weather])
    url = f"ws://127.0.0.1:{port}/v1/realtime?model=tiny"
    session = await RealtimeRunner(agent).run(model_config={"api_key": "none", "url": url})
    errors: list[str] = []
    audio: list[int] = []
    done = 0
    async with session, asyncio.timeout(60):
        await session.send_message("How is it in Rome?")
        interrupted = False
        async for event in session:
            if event.type == "error":
                errors.append(str(event.error))
            if event.type == "audio":
                audio.append(len(event.audio.data))
                if done >= 2 and not interrupted:
                    interrupted = True
                    await session.interrupt()
            if event.type == "raw_model_event" and event.data.type == "turn_ended":
                done += 1
                if done == 2:  # after the call's reply and the result's
                    await session.send_message("Tell me more.")
                if done == 3:
                    await session.send_message("Thanks.")
                if done == 4:
                    break
        said = [
            part.transcript
            for item in session._history
            if item.type == "message" and item.role == "assistant"
            for part in item.content
            if part.type == "audio"
        ]
    sys.stdout.write(
        json.dumps({"asked": asked, "errors": errors, "audio": sum(audio), "said": said}) + "\n"
    )


asyncio.run(main(sys.argv[1]))
