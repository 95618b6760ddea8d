"""Answer one question, recorded or typed: what ``fo chat`` and evaluations do, with timings.

A question goes through the same :class:`Duplex` as a live talk, as fast as the model is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.reply import ReplyJob
from fo_core.dialogue.settings import DialogueConfig, for_file
from fo_core.errors import EngineError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.voices import VoiceChoice
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

PLAYED = 2**62  # samples: all of a reply


@dataclass
class Timings:
    """Where the time went; milliseconds unless said."""

    chunks: int = 0  # of 160 ms that were heard
    listen_ms: float = 0.0  # a chunk: features, encoder, adapter, LLM, state head (mean)
    listen_max_ms: float = 0.0  # the slowest chunk
    prefill_ms: float = 0.0  # end of the question → the LLM has read it
    first_text_ms: float = 0.0  # … → the first piece of text is written
    decoder_prefill_ms: float = 0.0  # … → the first speech token
    first_tokens_ms: float = 0.0  # … → the speech tokens of the first audio
    codec_ms: float = 0.0  # … → the first audio
    first_audio_ms: float = 0.0  # end of the question → first audio: the sum of the five above
    reply_ms: float = 0.0  # end of the question → the last audio
    reply_seconds: float = 0.0  # length of the reply's audio, s
    rtf: float = 0.0  # reply_ms over the length of the reply's audio; below 1 is real time
    listen_rtf: float = 0.0  # time to hear a chunk over its 160 ms
    underruns: int = 0  # pieces of audio made after all before them would have been played
    underrun_ms: float = 0.0  # silence in them


@dataclass
class FileAnswer:
    """The answer to a question."""

    text: str  # as the LLM wrote it
    wave: Tensor  # [S] float32 in [-1, 1]
    sample_rate: int  # of the wave, Hz
    # "respond": the state head; "input-end": the file ended first; "dismiss": it wants no answer;
    # "unheard": nothing was heard in it, so there is no answer; "text": it was typed
    ended_by: str
    timings: Timings = field(default_factory=Timings)
    states: list[tuple[float, float, float]] = field(default_factory=list)  # of every chunk
    finished: bool = True  # the LLM ended the answer by itself
    endless: bool = False  # a piece of speech was cut at its limit
    question: str = ""  # what the CTC head heard, or what was typed


def answer_wave(
    model: FreezeOmni,
    wave: Tensor,
    cfg: DialogueConfig | None = None,
    system: str | None = None,
    speak: bool = True,
    voice: VoiceChoice = None,
) -> FileAnswer:
    """Hear a question chunk by chunk and answer it.

    If the state head says that the user has finished, the rest of the wave is not heard; if it
    never does, the end of the wave ends the turn. Where nothing is heard (silence, hum, noise)
    nothing is answered.

    Args:
        model: In eval mode.
        wave: [S] at 16 kHz in [-1, 1], not empty.
        cfg: How the model talks, as read from its folder.
        system: System text instead of the model's own.
        speak: False: the answer is text only.
        voice: Another voice than the model's own.

    Raises:
        EngineError: The model failed.
        ConfigError: The model has no such voice.
    """
    return ask_wave(file_talk(model, cfg, system, speak, voice), wave)


def file_talk(
    model: FreezeOmni,
    cfg: DialogueConfig | None = None,
    system: str | None = None,
    speak: bool = True,
    voice: VoiceChoice = None,
) -> Duplex:
    """A talk of questions that come whole; arguments as of :func:`answer_wave`."""
    how = for_file(cfg or DialogueConfig())
    duplex = Duplex(model, how, system=system, voice=voice, speak=speak, eager=True)
    for _ in duplex.run():  # the system text is read
        pass
    return duplex


def ask_wave(duplex: Duplex, wave: Tensor) -> FileAnswer:
    """One recorded question [S] in a talk; the errors of :func:`answer_wave`."""
    return _Asked(duplex).hear(wave)


def ask_text(duplex: Duplex, text: str) -> FileAnswer:
    """One typed question in a talk; the errors of :func:`answer_wave`."""
    return _Asked(duplex).read(text)


class _Asked:
    """A question on its way to its answer."""

    def __init__(self, duplex: Duplex) -> None:
        self._duplex, self._spent = duplex, [0.0]
        rate = duplex.model.codec.sample_rate
        self._found = FileAnswer("", torch.zeros(0), rate, "unheard")
        self._pieces: list[np.ndarray] = []
        self._reply: ReplyJob | None = None
        self._over = False
        duplex.send(do.Played(PLAYED))  # of the answer before

    def hear(self, wave: Tensor) -> FileAnswer:
        for chunk in wave.split(CHUNK_SAMPLES):
            began = time.perf_counter()
            self._duplex.push(chunk)
            for event in self._duplex.run():
                if isinstance(event, ev.ChunkState):
                    self._spent.append(time.perf_counter() - began)
                self._see(event)
            if self._over:
                return self._done()
        self._duplex.send(do.Commit())
        return self._finish(self._duplex.run())

    def read(self, text: str) -> FileAnswer:
        self._duplex.send(do.HearText(text))
        return self._finish(self._duplex.run())

    def _finish(self, events: Iterator[ev.DuplexEvent]) -> FileAnswer:
        for event in events:
            self._see(event)
        return self._done()

    def _see(self, event: ev.DuplexEvent) -> None:
        found, timings = self._found, self._found.timings
        asked = self._reply.asked if self._reply is not None else event.time
        milliseconds = 1000 * (event.time - asked)
        if isinstance(event, ev.ChunkState):
            found.states.append((event.continue_, event.respond, event.dismiss))
        elif isinstance(event, ev.TurnEnded):
            found.ended_by = "input-end" if event.how == "commit" else event.how
            self._over = True
        elif isinstance(event, ev.Transcript):
            found.question = event.text
        elif isinstance(event, ev.ReplyStarted):
            self._reply = self._duplex.engine.reply
        elif isinstance(event, ev.TextDelta):
            timings.first_text_ms = timings.first_text_ms or milliseconds
            timings.reply_ms = milliseconds
        elif isinstance(event, ev.AudioDelta):
            timings.first_audio_ms = timings.first_audio_ms or milliseconds
            timings.reply_ms = milliseconds
            self._pieces.append(event.audio)
        elif isinstance(event, ev.ReplyDone):
            found.text, found.finished = event.text, event.status == "completed"
        elif isinstance(event, ev.Error) and event.code == "model":
            raise EngineError(f"the model failed: {event.message}")

    def _done(self) -> FileAnswer:
        found, timings, spent = self._found, self._found.timings, self._spent[1:] or [0.0]
        timings.chunks, timings.listen_max_ms = len(found.states), 1000 * max(spent)
        timings.listen_ms = 1000 * sum(spent) / len(spent)
        timings.listen_rtf = timings.listen_ms / (1000 * CHUNK_SAMPLES / SAMPLE_RATE)
        if self._pieces:
            found.wave = torch.from_numpy(np.concatenate(self._pieces))
        if self._reply is not None:
            limit = self._duplex.engine.cfg.speaker.max_tokens
            speaker = self._reply.speaker
            parts = speaker.parts if speaker else []
            found.endless = any(len(part.tokens) >= limit for part in parts)
            _legs(self._reply, timings, found.wave.numel() / found.sample_rate)
        return found


def _legs(reply: ReplyJob, timings: Timings, seconds: float) -> None:
    """Split the time to first audio into its legs."""
    timings.reply_seconds = seconds
    late = reply.playback.underruns
    timings.underruns, timings.underrun_ms = late.count, 1000 * late.seconds
    timings.rtf = timings.reply_ms / (1000 * seconds) if seconds else 0.0
    timings.prefill_ms = 1000 * (reply.read - reply.asked)
    timings.first_text_ms = max(timings.first_text_ms - timings.prefill_ms, 0.0)
    heard = [part for part in reply.speaker.parts if part.first_audio] if reply.speaker else []
    if not heard:
        return
    first, text_at = heard[0], reply.read + timings.first_text_ms / 1000
    prefilled = first.prefilled or first.first_chunk
    timings.decoder_prefill_ms = 1000 * (prefilled - text_at)
    timings.first_tokens_ms = 1000 * (first.first_chunk - prefilled)
    timings.codec_ms = timings.first_audio_ms - 1000 * (first.first_chunk - reply.asked)
