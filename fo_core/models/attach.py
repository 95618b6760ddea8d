"""A trained model's ears and voice around another LLM, without training.

What is heard leaves the model as words (a CTC head over pieces of spelling, an adapter that writes
words in the LLM's own tokens) and what is spoken is read as spelling, so neither knows the LLM.
What does know it (task and prompt vectors, state head, the prefix stack) is skipped until
a stage trains it with the new LLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from fo_core.config import replace
from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import load_into, load_tensors
from fo_core.models import freeze_omni
from fo_core.models.adapter.conv_adapter import ConvAdapterConfig
from fo_core.models.adapter.word_adapter import WordAdapter, WordAdapterConfig
from fo_core.models.decoder.duration_decoder import DurationDecoderConfig
from fo_core.models.encoder.piece_lm import PieceLM
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig
from fo_core.models.llm import source as llm_source
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.model_config import CtcConfig

Fate = Literal["kept", "rewritten", "untrained"]
GRU = 128  # width of a new state head where the old one is linear: the adapter writes words


@dataclass(frozen=True)
class PartFate:
    """What becomes of a part."""

    part: str
    fate: Fate
    why: str
    meanwhile: str = ""  # what stands in for an untrained one
    stage: str = ""  # what would make it better


@dataclass(frozen=True)
class Attached:
    """A model that was put on another LLM."""

    model: FreezeOmni
    fates: tuple[PartFate, ...]

    @property
    def speaks(self) -> bool:
        """Whether it has a voice without training."""
        return "speech_decoder" in self.model.trained


def attach(
    folder: Path, spec: str, dtype: str | None = None, llm: FrozenLLM | None = None
) -> Attached:
    """Put a model folder's parts around another LLM.

    Args:
        folder: Of the trained model.
        spec: The other LLM, as :meth:`FrozenLLM.load` takes it.
        dtype: Of its weights; None: the model's.
        llm: It, if it is loaded already.

    Raises:
        CheckpointError: The folder is no model, its ears can't be put on another LLM (the paper's
            convolutional adapter), or the LLM can't be used.
    """
    old = freeze_omni.read_config(folder)
    if isinstance(old.adapter, ConvAdapterConfig):
        raise CheckpointError(
            f"{folder}: its convolutional adapter writes into the space of {old.llm.spec!r} and "
            "can't be put on another LLM without training",
            possible="a model with adapter.type words, or ctc",
            do=f"train it: fo train --stage input-2 --model {folder} --llm {spec} ...",
        )
    if not (folder / "ctc_head.safetensors").is_file():
        raise CheckpointError(
            f"{folder} has no trained ctc_head, which is what writes the words",
            do="run the stage that trains it (input-1)",
        )
    kind = dtype or old.llm.dtype
    llm = llm or FrozenLLM.load(spec, kind)
    llm.chat_parts(old.llm.system, old.llm.shots)  # one without a template is said before any work
    config = _config(old, llm, spec, kind)
    model = freeze_omni.build(config, llm=llm)
    fates = list(_keep(folder, old, model))
    for part in (model.task, model.prompt, model.state_head):
        part.left_out = True
    return Attached(model, tuple(fates))


def _config(old: FreezeOmniConfig, llm: FrozenLLM, spec: str, dtype: str) -> FreezeOmniConfig:
    ctc = old.ctc
    if ctc.vocabulary == "tokens":
        ctc = CtcConfig(vocabulary="pieces", pieces=_pieces(old), zero=ctc.zero)
    adapter = old.adapter if isinstance(old.adapter, WordAdapterConfig) else WordAdapterConfig()
    decoder = old.speech_decoder
    if isinstance(decoder, DurationDecoderConfig):
        decoder = replace(decoder, prefix=False)
    return replace(
        old,
        llm=replace(old.llm, spec=spec, dtype=dtype, fingerprint=llm.fingerprint(), template=None),
        ctc=ctc,
        adapter=adapter,
        state_head=replace(old.state_head, gru=old.state_head.gru or GRU),
        speech_decoder=decoder,
    )


def _pieces(old: FreezeOmniConfig) -> tuple[str, ...]:
    """The strings of a head's classes that are tokens of the old LLM."""
    tokenizer = llm_source.read_tokenizer(llm_source.resolve(old.llm.spec))
    texts = [tokenizer.decode([token]) for token in old.ctc.tokens]
    odd = [text for text in texts if not text.strip() or "\ufffd" in text or " " in text[1:]]
    if odd or len(set(texts)) < len(texts):
        raise CheckpointError(
            f"{len(odd) or 'some'} classes of the CTC head are no pieces of spelling of their own, "
            f"such as {(odd or ['doubles'])[0]!r}",
            possible="a head over pieces (ctc.vocabulary: pieces)",
        )
    return tuple(texts)


def _keep(folder: Path, old: FreezeOmniConfig, model: FreezeOmni) -> Iterator[PartFate]:
    """Load what can be kept into the model, part by part."""
    for part in ("speech_encoder", "codec"):
        if _load(folder, part, model):
            yield PartFate(part, "kept", "it knows nothing of the LLM")
    _load(folder, "ctc_head", model)
    if isinstance(model.adapter, WordAdapter):
        model.adapter.attach_lm(PieceLM.load(folder, model.ctc_head.classes - 1))
    if old.ctc.vocabulary == "pieces":
        yield PartFate("ctc_head", "kept", "its classes are pieces of spelling")
    else:
        yield PartFate(
            "ctc_head", "rewritten", "its classes are read as the strings they stand for"
        )
    model.trained.add("adapter")  # as it begins: its gate is closed, it writes words and no more
    yield PartFate(
        "adapter", "rewritten", f"writes each word in the tokens of {model.config.llm.spec}",
        "nothing is added to the words", "input-2",
    )  # fmt: skip
    space = f"belongs to the space of {old.llm.spec}"
    yield PartFate("task", "untrained", space, "the task's text alone", "input-2")
    yield PartFate("prompt", "untrained", space, "the system text alone", "input-3")
    yield PartFate("state_head", "untrained", f"reads the states of {old.llm.spec}",
                   "a turn ends after silence, any voice interrupts", "input-3")  # fmt: skip
    if not isinstance(old.speech_decoder, DurationDecoderConfig):
        yield PartFate(
            "speech_decoder", "untrained", f"reads the text embeddings of {old.llm.spec}",
            "answers are written, not spoken", "output-2",
        )  # fmt: skip
    elif _load(folder, "speech_decoder", model):
        dropped = (
            "; its prefix of LLM hidden states is skipped" if old.speech_decoder.prefix else ""
        )
        yield PartFate("speech_decoder", "kept", f"it reads spelling{dropped}", "", "output-3")


def _load(folder: Path, part: str, model: FreezeOmni) -> bool:
    """Load a part's file, if there is one, without what in it belongs to the old LLM."""
    path = folder / f"{part}.safetensors"
    if not path.is_file():
        return False
    module: Any = getattr(model, part)
    own: dict[str, Tensor] = module.state_dict()
    tensors = load_tensors(path)
    bound = ("prefix.", "token_ids")  # of the old LLM
    tensors = {k: v for k, v in tensors.items() if k in own or not k.startswith(bound)}
    load_into(module, tensors, str(path))
    model.trained.add(part)
    return True


def card(attached: Attached, source: Path) -> str:
    """The README.md of a model folder that was made so."""
    rows = [f"| {f.part} | {f.fate} | {f.why} | {f.meanwhile or '-'} | {f.stage or '-'} |"
            for f in attached.fates]  # fmt: skip
    return "\n".join(
        [
            f"# {source.name} on {attached.model.config.llm.spec}",
            "",
            f"The ears and the voice of `{source}` around another frozen LLM, without training",
            "(`fo attach`).",
            "",
            "| part | is | because | meanwhile | better after stage |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
