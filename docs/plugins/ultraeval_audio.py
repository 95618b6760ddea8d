"""A model of UltraEval-Audio that asks a running ``fo serve``.

Copy this file to ``audio_evals/models/freeze_omni.py`` of UltraEval-Audio and ``freeze_omni.yaml``
beside it to ``registry/model/``; it needs the packages websockets, numpy, soundfile and soxr there.
Then, with ``fo serve --model MODEL`` running:

    python audio_evals/main.py --dataset llama-questions-s2t --model freeze-omni-text
    python audio_evals/main.py --dataset llama-questions-s2s --model freeze-omni

The answer is text, or ``{"audio": FILE, "text": TEXT}`` as its speech-to-speech tasks read it.
"""

import base64
import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from audio_evals.base import PromptStruct
from audio_evals.models.model import APIModel
from websockets.sync.client import connect

RATE = 24000  # of the sound on the wire, both ways
PIECE = RATE // 5  # samples an event: 200 ms


class FreezeOmni(APIModel):
    """One question, one answer, over the Realtime protocol; every question is a new session.

    Args:
        url: Of the server, ``ws://HOST:PORT/v1/realtime``.
        speak: False: the text of the answer only.
        folder: Where the spoken answers are kept.
        api_key: If the server wants one.
        sample_params: UltraEval-Audio's own; the server's settings count.
    """

    def __init__(
        self,
        url="ws://127.0.0.1:8000/v1/realtime",
        speak=True,
        folder="tmp",
        api_key="",
        sample_params=None,
    ):
        super().__init__(True, sample_params)
        self.url, self.speak, self.folder, self.api_key = url, speak, Path(folder), api_key

    def _inference(self, prompt: PromptStruct, **kwargs) -> str:
        sound, instructions = None, None
        for message in prompt:
            for part in message["contents"]:
                if part["type"] == "audio":
                    sound = part["value"]
                elif message.get("role") == "system":
                    instructions = part["value"]
        text, wave = self._ask(_samples(sound), instructions)
        if not self.speak:
            return text
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".wav", delete=False, dir=self.folder) as file:
            soundfile.write(file.name, wave, RATE, format="WAV")
        return json.dumps({"audio": file.name, "text": text}, ensure_ascii=False)

    def _ask(self, samples, instructions):
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        with connect(self.url, additional_headers=headers, max_size=None) as socket:
            session = {
                "type": "realtime",
                "output_modalities": ["audio" if self.speak else "text"],
                "audio": {"input": {"turn_detection": None}},  # the question ends where we say
            }
            if instructions:
                session["instructions"] = instructions
            _send(socket, {"type": "session.update", "session": session})
            for start in range(0, len(samples), PIECE):
                piece = base64.b64encode(samples[start : start + PIECE].tobytes()).decode()
                _send(socket, {"type": "input_audio_buffer.append", "audio": piece})
            _send(socket, {"type": "input_audio_buffer.commit"})
            _send(socket, {"type": "response.create"})
            return _answer(socket)


def _answer(socket):
    """Text and samples of the response."""
    text, sound = "", b""
    for message in socket:
        event = json.loads(message)
        kind = event["type"]
        if kind in ("response.output_text.delta", "response.output_audio_transcript.delta"):
            text += event["delta"]
        elif kind == "response.output_audio.delta":
            sound += base64.b64decode(event["delta"])
        elif kind == "error":
            raise RuntimeError(event["error"].get("message", str(event["error"])))
        elif kind == "response.done":
            status = event["response"]["status"]
            if status == "failed":
                raise RuntimeError(f"the response failed: {event['response']}")
            return text.strip(), np.frombuffer(sound, dtype="<i2")
    raise RuntimeError("the server closed the connection before the answer was complete")


def _samples(path):
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    wave = soxr.resample(wave.mean(axis=1), rate, RATE)
    return (np.clip(wave, -1, 1) * 32767).astype("<i2")


def _send(socket, event):
    socket.send(json.dumps(event))
