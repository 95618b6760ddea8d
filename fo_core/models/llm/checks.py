"""What a loaded LLM is tried on: each check runs it on a few vectors and says what is wrong.

The checks compare the LLM with itself on the paths that a talk, a batch and a training step take,
so they hold for any architecture. An LLM that runs through transformers is tried when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fo_core.errors import CheckpointError, first_line

ROWS = 8  # vectors that are fed; more where a window is short
LONGEST = 64  # windows up to so many positions are filled


Backbone = Any  # a LlamaBackbone or HFBackbone
FrozenLLM = Any  # of frozen_llm.py, which imports this file
ATTENDING = "LLMs whose layers all attend to keys and values (Llama, Qwen, Gemma, ...)"


def findings(llm: FrozenLLM) -> dict[str, str]:
    """What is wrong with each thing that an LLM is to do; "" where nothing is."""
    checks = {"talks": talks, "trains": trains, "batches": batches, "rolls back": rolls_back}
    with torch.no_grad():
        rows = vectors(llm.backbone, llm.vocab_size, llm.device, llm.backbone.window)
    return {name: tried(check, llm.backbone, rows) for name, check in checks.items()}


def refuse_unfit(llm: FrozenLLM) -> None:
    """Refuse an LLM that can't do what it is to do, rather than in the middle of a talk.

    Raises:
        CheckpointError: A check failed.
    """
    faults = [f"{name}: {fault}" for name, fault in findings(llm).items() if fault]
    if faults:
        what = f"the LLM {llm.spec!r} ({llm.facts.architecture}) can't be used"
        raise CheckpointError(f"{what}: {'; '.join(faults)}", possible=ATTENDING)


def vectors(backbone: Backbone, vocab: int, device: torch.device, window: int = 0) -> Tensor:
    """Embeddings [1, N, H] of some tokens; N exceeds a window that is short enough."""
    count = window + 4 if 0 < window <= LONGEST else ROWS
    ids = (torch.arange(count, device=device) * 7919 + 13) % vocab
    return backbone.embed(ids[None])


def talks(backbone: Backbone, rows: Tensor) -> str:
    """Steps over a cache give what the whole gives, and logits are numbers; "" or the fault."""
    whole, cache = backbone(rows), backbone.init_cache(1, rows.shape[1])
    pieces = [rows[:, :5], *rows[:, 5:].split(1, 1)]
    parts = [backbone(piece, None, None, cache) for piece in pieces]
    if not torch.isfinite(backbone.logits(whole[:, -1:])).all():
        return "its logits are not numbers"
    return _same(torch.cat(parts, 1), whole, "fed piece by piece, its states are not those at once")


def rolls_back(backbone: Backbone, rows: Tensor) -> str:
    """A cache that is cropped gives what a fresh one gives; "" or the fault."""
    fresh, cache = backbone.init_cache(1, rows.shape[1]), backbone.init_cache(1, rows.shape[1])
    backbone(rows[:, :3], None, None, fresh)
    backbone(rows, None, None, cache)
    cache.crop(3)
    expected = backbone(rows[:, -2:], None, None, fresh)
    found = backbone(rows[:, -2:], None, None, cache)
    return _same(found, expected, "rolled back, its states are not those of a fresh start")


def batches(backbone: Backbone, rows: Tensor) -> str:
    """A row that is padded in a batch gives what it gives alone; "" or the fault."""
    N = rows.shape[1]
    batch = torch.cat((rows, rows.roll(3, dims=1)))
    shown = torch.ones(2, N, dtype=torch.bool, device=rows.device)
    shown[1, : N // 2] = False
    positions = (shown.long().cumsum(-1) - 1).clamp(min=0)
    eye = torch.eye(N, dtype=torch.bool, device=rows.device)
    mask = (torch.ones_like(eye).tril() & shown[:, None, None, :]) | eye
    found = backbone(batch, mask, positions)
    alone = [backbone(rows), backbone(batch[1:, N // 2 :])]
    return _same(found[:1], alone[0], "in a batch, a row's states are not those alone") or _same(
        found[1:, N // 2 :], alone[1], "in a batch, a padded row's states are not those alone"
    )


def trains(backbone: Backbone, rows: Tensor) -> str:
    """Gradients reach the vectors and no weight; "" or the fault."""
    with torch.inference_mode(False), torch.enable_grad():
        embeds = rows.detach().clone().requires_grad_()
        backbone.logits(backbone(embeds)).float().square().mean().backward()
    if embeds.grad is None or not embeds.grad.abs().sum() > 0:
        return "no gradient reaches the vectors"
    held = [name for name, p in backbone.named_parameters() if p.grad is not None]
    return f"gradients reach its weights: {held[0]}" if held else ""


def tried(check: Callable[[Backbone, Tensor], str], backbone: Backbone, rows: Tensor) -> str:
    """A check's finding; what it raises is a finding, too."""
    try:
        with torch.no_grad():
            return check(backbone, rows)
    except Exception as error:  # whatever a foreign module does with an input it does not know
        return first_line(error)


def _same(found: Tensor, expected: Tensor, fault: str) -> str:
    """``fault`` with the size of the difference, unless two tensors are alike but for rounding."""
    apart = (found.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-12)
    bound = 1e-3 if found.dtype.itemsize >= 4 else 0.2
    return "" if apart <= bound else f"{fault} (off by {float(apart):.2g})"
