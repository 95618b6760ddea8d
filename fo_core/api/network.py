"""A model's parts, loaded and packed for inference: what the ``fo`` program and the API share."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fo_core.devices.compute import choose

if TYPE_CHECKING:
    from fo_core.dialogue.settings import DialogueConfig
    from fo_core.layers.packed import Weights
    from fo_core.models.freeze_omni import FreezeOmni
    from fo_core.models.precision import Precision

WITHOUT_AVX2 = ("DEFAULT", "NO AVX")  # what torch calls an x86 CPU that has none
TALKING = ("speech_encoder", "adapter", "state_head", "speech_decoder", "codec")


def load_network(
    folder: Path,
    dialogue: DialogueConfig,
    weights: str = "auto",
    device: str = "auto",
    parts: tuple[str, ...] = TALKING,
    said: Callable[[str], None] | None = None,
) -> FreezeOmni:
    """A model's parts, packed for inference.

    Args:
        folder: Model folder.
        dialogue: How it is to talk.
        weights: As of :func:`load`.
        device: As of :func:`load`.
        parts: Which ones must be trained.
        said: Told of an LLM that runs through transformers, or whose context is short, a slow CPU,
            and a precision that was measured just now.

    Raises:
        FoError: There is no such device.
        CheckpointError: The folder holds no model, or lacks one of ``parts``.
    """
    device = choose(device)

    import torch

    from fo_core.dialogue.settings import effective_context
    from fo_core.models.freeze_omni import load
    from fo_core.models.llm.report import one_line, path_of
    from fo_core.models.packing import pack_for_inference

    x86 = platform.machine().lower() in ("x86_64", "amd64")
    slow = x86 and torch.backends.cpu.get_cpu_capability() in WITHOUT_AVX2
    if said is not None and device == "cpu" and slow:
        said("this CPU has no AVX2: all works, but several times slower than with it")
    model = load(folder, device=device)
    bounded = (model.llm.facts.context or dialogue.duplex.context) < dialogue.duplex.context
    if said is not None and (bounded or path_of(model.llm) != "own layers"):
        said(one_line(model.llm, effective_context(model.llm, dialogue)))
    if dialogue.duplex.turn.detect == "server":  # voice and silence end a turn
        parts = tuple(part for part in parts if part != "state_head")
    model.require(*parts)
    return pack_for_inference(model, _precision(model, weights, dialogue, said))


def _precision(
    model: FreezeOmni, asked: str, dialogue: DialogueConfig, said: Callable[[str], None] | None
) -> Precision:
    """How to lay the weights out for a way of talking."""
    from fo_core.models.precision import Precision, choose

    if asked != "auto":
        return Precision.of(cast("Weights", asked))
    if dialogue.compat == "official":
        return Precision.of("same")
    choice = choose(model)
    if said is not None and choice.fresh:
        said(f"measured on this CPU, once: {choice}")
    return choice.precision
