"""Answer one recorded question: what ``fo chat file`` does, streaming inside, with timings."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fo_core.dialogue.ear import holds_voice
from fo_core.dialogue.session import DialogueConfig, Session
from fo_core.dialogue.settings import for_file
from fo_core.dialogue.states import DialogueState
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE


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


@dataclass
class FileAnswer:
    """The answer to a recorded question."""

    text: str  # as the LLM wrote it
    wave: Tensor  # [S] float32 in [-1, 1]
    sample_rate: int  # of the wave, Hz
    # "answer": the state head; "input-end": the file ended first; "ignore": it wants no answer;
    # "unheard": nothing was heard in it, so there is no answer
    ended_by: str
    timings: Timings = field(default_factory=Timings)
    states: list[tuple[float, float, float]] = field(default_factory=list)  # of every chunk
    finished: bool = True  # the LLM ended the answer by itself
    endless: bool = False  # a piece of speech was cut at its limit


def answer_wave(
    model: FreezeOmni,
    wave: Tensor,
    cfg: DialogueConfig | None = None,
    system: str | None = None,
    speak: bool = True,
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
    """
    session = Session(model, for_file(cfg or DialogueConfig()), system)
    return answer_chunks(session, list(wave.split(CHUNK_SAMPLES)), speak)


def answer_chunks(session: Session, chunks: list[Tensor], speak: bool = True) -> FileAnswer:
    """The same on a session: one turn of ``chunks`` [2560] (the last may be shorter)."""
    timings, states, spent = Timings(), [], []
    duplex, voiced = session.cfg.duplex, None
    if not session.model.adapter.requires_ctc:
        voiced = holds_voice(torch.cat(chunks), duplex.vad, duplex.turn)
    for chunk in chunks:
        began = time.perf_counter()
        verdict = session.listen(chunk, voiced=voiced)
        spent.append(time.perf_counter() - began)
        p = verdict.probabilities
        states.append((p.listen, p.answer, p.ignore))
        if session.state is not DialogueState.LISTENING:
            break
    timings.chunks, timings.listen_max_ms = len(spent), 1000 * max(spent)
    timings.listen_ms = 1000 * sum(spent) / len(spent)
    timings.listen_rtf = timings.listen_ms / (1000 * CHUNK_SAMPLES / SAMPLE_RATE)
    rate = session.model.codec.sample_rate
    if session.state is DialogueState.LISTENING:
        if not session.was_heard():
            session.drop_turn()
            return FileAnswer("", torch.zeros(0), rate, "unheard", timings, states)
        session.end_turn()
    if session.state is DialogueState.IDLE:  # the state head wants no answer
        return FileAnswer("", torch.zeros(0), rate, "ignore", timings, states)
    pieces = []
    for event in session.reply(speak):
        if event.kind == "text":
            timings.first_text_ms = timings.first_text_ms or 1000 * event.seconds
        else:
            timings.first_audio_ms = timings.first_audio_ms or 1000 * event.seconds
            assert event.audio is not None
            pieces.append(event.audio)
        timings.reply_ms = 1000 * event.seconds
    audio = torch.cat(pieces) if pieces else torch.zeros(0)
    _legs(session, timings, audio.numel() / rate)
    turn = session.turns[-1]
    assert turn.answer is not None
    limit = session.cfg.speaker.max_tokens
    return FileAnswer(
        turn.answer.text,
        audio,
        rate,
        turn.event.value,
        timings,
        states,
        finished=turn.answer.ended,
        endless=any(len(part.tokens) >= limit for part in session.speaker.parts)
        if session.speaker
        else False,
    )


def _legs(session: Session, timings: Timings, seconds: float) -> None:
    """Split the time to first audio into its legs."""
    turn, speaker = session.turns[-1], session.speaker
    timings.reply_seconds = seconds
    timings.rtf = timings.reply_ms / (1000 * seconds) if seconds else 0.0
    timings.prefill_ms = 1000 * (turn.prefilled - turn.asked)
    timings.first_text_ms = max(timings.first_text_ms - timings.prefill_ms, 0.0)
    heard = [part for part in speaker.parts if part.first_audio] if speaker else []
    if not heard:
        return
    first, text_at = heard[0], turn.prefilled + timings.first_text_ms / 1000
    prefilled = first.prefilled or first.first_chunk
    timings.decoder_prefill_ms = 1000 * (prefilled - text_at)
    timings.first_tokens_ms = 1000 * (first.first_chunk - prefilled)
    timings.codec_ms = timings.first_audio_ms - 1000 * (first.first_chunk - turn.asked)
