"""Stage ``output-3``: the prefix stack learns to use the LLM's hidden states for speech.

Paper, section 2.3: the finished decoder of ``output-2`` stays as it is.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from fo_core.config import config, to_dict
from fo_core.errors import DataError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import encode
from fo_core.training.losses.listening import (
    encode_speech,
    speech_vectors,
)
from fo_core.training.losses.llm_rows import Dialogues, pack, run
from fo_core.training.optim import OptimConfig
from fo_core.training.stage import Batch, Objective, Stage, StageOptions
from fo_core.training.stages.output_2 import SpeechLoss, SpeechSounds, check_share

Context = Literal["typed", "spoken", "both"]  # how the LLM reads the question


def answer_states(model: FreezeOmni, batch: Batch, context: Context = "typed") -> dict[str, Tensor]:
    """The LLM's states that predict each token of an answer, in rows of the decoder's width.

    The state that predicts the end is not used.

    Args:
        model: Its frozen LLM reads, after a spoken question what its frozen input branch hears.
        batch: Of one item. ``text`` is the answer. Task ``tts``: ``messages`` are the dialogue so
            far, question last. Task ``reply``: ``messages`` are the turns before ``question``, of
            which ``wave`` is the recording.
        context: The LLM reads the question typed, as the paper does, or spoken, as a session does;
            "both" gives either.

    Returns:
        ``prefix [P, D]``, for "both" also ``prefix_typed [P, D]``.

    Raises:
        DataError: The messages do not end with a question.
    """
    (text,), (messages,) = batch["text"], batch["messages"]
    found = {}
    if context != "typed":
        heard = encode_speech(model, batch, "fixed", ctc=model.adapter.requires_ctc)
        prompt = model.prompt(1)[0] if model.prompt.used else None
        found["prefix"] = _states(model, messages, speech_vectors(model, heard)[0], prompt, text)
        if context == "spoken":
            return found
        messages = [*messages, {"role": "user", "content": batch["question"][0]}]
    if not messages or messages[-1].get("role") != "user":
        name = getattr(batch["items"][0], "id", "?")
        raise DataError(f"item {name} has no question before its answer", do="write messages")
    question = model.llm.embed(encode(model.llm.tokenizer, messages[-1]["content"]))[0]
    typed = _states(model, messages[:-1], question, None, text)
    return found | {"prefix_typed" if found else "prefix": typed}


def _states(
    model: FreezeOmni,
    before: list[dict[str, str]],
    question: Tensor,
    prompt: Tensor | None,
    answer: str,
) -> Tensor:
    """States ``[P, D]`` that predict an answer after a question ``[N, H]``."""
    parts, ids = Dialogues(model).parts(before), encode(model.llm.tokenizer, answer)
    rows = pack(model, [parts], [question], prompt, [ids])
    hidden = run(model, rows)[rows.targets >= 0][:-1]  # [n, H], the last one predicts the end
    return model.llm.split(hidden.float(), model.speech_decoder.cfg.dim)


LISTENING = ("llm", "speech_encoder", "ctc_head", "adapter", "prompt")


TALKING = ("speech_encoder", "adapter", "prompt", "speech_decoder")  # of a spoken turn


@config
class Output3(StageOptions):
    """Options of ``output-3``."""

    after: ClassVar = ("output-2", "output-1")
    side: ClassVar = "assistant"
    speech_tokens: ClassVar = True
    new_llm: ClassVar = "the prefix reads the LLM's hidden states"
    type: Literal["output-3"] = "output-3"
    context: Context = "typed"  # the LLM reads the question typed (paper), spoken, or either
    chunks: float = 0.0  # share of the items whose text comes by the chunk (segmenter.chunk)
    optim: OptimConfig = OptimConfig(lr=5e-5)

    def __post_init__(self) -> None:
        check_share(self.chunks)

    def prepare(self, model: FreezeOmni) -> None:
        """The prefix stack, where the model has none yet.

        Raises:
            ConfigError: Text is to come by the chunk, which the decoder has not learned.
        """
        if self.chunks:
            model.require_chunks(f"stage.chunks is {self.chunks}")
        model.add_prefix()

    def build(self) -> Stage:
        """The stage."""
        states = partial(answer_states, context=self.context)
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="prefix stack learns to use the LLM's hidden states while the decoder speaks",
            objectives=(
                Objective(
                    "prefix",
                    ("speech_decoder.prefix.*",),
                    SpeechLoss(prefix=True, chunks=self.chunks),
                    self.optim,
                ),
            ),
            data="tts" if self.context == "typed" else "reply",
            starts_from=("speech_decoder",) if self.context == "typed" else TALKING,
            precompute=states,
            reads=("llm",) if self.context == "typed" else LISTENING,
            samples=SpeechSounds(states),
        )


OPTIONS = Output3
