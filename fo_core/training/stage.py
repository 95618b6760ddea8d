"""What a training stage is: frozen objects that say what to train, on what, by which loss.

The loop (:mod:`fo_core.training.loop`) does everything else. A new stage is a new file in
:mod:`fo_core.training.stages`, or any ``Stage`` object of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from fo_core.training.optim import OptimConfig

Batch = dict[str, Any]
Losses = Callable[[Any, Batch], dict[str, Tensor]]
Metrics = Callable[[Any, Batch], dict[str, "Ratio | float"]]
Sounds = Mapping[str, tuple[Any, int]]  # name -> wave, float32 [S], and its rate in Hz
Ratio = tuple[float, float]  # (sum, count): values of several batches are added, then divided


@dataclass(frozen=True)
class Objective:
    """One loss, the parameters it moves and the optimiser that moves them.

    Attributes:
        name: Name in logs and checkpoints.
        trainable: Globs over ``model.named_parameters()``; one that matches nothing is an error.
        losses: ``losses(model, batch)`` gives named scalars: ``"loss"`` is minimised, the rest are
            its terms and are only logged.
        optim: Optimiser, learning-rate schedule and clipping.
        starts_at: First step (from 0) at which this objective is stepped (GAN warm-up).
        active: Modules holding trained and frozen parameters that are in training mode themselves
            (their own dropout acts); others of that kind are in eval mode.
    """

    name: str
    trainable: tuple[str, ...]
    losses: Losses
    optim: OptimConfig = field(default_factory=OptimConfig)
    starts_at: int = 0
    active: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Name of the stage (``input-1``).
        summary: One line for people: what is learned from what.
        objectives: Stepped one after the other on every batch.
        data: Task name of :func:`fo_core.data.dataset.make_loader`.
        starts_from: Top-level modules that must already be trained.
        metrics: ``metrics(model, batch)`` on a held-out batch; a ``(sum, count)`` pair is
            aggregated over the whole set as ratio of sums, a plain number as mean over batches.
        precompute: Values that depend on frozen parts only: named tensors of a batch of one item,
            computed once per item and kept. The losses find lists of them in the batch.
        reads: Top-level modules whose weights and settings ``precompute`` depends on.
        helpers: Modules that only training needs (discriminators): part of the model, under these
            names, while the stage lasts.
        begin: ``begin(model, loader)`` measures on training data, once before the first step.
        best: Held-out value by which the best weights are kept, and whether less or more is better.
        samples: ``samples(model, held-out batch, count)`` gives sounds to listen to.
        finish: ``finish(model, items)`` sets what depends on the trained weights, once, at the end;
            the items are of the training manifest.
        options: What the stage was built from, for the record: a run goes on with the same ones.
    """

    name: str
    summary: str
    objectives: tuple[Objective, ...]
    data: str
    starts_from: tuple[str, ...] = ()
    metrics: Metrics | None = None
    precompute: Callable[[Any, Batch], Mapping[str, Tensor]] | None = None
    reads: tuple[str, ...] = ()
    helpers: Callable[[Any], Mapping[str, nn.Module]] | None = None
    begin: Callable[[Any, Any], None] | None = None
    best: tuple[str, Literal["min", "max"]] = ("loss", "min")
    samples: Callable[[Any, Batch, int], Sounds] | None = None
    finish: Callable[[Any, Any], None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class StageOptions:
    """What every file of :mod:`fo_core.training.stages` derives its options from.

    A subclass is a config (``@config``) whose field ``type`` is the name of the stage; the file
    names it ``OPTIONS``.
    """

    type: str
    after: ClassVar[tuple[str, ...]] = ()  # stages whose finished run it starts from, best first
    side: ClassVar[Literal["user", "assistant"]] = "user"  # whose speech it trains on
    speech_tokens: ClassVar[bool] = False  # whether its items need a codec's tokens
    new_llm: ClassVar[str] = ""  # why it is to be run again with another LLM; "" = it need not

    def prepare(self, model: Any) -> None:
        """Add to a ``FreezeOmni`` the parts that only begin with this stage."""

    def build(self) -> Stage:
        """The stage."""
        raise NotImplementedError


@dataclass(frozen=True)
class StageResult:
    """What a finished stage reports; also written to ``stage.json`` in the run folder."""

    metrics: dict[str, float]  # held-out values after the last step ("val_loss", "wer", ...)
    history: list[dict[str, float]]  # rows of metrics.jsonl, in order of steps
    trainable_parameters: int
    frozen_parameters: int
    seconds: float  # wall time of training and validation, summed over resumed runs
    fingerprints: dict[str, dict[str, str]]  # module -> {"frozen_before": "sha256:...", ...}


def parameter_count(parameters: Mapping[str, nn.Parameter]) -> int:
    """Number of scalars in named parameters."""
    return sum(p.numel() for p in parameters.values())
