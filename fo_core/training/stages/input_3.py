"""Stage ``input-3``: prompt embeddings learn from the LLM's own answers, the state head turns.

Paper, section 2.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fo_core.config import config, to_dict
from fo_core.errors import ConfigError, StageError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.training.losses.listening import (
    chunk_frames,
    encode_speech,
    speech_vectors,
    vectors_per_chunk,
)
from fo_core.training.losses.llm_rows import (
    Rows,
    answer_ids,
    answer_loss,
    dialogue_rows,
    run,
    text_divergence,
)
from fo_core.training.losses.state_head import (
    StateMetrics,
    read_states,
    state_logits,
    state_loss,
)
from fo_core.training.optim import OptimConfig
from fo_core.training.stage import Batch, Objective, Stage, StageOptions


def listen_once(model: FreezeOmni, batch: Batch, llm: bool = False) -> dict[str, Tensor]:
    """What ``input-3`` needs of its frozen parts, for a batch of one item.

    Args:
        model: Its input branch is run.
        batch: The item.
        llm: Whether the LLM's states are kept as well: where no prompt embedding is trained, they
            stay the same.
    """
    heard = encode_speech(model, batch, "fixed", ctc=model.adapter.requires_ctc)
    seen, partials = vectors_per_chunk(model, heard)
    values = {
        "vectors": speech_vectors(model, heard)[0],  # [N, H]
        "seen": seen[0],  # [C]
        "partial": torch.cat(partials[0]),  # [P, H]
        "partials": torch.tensor([len(each) for each in partials[0]]),  # [C]
    }
    if llm:
        alone = {name: [value] for name, value in values.items()}
        rows = dialogue_rows(model, batch, alone["vectors"], [None])
        values = {"at_chunks": read_states(model, alone, rows)[1][0].to(model.llm.dtype)}  # [C, H]
    if model.state_head.gru is not None:
        values["chunks"] = chunk_frames(heard)[0].to(model.llm.dtype)  # [C, 4, E]
    return values


@dataclass(frozen=True)
class AnswerLoss:
    """``input-3``: the LLM's own answer to the spoken question, and the state of each chunk.

    Both come from one pass of the LLM. The state head reads it at the end of each chunk, behind
    the words that are not complete yet. Items without an answer (a pause, a noise) count for the
    states only.

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
        if not self.answers:
            return self._states_alone(model, batch)
        rows, hidden, logits = self.read(model, batch)
        loss, accuracy, count = answer_loss(model, rows, hidden)
        values = {"answer_loss": loss, "answer_accuracy": accuracy} if count else {}
        if self.kl > 0:
            values["kl"] = text_divergence(model, batch["text"], rows, hidden)
            loss = loss + self.kl * values["kl"]
        if logits is not None:
            found = state_loss(batch, logits, self.class_weights)
            values |= found
            if found:
                loss = loss + self.states * found["state_loss"]
        return {"loss": loss} | values

    def _states_alone(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(model, batch)
        assert logits is not None, "Input3 refuses to train nothing"
        found = state_loss(batch, logits, self.class_weights)
        return {"loss": self.states * found.get("state_loss", 0.0 * logits.sum())} | found

    def read(self, model: FreezeOmni, batch: Batch) -> tuple[Rows, Tensor, Tensor | None]:
        """One pass of the LLM: rows, their states, and state logits ``[B, C, 3]`` or None."""
        if "vectors" not in batch:
            raise StageError("input-3: batch lacks 'vectors': Stage.precompute did not run")
        rows = dialogue_rows(model, batch, batch["vectors"], answer_ids(model, batch["answer"]))
        if not self.states:
            return rows, run(model, rows), None
        hidden, at_chunks = read_states(model, batch, rows)
        return rows, hidden, state_logits(model, batch, at_chunks)

    def logits(self, model: FreezeOmni, batch: Batch) -> Tensor | None:
        """State logits ``[B, C, 3]`` of a batch; None while states are not trained."""
        if self.answers:
            return self.read(model, batch)[2]
        if "at_chunks" not in batch:
            raise StageError("input-3: batch lacks 'at_chunks': Stage.precompute did not run")
        return state_logits(model, batch, pad_sequence(list(batch["at_chunks"]), batch_first=True))


@config
class Input3(StageOptions):
    """Options of ``input-3``."""

    after: ClassVar = ("input-2", "input-1")
    new_llm: ClassVar = "prompt embeddings and state head belong to the LLM"
    type: Literal["input-3"] = "input-3"
    answers: bool = True  # train the prompt embeddings on the LLM's own answers
    states: float = 1.0  # weight of the state loss; 0 = the state head is not trained
    class_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of states 0, 1, 2
    # weight of the KL divergence from the LLM that reads the text (not in the paper)
    kl: float = 0.0
    optim: OptimConfig = OptimConfig(lr=6e-4)

    def __post_init__(self) -> None:
        if not (self.answers or self.states):
            raise ConfigError("stage.answers is false and stage.states 0: input-3 trains nothing",
                              do="set one of them")  # fmt: skip
        if self.kl and not self.answers:
            raise ConfigError(f"stage.kl is {self.kl:g}, and stage.answers is false",
                              do="leave stage.kl at 0")  # fmt: skip

    def build(self) -> Stage:
        """The stage."""
        loss = AnswerLoss(self.states, self.class_weights, self.answers, self.kl)
        trainable = (("prompt.*",) if self.answers else ()) + (
            ("state_head.*",) if self.states else ()
        )
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="prompt embeddings make the LLM answer speech; state head learns turn taking",
            objectives=(Objective("answer", trainable, loss, self.optim),),
            data="states" if self.states else "qa",
            starts_from=("speech_encoder", "adapter"),
            metrics=StateMetrics(loss.logits),
            precompute=partial(listen_once, llm=not self.answers),
            reads=("llm", "speech_encoder", "ctc_head", "adapter", "prompt", "state_head"),
        )


OPTIONS = Input3
