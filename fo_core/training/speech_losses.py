"""The losses of the output stages: codec, text to speech tokens, LLM states to speech tokens.

Paper, section 2.3 and table of stages. The codec's own terms are in ``codec_losses``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fo_core.errors import DataError
from fo_core.models.decoder.duration_decoder import DurationDecoder
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import encode
from fo_core.training.codec_losses import CodecLosses
from fo_core.training.hearing import encode_speech, speech_vectors
from fo_core.training.llm_rows import Dialogues, pack, run
from fo_core.training.stage import Batch

DISCRIMINATORS = "codec_discriminators"  # their name in the model while output-1 lasts
_OUTPUT = "codec_output"
Context = Literal["typed", "spoken", "both"]  # how the LLM reads the question


@dataclass(frozen=True)
class CodecGeneratorLoss:
    """``output-1``, the codec: reconstruction, and fooling the discriminators once they train.

    Attributes:
        terms: Weighted terms.
        gan_from: First step with adversarial terms; None = never.
        exchange: The two halves of a crop exchange their global vectors: each is spoken with the
            voice of the other, so that the global tokens carry the voice and not the words.
    """

    terms: CodecLosses
    gan_from: int | None = None
    exchange: bool = False

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        wave = whole_tokens(batch["wave"], model.codec.hop)
        exchange = self.exchange and model.codec.training and wave.shape[1] >= 2 * model.codec.hop
        if exchange:
            wave = batch["wave"] = torch.cat(halves(wave, model.codec.hop))  # [2 B, S / 2]
        self.terms.to(wave.device)
        output = model.codec(wave, exchange)
        judges: nn.Module | None = None
        if self.gan_from is not None and batch["step"] >= self.gan_from:
            judges = getattr(model, DISCRIMINATORS)
        values = self.terms.generator_losses(output, wave, judges, exchange)
        batch[_OUTPUT] = output
        return {"loss": torch.stack(list(values.values())).sum(), **values}


@dataclass(frozen=True)
class CodecDiscriminatorLoss:
    """``output-1``, the discriminators: real waves from reconstructed ones."""

    terms: CodecLosses

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        wave = whole_tokens(batch["wave"], model.codec.hop)
        output = batch.pop(_OUTPUT, None)  # of the codec's own pass on this batch
        if output is None:
            with torch.no_grad():
                output = model.codec(wave)
        judges = getattr(model, DISCRIMINATORS)
        values = self.terms.discriminator_losses(output, wave, judges)
        return {"loss": torch.stack(list(values.values())).sum(), **values}


def halves(wave: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    """The two halves ``[B, S']`` of waves ``[B, S]``, in whole tokens."""
    size = wave.shape[1] // (2 * hop) * hop
    return wave[:, :size], wave[:, size : 2 * size]


def whole_tokens(wave: Tensor, hop: int) -> Tensor:
    """``[B, S]`` cut to whole tokens (at least one, zero-padded)."""
    size = max(hop, wave.shape[1] // hop * hop)
    return nn.functional.pad(wave, (0, max(0, size - wave.shape[1])))[:, :size]


def _pad(rows: list[Tensor], model: FreezeOmni) -> tuple[Tensor, Tensor]:
    lens = torch.tensor([len(row) for row in rows], device=model.device)
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded.to(model.speech_decoder.out.weight.dtype), lens


@dataclass(frozen=True)
class SpeechLoss:
    """``output-2`` and ``output-3``: text, and with a prefix the LLM's states, to speech tokens.

    Attributes:
        prefix: Read the LLM's hidden states (``output-3``).
    """

    prefix: bool = False

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        decoder = model.speech_decoder
        text, text_lens = decoder.text_input(model.llm, batch["text"])
        prefix: Tensor | None = None
        prefix_lens: Tensor | None = None
        if self.prefix:
            prefix, prefix_lens = _pad(self._prefix(model, batch), model)
        speech = batch["speech_tokens"], batch["token_lens"]
        if isinstance(decoder, DurationDecoder):
            known = {"counts": unit_counts(batch, text_lens), "sounds": batch["letter_sounds"]}
            found = decoder.loss(text, text_lens, *speech, prefix, prefix_lens, **known)
        else:
            found = decoder.loss(text, text_lens, *speech, prefix, prefix_lens)
        return {"loss": found.loss, "accuracy": found.accuracy} | found.terms

    def _prefix(self, model: FreezeOmni, batch: Batch) -> list[Tensor]:
        """States of every item; after "both" contexts one of the two is drawn while training."""
        rows, typed = batch["prefix"], batch.get("prefix_typed")
        stack = model.speech_decoder.prefix
        if typed is None or stack is None or not stack.training:
            return rows
        drawn = torch.rand(len(rows)) < 0.5
        return [b if other else a for a, b, other in zip(rows, typed, drawn, strict=True)]


def unit_counts(batch: Batch, lens: Tensor) -> Tensor:
    """Speech tokens of every unit of a batch's texts: ``[B, N]``, 0 behind each text.

    Raises:
        DataError: An item has no durations, or they are of another text or sound.
    """
    counts = torch.zeros(len(lens), int(lens.max()), dtype=torch.int64, device=lens.device)
    sizes = zip(lens.tolist(), batch["token_lens"].tolist(), strict=True)
    given = zip(batch["items"], batch["letter_tokens"], sizes, strict=True)
    for row, (item, tokens, (units, size)) in zip(counts, given, strict=True):
        if len(tokens) != units or sum(tokens) != size:
            raise DataError(
                f"item {getattr(item, 'id', '?')}: letter_tokens of {len(tokens)} units and "
                f"{sum(tokens)} tokens, where its text has {units} and its sound {size}",
                possible="one count for the start, each letter that is read, and the end",
                do="align the manifest again (fo prepare-data align)",
            )
        row[:units] = torch.tensor(tokens)
    return counts


def answer_states(model: FreezeOmni, batch: Batch, context: Context = "typed") -> dict[str, Tensor]:
    """The LLM's states that predict each token of an answer, in rows of the decoder's width.

    The state that predicts the end is not used.

    Args:
        model: Its frozen LLM reads, after a spoken question what its frozen listening side hears.
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
