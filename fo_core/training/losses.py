"""The losses of the input stages: CTC, transcript through the LLM, answer and dialogue states.

Each is a small frozen object with its options, called as ``loss(model, batch)``; ``"loss"`` is what
is minimised. Paper, section 2.2 and table of stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fo_core.errors import StageError
from fo_core.layers.masks import padding_mask
from fo_core.models.encoder.whisper_encoder import WhisperEncoder
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import ChatParts, encode
from fo_core.models.state_head import STATES
from fo_core.training.distil import text_divergence
from fo_core.training.error_rate import token_errors, word_errors
from fo_core.training.hearing import (
    Chunks,
    Heard,
    chunk_frames,
    encode_speech,
    speech_vectors,
    vectors_per_chunk,
)
from fo_core.training.llm_rows import (
    Dialogues,
    Rows,
    answer_ids,
    answer_loss,
    pack,
    run,
    run_with_probes,
)
from fo_core.training.specaugment import SpecAugmentConfig
from fo_core.training.stage import Batch, Ratio

TEACHER = "distillation_teacher"  # its name in the model while input-1 lasts


@dataclass(frozen=True)
class CtcLoss:
    """``input-1``: encoder and CTC head on transcripts.

    Attributes:
        chunks: How the encoder's chunk is chosen while training.
        hide: SpecAugment; None = none.
        ctc: Weight of the CTC loss; 0 = none, then no text is needed.
        distil: Weight of the distance to what Whisper's own encoder, which hears the whole
            utterance at once, makes of the same features; 0 = none. Not the paper's.
    """

    chunks: Chunks = "dynamic"
    hide: SpecAugmentConfig | None = None
    ctc: float = 1.0
    distil: float = 0.0

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        hidden = self.distil > 0
        heard = encode_speech(model, batch, self.chunks, self.ctc > 0, self.hide, hidden)
        values: dict[str, Tensor] = {}
        if heard.ctc_logits is not None:
            values["ctc"] = model.ctc_head.loss(heard.ctc_logits, heard.frame_lens, batch["text"])
        if heard.hidden is not None:
            values["distil"] = teacher_distance(getattr(model, TEACHER), heard)
        weights = {"ctc": self.ctc, "distil": self.distil}
        loss = torch.stack([weights[name] * value for name, value in values.items()]).sum()
        return {"loss": loss} | (values if len(values) > 1 else {})


def teacher_distance(teacher: WhisperEncoder, heard: Heard) -> Tensor:
    """Mean squared distance ``[]`` to a teacher that hears all, over the teacher's mean square."""
    assert heard.hidden is not None
    with torch.no_grad():
        rows = zip(heard.feats, heard.frame_lens.tolist(), strict=True)
        wanted = [teacher.whisper(feats[None, : 4 * size])[0] for feats, size in rows]
    target = torch.cat(wanted)  # [all frames of 20 ms, E], each utterance alone: no padding heard
    found = heard.hidden[padding_mask(2 * heard.frame_lens, heard.hidden.shape[1])]
    return (found - target).square().mean() / target.square().mean()


@dataclass(frozen=True)
class CtcMetrics:
    """Greedy error rates of classes and of words at the encoder's own chunk."""

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        heard = encode_speech(model, batch, "fixed", ctc=True)
        assert heard.ctc_logits is not None
        head = model.ctc_head
        said = head.greedy(heard.ctc_logits, heard.frame_lens)
        wanted = [head.vocabulary.encode(text) for text in batch["text"]]
        return {
            "token_error": token_errors(wanted, said),
            "wer": word_errors(batch["text"], [head.vocabulary.decode(row) for row in said]),
        }


@dataclass(frozen=True)
class TranscriptLoss:
    """``input-2``: the frozen LLM is to repeat what it hears; cross-entropy on the transcript.

    Attributes:
        chunks: How the encoder's chunk is chosen while training.
        task: Whether the task embeddings stand before the speech.
        ctc: Weight of the CTC loss beside it; 0 = none.
        kl: Weight of the divergence from the LLM that reads the transcript; 0 = none.
        answer_kl: Weight of the same for answers: the question heard in a dialogue, behind the
            prompt as it is, against the question typed. Items without an answer do not count.
        hide: SpecAugment; None = none.
    """

    chunks: Chunks = "dynamic"
    task: bool = True
    ctc: float = 0.0
    kl: float = 0.0
    answer_kl: float = 0.0
    hide: SpecAugmentConfig | None = None

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        ctc = self.ctc > 0 or model.adapter.requires_ctc
        heard = encode_speech(model, batch, self.chunks, ctc, self.hide)
        vectors = speech_vectors(model, heard)
        texts = [encode(model.llm.tokenizer, text) for text in batch["text"]]
        rows = self.rows(model, vectors, list(texts))
        hidden = run(model, rows)
        loss, accuracy, _ = answer_loss(model, rows, hidden)
        values = {"accuracy": accuracy}
        if self.ctc > 0 or self.kl > 0 or self.answer_kl > 0:
            values["transcript_loss"] = loss
        if self.kl > 0:
            parts, said = [self.parts(model)] * len(texts), batch["text"]
            values["kl"] = text_divergence(model, parts, said, texts, rows, hidden)
            loss = loss + self.kl * values["kl"]
        if self.answer_kl > 0:
            answer_kl = self._answers(model, batch, vectors)
            loss = loss + self.answer_kl * answer_kl
            values |= {"answer_kl": answer_kl} if any(batch["answer"]) else {}
        if self.ctc > 0:
            assert heard.ctc_logits is not None
            values["ctc_loss"] = model.ctc_head.loss(
                heard.ctc_logits, heard.frame_lens, batch["text"]
            )
            loss = loss + self.ctc * values["ctc_loss"]
        return {"loss": loss} | values

    def rows(
        self, model: FreezeOmni, vectors: list[Tensor], answers: list[list[int] | None]
    ) -> Rows:
        """LLM rows: the task's system text and embeddings, the speech, what is to be said."""
        task = model.task(1)[0] if self.task and model.task.used else None
        return pack(model, [self.parts(model)] * len(vectors), vectors, task, answers)

    @staticmethod
    def _answers(model: FreezeOmni, batch: Batch, vectors: list[Tensor]) -> Tensor:
        """Divergence of a batch's answers, read as ``input-3`` and a talk read them."""
        dialogues = Dialogues(model)
        parts = [dialogues.parts(messages) for messages in batch["messages"]]
        answers = answer_ids(model, batch["answer"])
        prompt = model.prompt(1)[0] if model.prompt.used else None
        rows = pack(model, parts, vectors, prompt, answers)
        return text_divergence(model, parts, batch["text"], answers, rows, run(model, rows))

    def parts(self, model: FreezeOmni) -> ChatParts:
        """Chat parts of the task: what the LLM is told to do with what it hears."""
        return model.chat_for(model.config.llm.task, model.config.llm.task_shots)


def listen_once(model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
    """What ``input-3`` needs of its frozen listening side, for a batch of one item."""
    heard = encode_speech(model, batch, "fixed", ctc=model.adapter.requires_ctc)
    values = {
        "vectors": speech_vectors(model, heard)[0],  # [N, H]
        "seen": vectors_per_chunk(model, heard)[0],  # [C]
    }
    if model.state_head.has_probe:
        values["chunks"] = chunk_frames(heard)[0]  # [C, 4, E]
    return values


@dataclass(frozen=True)
class AnswerLoss:
    """``input-3``: the LLM's own answer to the spoken question, and the state of each chunk.

    Both come from one pass of the LLM. Without a probe the state head reads the LLM at the last
    speech vector of each chunk; with one (an adapter that emits nothing in silence) at the probe.
    Items without an answer (a pause, a noise) count for the states only.

    Attributes:
        states: Weight of the state loss; 0 = not trained.
        class_weights: Weight of each state in its loss.
        answers: Whether answers are learned.
        kl: Weight of the divergence from the LLM that reads the question's text; 0 = none.
    """

    states: float = 1.0
    class_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    answers: bool = True
    kl: float = 0.0

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        rows, hidden, logits = self.read(model, batch)
        loss, accuracy, count = answer_loss(model, rows, hidden)
        values = {"answer_loss": loss, "answer_accuracy": accuracy} if count else {}
        if self.kl > 0 and self.answers:
            dialogues = Dialogues(model)
            parts = [dialogues.parts(messages) for messages in batch["messages"]]
            answers = answer_ids(model, batch["answer"])
            values["kl"] = text_divergence(model, parts, batch["text"], answers, rows, hidden)
            loss = loss + self.kl * values["kl"]
        if logits is not None:
            labels = state_labels(batch, logits)
            judged = labels >= 0
            if bool(judged.any()):
                weights = logits.new_tensor(self.class_weights)
                state_loss = F.cross_entropy(logits[judged], labels[judged], weights)
                right = logits[judged].argmax(-1) == labels[judged]
                values |= {"state_loss": state_loss, "state_accuracy": right.float().mean()}
                loss = loss + self.states * state_loss
        return {"loss": loss} | values

    def read(self, model: FreezeOmni, batch: Batch) -> tuple[Rows, Tensor, Tensor | None]:
        """One pass of the LLM: rows, their states, and state logits ``[B, C, 3]`` or None."""
        if "vectors" not in batch:
            raise StageError("input-3 needs its precomputed listening side")
        answers = answer_ids(
            model, batch["answer"] if self.answers else [""] * len(batch["vectors"])
        )
        dialogues = Dialogues(model)
        parts = [dialogues.parts(messages) for messages in batch["messages"]]
        prompt = model.prompt(1)[0] if model.prompt.used else None
        rows = pack(model, parts, batch["vectors"], prompt, answers)
        if not self.states:
            return rows, run(model, rows), None
        seen = torch.nn.utils.rnn.pad_sequence(batch["seen"], batch_first=True)  # [B, C]
        if model.state_head.has_probe:
            chunks = torch.nn.utils.rnn.pad_sequence(batch["chunks"], batch_first=True)
            B, C = seen.shape
            probes = model.state_head.probe(chunks.flatten(0, 1)).reshape(B, C, -1)
            hidden, at_chunks = run_with_probes(model, rows, probes, seen)
        else:
            hidden = run(model, rows)
            places = (rows.speech[:, None] + seen - 1).clamp(max=hidden.shape[1] - 1)
            at_chunks = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))
        return rows, hidden, model.state_head(at_chunks)[..., : len(STATES)].float()


@dataclass(frozen=True)
class StateMetrics:
    """F1 of every state over the held-out chunks."""

    loss: AnswerLoss

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        logits = self.loss.read(model, batch)[2]
        if logits is None:
            return {}
        labels = state_labels(batch, logits)
        guess = logits.argmax(-1)
        found: dict[str, Ratio | float] = {}
        for state, name in enumerate(STATES):
            told, true = (guess == state) & (labels >= 0), labels == state
            hits = 2.0 * int((told & true).sum())
            found[f"f1_{name}"] = (hits, float(int(told.sum()) + int(true.sum())))
        return found


def state_labels(batch: Batch, logits: Tensor) -> Tensor:
    """Labels ``[B, C]`` for logits ``[B, C, 3]``; -1 where there is none."""
    B, C, _ = logits.shape
    given = batch["states"].to(logits.device)[:, :C]
    labels = torch.full((B, C), -1, dtype=torch.long, device=logits.device)
    labels[:, : given.shape[1]] = given
    return labels.masked_fill(labels >= len(STATES), -1)
