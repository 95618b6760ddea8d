"""A model folder as :class:`eval.qa.Probe`: each link of the chain by itself, streaming inside."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.qa import Judge, Progress, Spoken, evaluate, questions
from fo_core.checkpoint import load_tensors
from fo_core.config import replace
from fo_core.data.manifest import Item
from fo_core.dialogue.answer import answer_wave
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.session import Session
from fo_core.dialogue.settings import DialogueConfig, read_dialogue
from fo_core.models.freeze_omni import FreezeOmni, load
from fo_core.sampling import SamplingConfig
from fo_core.streaming import CHUNK_SAMPLES
from fo_core.training.losses import TranscriptLoss

GREEDY = SamplingConfig(top_k=1)


class ModelProbe:
    """Asks a loaded model.

    Args:
        model: In eval mode.
        dialogue: How it talks. Its text is chosen greedily here, as the typed answers were.
        repeat_prompt: Prompt embeddings [P, H] that stage input-2 left, for :meth:`repeat`; stage
            input-3 trains them on for answering. None: the model's own.
    """

    def __init__(
        self, model: FreezeOmni, dialogue: DialogueConfig, repeat_prompt: Tensor | None = None
    ) -> None:
        self.model = model
        self.dialogue = replace(dialogue, sampling=GREEDY)
        self.repeat_prompt = repeat_prompt

    @torch.inference_mode()
    def _listen(self, wave: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encoder frames [1, T, E] and the adapter's vectors [N, H], chunk by chunk."""
        listener = Listener(self.model)
        heard = [listener.hear(chunk) for chunk in _chunks(wave)]
        vectors = torch.cat([h.embeds for h in heard] + [listener.flush()], dim=1)[0]
        return torch.cat([h.encoded for h in heard], dim=1), vectors

    @torch.inference_mode()
    def hear(self, wave: np.ndarray) -> str:
        """Greedy CTC of the streaming encoder."""
        frames, _ = self._listen(wave)
        ids = self.model.ctc_head.greedy(self.model.ctc_head(frames))[0]
        return self.model.llm.tokenizer.decode(ids)

    @torch.inference_mode()
    def repeat(self, wave: np.ndarray, max_tokens: int = 64) -> str:
        """The LLM's transcript, as stage input-2 teaches it: greedy, from the adapter's vectors."""
        model, llm = self.model, self.model.llm
        own = model.prompt.weight.data
        if self.repeat_prompt is not None:
            model.prompt.weight.data = self.repeat_prompt.to(own)
        try:
            rows = TranscriptLoss().rows(model, [self._listen(wave)[1]], [[]])
        finally:
            model.prompt.weight.data = own
        state = llm.init_state(1, rows.embeds.shape[1] + max_tokens)
        hidden, state = llm.step(rows.embeds.to(llm.dtype), state)
        ids: list[int] = []
        while len(ids) < max_tokens:
            best = int(llm.logits(hidden[:, -1]).argmax(-1))
            if best == llm.end_id:
                break
            ids.append(best)
            hidden, state = llm.step(llm.embed([best]), state)
        return llm.tokenizer.decode(ids, skip_special_tokens=True)

    def states(self, wave: np.ndarray, chunks: int) -> list[int]:
        """The likeliest state after each chunk, whatever the one before was."""
        session = Session(self.model, self.dialogue)
        padded = np.pad(wave, (0, max(0, chunks * CHUNK_SAMPLES - len(wave))))
        found = []
        for chunk in _chunks(padded)[:chunks]:
            p = session.listen(chunk, may_end=False).probabilities
            found.append(int(np.argmax([p.listen, p.answer, p.ignore])))
        return found

    def answer(self, wave: np.ndarray) -> Spoken:
        """The reply of a live talk: the state head ends the question, or the wave does."""
        given = answer_wave(self.model, torch.from_numpy(wave), self.dialogue)
        times, spoke = given.timings, bool(given.wave.numel())
        return Spoken(
            text=given.text,
            wave=given.wave.float().numpy(),
            first_audio_ms=times.first_audio_ms if spoke else None,
            rtf=times.rtf if spoke else None,
            ended_by=given.ended_by,
        )

    @torch.inference_mode()
    def codec(self, wave: np.ndarray) -> np.ndarray:
        """Through the codec's tokens and back, with the voice of the wave itself."""
        codec = self.model.codec
        padded = np.pad(wave, (0, -len(wave) % codec.hop))
        tokens, voice = codec.encode(torch.from_numpy(padded)[None].to(self.model.device))
        return codec.decode(tokens, voice)[0].float().cpu().numpy()[: len(wave)]


def _chunks(wave: np.ndarray) -> list[Tensor]:
    return list(torch.from_numpy(np.ascontiguousarray(wave)).split(CHUNK_SAMPLES))


def open_probe(folder: str | Path, repeat_from: str | Path | None = None) -> ModelProbe:
    """Open a model folder.

    Args:
        folder: The model.
        repeat_from: The model folder as stage input-2 left it; gives the prompt for repeating.

    Raises:
        CheckpointError: A folder or file is missing or damaged, or a part is untrained.
    """
    model = load(folder)
    model.require("speech_encoder", "adapter", "state_head", "speech_decoder", "codec")
    prompt = None
    if repeat_from is not None:
        prompt = load_tensors(Path(repeat_from) / "prompt.safetensors")["weight"]
    return ModelProbe(model, read_dialogue(folder), prompt)


def open_judge(name: str = "faster-whisper") -> Judge:
    """Open a recogniser by its name.

    Raises:
        EngineError: There is none of this name, or it cannot work here.
    """
    from fo_core.engines.asr import ASR

    return ASR.load(name).Engine()


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over the files that make a model folder what it is."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".json", ".safetensors"):
            digest.update(path.name.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256:{digest.hexdigest()}"


def evaluate_folder(
    folder: str | Path,
    user: Sequence[Item],
    assistant: Sequence[Item],
    out_dir: str | Path,
    judge: str = "faster-whisper",
    workers: int = 1,
    repeat_from: str | Path | None = None,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, Any]:
    """Measure a model folder on a held-out set; see :func:`eval.qa.evaluate`.

    Args:
        folder: The model.
        user: The set's spoken items, with answers, right answers and states where they have some.
        assistant: The answer voice speaking the answers.
        out_dir: Gets the results.
        judge: Name of the recogniser.
        workers: Processes side by side.
        repeat_from: See :func:`open_probe`.
        progress: Called with ("questions", done, all).
    """
    settings = f"{fingerprint(folder)} {judge} {repeat_from and fingerprint(repeat_from)}"
    return evaluate(
        questions(user, assistant),
        functools.partial(open_probe, folder, repeat_from),
        functools.partial(open_judge, judge),
        out_dir,
        settings,
        workers,
        progress,
    )
