"""What modules keep running besides their weights, moved once a step by all batches of the step.

A step may be one batch, several that are summed up, or several processes' batches: running
statistics come out the same. Codebooks learn in their own ``after_step``. Batch normalisation,
which PyTorch moves at every batch, is put back before each and gets the mean afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fo_core.training.draws import seed_draws
from fo_core.training.team import Team


class RunningState:
    """Running statistics of a model while it trains.

    Args:
        model: The whole model.
        team: The processes.
        batches: Of a step in this process.
    """

    def __init__(self, model: nn.Module, team: Team, batches: int) -> None:
        self.team, self.batches = team, batches
        self.learners = [m for m in model.modules() if hasattr(m, "after_step")]
        alone = batches * team.size == 1
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        self.norms = [] if alone else norms
        self._before: list[tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]] = []

    def begin(self) -> None:
        """Remember the statistics before a step."""
        self._before = [
            (norm, {n: b.clone() for n, b in norm.named_buffers()}, {})
            for norm in self.norms
            if norm.training
        ]

    @torch.no_grad()
    def take(self) -> None:
        """Take in what a batch has made of them, and put them back."""
        for norm, before, sums in self._before:
            for name, buffer in norm.named_buffers():
                moved = buffer - before[name]
                sums[name] = sums[name] + moved if name in sums else moved
                buffer.copy_(before[name])

    @torch.no_grad()
    def end(self, *key: int) -> None:
        """Move them all.

        Args:
            key: Seeds what is drawn (codes that are revived).
        """
        for norm, _, sums in self._before:
            for name, buffer in norm.named_buffers():
                moved = self.team.mean(sums[name].float() / self.batches)
                buffer.add_(moved.to(buffer.dtype))
        seed_draws(*key)
        for module in self.learners:
            module.after_step()  # type: ignore[operator]
