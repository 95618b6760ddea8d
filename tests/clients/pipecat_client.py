"""Pipecat's Realtime service talks to a server: two turns, a tool, an interruption.

Run by tests/fo_core/server/test_clients.py with the interpreter that has the package. With
recordings as further arguments it speaks into a microphone and interrupts by voice, else it types.
"""

import asyncio
import json
import sys

from loguru import logger
from microphone import RATE, Microphone
from pipecat.adapters.schemas.function_schema import FunctionSchema
from pipecat.adapters.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

logger.remove()
asked, errors, said, recordings = [], [], [], sys.argv[2:]
audio = 0


class Story(FrameProcessor):
    """Keeps what comes, and goes on with the talk."""

    def __init__(self) -> None:
        super().__init__()
        self.replies, self.interrupted, self.text = 0, False, ""

    async def process_frame(self, frame, direction: FrameDirection) -> None:
        global audio
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            errors.append(frame.error)
        if isinstance(frame, TTSTextFrame):
            self.text += frame.text
        if isinstance(frame, TTSAudioRawFrame):
            audio += len(frame.audio)
            if self.replies == 2 and not self.interrupted:
                self.interrupted = True
                if recordings:
                    microphone.speak()
                else:
                    await task.queue_frame(InterruptionFrame())
        if isinstance(frame, LLMFullResponseEndFrame):
            said.append(self.text)
            self.text = ""
            self.replies += 1
            if self.replies == 2:
                await say("Tell me more.")
            if self.replies == 3 and not recordings:  # cut off
                await say("Thanks.")
            if "Welcome" in said[-1]:
                await task.queue_frame(EndFrame())
        await self.push_frame(frame, direction)


async def say(text: str) -> None:
    if recordings:
        await asyncio.sleep(1.0)  # the answer before is played
        microphone.speak()
        return
    content = [events.ItemContent(type="input_text", text=text)]
    item = events.ConversationItem(role="user", type="message", content=content)
    await llm.send_client_event(events.ConversationItemCreateEvent(item=item))
    await llm.send_client_event(events.ResponseCreateEvent())


async def get_weather(params) -> None:
    asked.append(params.arguments["city"])
    await params.result_callback({"weather": "sunny"})


async def listen(block: bytes) -> None:
    await task.queue_frame(InputAudioRawFrame(audio=block, sample_rate=RATE, num_channels=1))


async def main(port: str) -> None:
    global llm, microphone, task
    voice = events.TurnDetection(type="server_vad") if recordings else False
    microphone = Microphone(recordings, listen)
    weather = FunctionSchema(
        name="get_weather",
        description="The weather in a city.",
        properties={"city": {"type": "string"}},
        required=["city"],
    )
    llm = OpenAIRealtimeLLMService(
        api_key="none",
        base_url=f"ws://127.0.0.1:{port}/v1/realtime",
        settings=OpenAIRealtimeLLMService.Settings(
            session_properties=events.SessionProperties(
                instructions="Be brief.",
                tools=ToolsSchema(standard_tools=[weather]) if recordings else None,
                audio=events.AudioConfiguration(input=events.AudioInput(turn_detection=voice)),
            ),
        ),
    )
    llm.register_function("get_weather", get_weather)
    messages = [] if recordings else [{"role": "user", "content": "How is it in Rome?"}]
    context = LLMContext(messages, tools=ToolsSchema(standard_tools=[weather]))
    pair = LLMContextAggregatorPair(context)
    task = PipelineTask(
        Pipeline([pair.user(), llm, Story(), pair.assistant()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
    )
    if not recordings:
        await task.queue_frame(LLMRunFrame())
    else:
        microphone.speak()
    sound = asyncio.create_task(microphone.run()) if recordings else None
    async with asyncio.timeout(100):
        await PipelineRunner(handle_sigint=False).run(task)
    if sound is not None:
        sound.cancel()


try:
    asyncio.run(main(sys.argv[1]))
finally:
    sys.stdout.write(
        json.dumps({"asked": asked, "errors": errors, "audio": audio, "said": said}) + "\n"
    )
