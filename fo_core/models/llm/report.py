"""What a loader took of an LLM, and what the LLM was found able to do."""

from __future__ import annotations

from dataclasses import dataclass

from fo_core.errors import CheckpointError
from fo_core.models.llm import checks, reasoning
from fo_core.models.llm.backbone import LlamaBackbone
from fo_core.models.llm.frozen_llm import FrozenLLM


@dataclass(frozen=True)
class LLMReport:
    """Facts of a loaded LLM; JSON-ready."""

    spec: str  # what was asked for
    architecture: str  # name of the model's class
    path: str  # "own layers" or "transformers"
    why: str  # that path
    dtype: str  # of the weights as they are kept
    computes_in: str  # dtype of the states
    parameters: int
    vocabulary: int  # rows of the embedding
    width: int  # H
    context: int | None  # positions; None = the config names no limit
    window: int  # shortest sliding window of its layers; 0 = none
    end_tokens: tuple[str, ...]  # that end an answer
    thoughts: str  # how they are kept from answers
    tied: bool  # the output's weight is the embedding
    quantised: str  # method; "" = none
    verdicts: dict[str, str]  # talks, trains, batches, rolls back: "yes", or what is wrong

    @property
    def usable(self) -> bool:
        """Whether nothing is wrong."""
        return all(verdict.startswith("yes") for verdict in self.verdicts.values())


def make_report(llm: FrozenLLM) -> LLMReport:
    """Try a loaded LLM and say what it is."""
    own = isinstance(llm.backbone, LlamaBackbone)
    found = checks.findings(llm)
    try:
        llm.chat_parts("Be brief.", (("Hi", "Hello."),))
    except CheckpointError as error:
        found["talks"] = found["talks"] or str(error)
    verdicts = {name: f"no: {fault}" if fault else "yes" for name, fault in found.items()}
    if not own and verdicts["batches"] == "yes":
        verdicts["batches"] = "yes, but talks of several users one after the other"
    template = getattr(llm.tokenizer, "chat_template", None)
    return LLMReport(
        spec=llm.spec,
        architecture=llm.facts.architecture,
        path=path_of(llm),
        why=llm.facts.why,
        dtype=_short(llm.stored),
        computes_in=_short(llm.dtype),
        parameters=sum(p.numel() for p in llm.parameters()),
        vocabulary=llm.vocab_size,
        width=llm.width,
        context=llm.facts.context,
        window=llm.backbone.window,
        end_tokens=_ends(llm),
        thoughts=reasoning.switch(str(template or "")),
        tied=llm.backbone.tied,
        quantised=llm.facts.quantised,
        verdicts=verdicts,
    )


def path_of(llm: FrozenLLM) -> str:
    """Which layers an LLM runs on."""
    return "own layers" if isinstance(llm.backbone, LlamaBackbone) else "transformers"


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _ends(llm: FrozenLLM) -> tuple[str, ...]:
    return tuple(str(llm.tokenizer.convert_ids_to_tokens(i)) for i in sorted(llm.end_ids))


def one_line(llm: FrozenLLM, context: int | None = None) -> str:
    """How a loaded LLM runs, for a note when a command begins.

    Args:
        llm: The LLM.
        context: Positions after which a talk forgets; None: no talk.
    """
    own = llm.facts.context
    parts = [
        f"LLM {llm.spec}: {llm.facts.architecture} on {path_of(llm)} ({llm.facts.why})",
        f"{_short(llm.stored)}",
        f"ends with {' '.join(_ends(llm))}",
    ]
    if context is not None:
        limit = "" if own is None else f" of the LLM's {own}"
        parts.append(f"a talk keeps {context} positions{limit}")
    elif own is not None:
        parts.append(f"context {own}")
    return "; ".join(parts)
