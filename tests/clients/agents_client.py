"""openai-agents talks to a server: two turns, a tool, an interruption; prints its story as JSON.

Run by tests/fo_core/server/test_clients.py with the interpreter that has the package. With
recordings as further arguments it speaks into a microphone and interrupts by voice, else it types.
"""

import asyncio
import json
import sys

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from microphone import Microphone

asked: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "sunny"


async def main(port: str, recordings: list[str]) -> None:
    agent = RealtimeAgent(name="Guide", instructions="Be brief.", tools=[get_weather])
    url = f"ws://127.0.0.1:{port}/v1/realtime?model=tiny"
    config = {"api_key": "none", "url": url}
    if recordings:
        config["initial_model_settings"] = {"turn_detection": {"type": "server_vad"}}
    session = await RealtimeRunner(agent).run(model_config=config)
    errors: list[str] = []
    audio: list[int] = []
    done = 0
    microphone = Microphone(recordings, session.send_audio)

    async def say(text: str, calm: bool = True) -> None:
        if not recordings:
            await session.send_message(text)
            return
        await asyncio.sleep(1.0 if calm else 0.0)  # the answer before is played
        microphone.speak()

    async with session, asyncio.timeout(100):
        sound = asyncio.create_task(microphone.run()) if recordings else None
        await say("How is it in Rome?")
        interrupted = False
        async for event in session:
            if event.type == "error":
                errors.append(str(event.error))
            if event.type == "audio":
                audio.append(len(event.audio.data))
                if done >= 2 and not interrupted:
                    interrupted = True
                    if recordings:
                        await say("Thanks.", calm=False)
                    else:
                        await session.interrupt()
            if event.type == "raw_model_event" and event.data.type == "turn_ended":
                done += 1
                if done == 2:  # after the call's reply and the result's
                    await say("Tell me more.")
                if done == 3 and not recordings:
                    await say("Thanks.")
                if done == 4:
                    break
        if sound is not None:
            sound.cancel()
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


asyncio.run(main(sys.argv[1], sys.argv[2:]))
