"""Stage ``input-2``: the adapter learns the LLM's space: the frozen LLM repeats what it hears.

Paper, section 2.2. The CTC, KL and answer terms are additions for small data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fo_core.config import config, to_dict
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import ChatParts, encode
from fo_core.training.losses.listening import (
    Chunks,
    SpecAugmentConfig,
    encode_speech,
    speech_vectors,
)
from fo_core.training.losses.llm_rows import (
    Rows,
    answer_ids,
    answer_loss,
    dialogue_rows,
    pack,
    run,
    text_divergence,
)
from fo_core.training.optim import OptimConfig
from fo_core.training.stage import Batch, Objective, Stage, StageOptions


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
            values["kl"] = text_divergence(model, batch["text"], rows, hidden)
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
        rows = dialogue_rows(model, batch, vectors, answer_ids(model, batch["answer"]))
        return text_divergence(model, batch["text"], rows, run(model, rows))

    def parts(self, model: FreezeOmni) -> ChatParts:
        """Chat parts of the task: what the LLM is told to do with what it hears."""
        return model.chat_for(model.config.llm.task, model.config.llm.task_shots)


@config
class Input2(StageOptions):
    """Options of ``input-2``."""

    after: ClassVar = ("input-1",)
    new_llm: ClassVar = "the adapter writes into the LLM's space"
    type: Literal["input-2"] = "input-2"
    chunks: Chunks = "dynamic"  # as in input-1
    task: bool = True  # task embeddings stand before the speech and are trained
    ctc: float = 0.0  # weight of an additional CTC loss; above 0 the CTC head is trained too
    specaugment: SpecAugmentConfig | None = None  # as in input-1
    # weight of the KL divergence from the LLM that reads the text (not in the paper)
    kl: float = 0.0
    answer_kl: float = 0.0  # the same for the answers of items that have one (not the paper's)
    optim: OptimConfig = OptimConfig(lr=1e-4)
    trainable: tuple[str, ...] = ("speech_encoder.*", "adapter.*")  # globs, besides task, CTC

    def build(self) -> Stage:
        """The stage."""
        loss = TranscriptLoss(
            self.chunks, self.task, self.ctc, self.kl, self.answer_kl, self.specaugment
        )
        extra = (("task.*",) if self.task else ()) + (("ctc_head.*",) if self.ctc else ())
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="adapter learns the LLM's space: the frozen LLM repeats what it hears",
            objectives=(Objective("transcript", self.trainable + extra, loss, self.optim),),
            data="speech",
            starts_from=("speech_encoder",),
        )


OPTIONS = Input2
