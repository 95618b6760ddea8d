"""The stock client talks with the demo's own model, where there is one (`fo demo` makes it)."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")
DEMO = Path(os.environ.get("FO_DEMO", Path(__file__).resolve().parents[3] / "runs" / "demo"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DEMO / "model").is_dir(), reason="no demo model (make demo)"),
]
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def demo() -> Any:
    from fo_core.models.freeze_omni import load
    from fo_core.models.packing import pack_for_inference

    return pack_for_inference(load(DEMO / "model"))


def questions(count: int) -> list[tuple[str, str]]:
    """Text and base64 PCM (with silence after it) of the first held-out questions."""
    from fo_core.data.manifest import read
    from fo_core.io.audio import resample

    found = []
    for item in read(DEMO / "data" / "user" / "heldout_a.jsonl"):
        if item.kind == "question" and len(found) < count:
            wave = np.concatenate([resample(item.load_audio(16000), 16000, 24000), np.zeros(36000)])
            pcm = (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
            found.append((item.text, base64.b64encode(pcm).decode()))
    return found


@pytest.mark.parametrize("kind", ["semantic_vad", "server_vad", None])
def test_three_turns(kind: str | None, demo: Any, serve: Any, sdk: Any, checked: Any) -> None:
    from eval.metrics.wer import total, word_errors
    from fo_core.dialogue.settings import read_dialogue

    dialogue = read_dialogue(DEMO / "model")
    names = ("states", "history_chunks", "sampling", "segmenter", "speaker", "duplex")

    async def talk(server: Any) -> list[tuple[str, str, str]]:
        said = []
        async with sdk(server).realtime.connect(model="demo") as connection:
            detection = {"type": kind} if kind else None
            audio = {"input": {"turn_detection": detection, "transcription": {"model": "self"}}}
            await connection.session.update(session={"type": "realtime", "audio": audio})
            for text, sound in questions(3):
                await connection.input_audio_buffer.append(audio=sound)
                if kind is None:
                    await connection.input_audio_buffer.commit()
                    await connection.response.create()
                events, heard, samples = [], "", 0
                async with asyncio.timeout(120):
                    async for event in connection:
                        events.append(event.to_dict())
                        assert event.type != "error", event
                        if event.type == "conversation.item.input_audio_transcription.completed":
                            heard = event.transcript
                        if event.type == "response.output_audio.delta":
                            samples += len(base64.b64decode(event.delta)) // 2
                        if event.type == "response.done":
                            break
                checked(events)
                response = events[-1]["response"]
                assert response["status"] == "completed" and samples > 6000
                answer = response["output"][0]["content"][0]["transcript"]
                log.warning("%s | %s | %s | %s", kind, text, heard, answer)
                log.warning("first audio: %s ms", response["metadata"]["first_audio_ms"])
                said.append((text, heard, answer))
                await asyncio.sleep(samples / 24000 + 0.5)  # it is played to its end
        return said

    with serve(demo, talk={name: getattr(dialogue, name) for name in names}) as server:
        said = asyncio.run(talk(server))
        assert server.empty()
    assert total([word_errors(text, heard) for text, heard, _ in said]).rate < 0.4
    assert all(answer.strip() for _, _, answer in said)
