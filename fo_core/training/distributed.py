"""The processes that train together, through accelerate: one, ``accelerate launch``, ``torchrun``.

Trained parts are replicated (DDP). The layers of the frozen LLM, which take no optimiser state, are
replicated too or, with ``shard_llm`` or ``accelerate launch --use_fsdp``, split over the processes
(FSDP2): each layer is put together when it is run.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import nn
from torch.utils.checkpoint import checkpoint

from fo_core.devices.compute import native_matmul
from fo_core.errors import StageError
from fo_core.layers.transformer import LlamaStack
from fo_core.training.run_config import TrainConfig


def world() -> tuple[int, int]:
    """(rank, processes) as the launcher says; (0, 1) without one."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def precision(cfg: TrainConfig) -> str:
    """What products are computed in: ``train.precision``, or fp32 on a CPU that has none such."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(cfg.precision)
    elsewhere = torch.cuda.is_available() or torch.backends.mps.is_available()
    if kind is None or (elsewhere and cfg.device != "cpu") or native_matmul(kind):
        return cfg.precision
    return "fp32"


class DistributedContext:
    """This process among those that train together.

    Args:
        cfg: Device, precision and whether the LLM is sharded.

    Raises:
        StageError: There is no such device.
    """

    def __init__(self, cfg: TrainConfig) -> None:
        if cfg.device == "cuda" and not torch.cuda.is_available():
            raise StageError("train.device is cuda, but torch sees no GPU", "auto, cpu")
        asked = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")
        if AcceleratorState._shared_state:  # another stage of this process, other precision
            AcceleratorState._reset_state()
        kind = precision(cfg)
        self.accelerator = Accelerator(
            mixed_precision="no" if kind == "fp32" else kind,
            cpu=cfg.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device = self.accelerator.device
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process
        self.sharded = (cfg.shard_llm or asked) and self.size > 1

    def prepare(self, losses: nn.Module, model: nn.Module) -> nn.Module:
        """The losses as every process runs them: on its device, gradients averaged."""
        losses.to(self.device)
        llm = getattr(model, "llm", None)
        if llm is not None:
            llm.move(self.device)
            if self.sharded:
                shard(llm)
            # DDP leaves alone what never changes: no copying of a large LLM at the start
            ignored = [n for n, _ in losses.named_parameters() if n.startswith("model.llm.")]
            ignored += [n for n, _ in losses.named_buffers() if n.startswith("model.llm.")]
            losses._ddp_params_and_buffers_to_ignore = ignored  # type: ignore[assignment]
        return self.accelerator.prepare(losses)

    def wait(self) -> None:
        """Until every process is here."""
        self.accelerator.wait_for_everyone()

    def gather(self, value: Any) -> list[Any]:
        """A value of every process, in their order."""
        return gather_object([value]) if self.size > 1 else [value]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes."""
        return self.accelerator.reduce(value, reduction="mean")

    def max_over_ranks(self, count: int) -> int:
        """The largest of the processes' counts."""
        return max(self.gather(count))


def shard(llm: Any) -> None:
    """Split a frozen LLM's layers over all processes; embedding and head stay whole.

    Processes must then run the LLM equally often: nothing of it is remembered between batches.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # a group of its own: the gradients' averages of DDP may come in between at any moment
    mesh = DeviceMesh.from_group(dist.new_group(), llm.device.type)
    stack = getattr(llm.backbone, "stack", None)
    if stack is not None:  # our own layers are run by parts
        stack.unfuse()
        for layer in stack.blocks:
            fully_shard(layer.mlp, mesh=mesh)
            fully_shard(layer.self_attn, mesh=mesh)
            register_fsdp_forward_method(layer.self_attn, "project")
            register_fsdp_forward_method(layer.self_attn, "merge")
        fully_shard(stack, mesh=mesh, reshard_after_forward=True)
    else:
        base = llm.backbone.model.base_model
        blocks = max((m for m in base.modules() if isinstance(m, nn.ModuleList)), key=len)
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(base, mesh=mesh, reshard_after_forward=True)
    llm.sharded_layers = True


def merge(sums: Iterable[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The lists of several processes under the same names, one after the other."""
    merged: dict[str, list[float]] = {}
    for one in sums:
        for key, values in one.items():
            merged.setdefault(key, []).extend(values)
    return merged


log = logging.getLogger(__name__)


COMPILED = ("speech_encoder", "speech_decoder", "codec")  # whole parts, run by their forward


@contextlib.contextmanager
def speedups(model: nn.Module, recompute: bool, compiled: bool) -> Iterator[None]:
    """Run a model's parts so for as long as the block lasts.

    Args:
        model: The whole model.
        recompute: Keep only each layer's input and compute its inner values again in the backward
            pass (layers of the LLM, the speech decoder and the speech encoder): about a third more
            work, a fraction of the memory.
        compiled: Compile the forward passes of encoder, decoder and codec at their first use.
    """
    with contextlib.ExitStack() as undo:
        if recompute:
            _recompute(model, undo)
        if compiled:
            for part in (getattr(model, name, None) for name in COMPILED):
                if part is not None:
                    undo.callback(setattr, part, "_compiled_call_impl", part._compiled_call_impl)
                    part.compile(dynamic=True)
        yield


def _recompute(model: nn.Module, undo: contextlib.ExitStack) -> None:
    for module in model.modules():
        if isinstance(module, LlamaStack):
            undo.callback(setattr, module, "recompute", module.recompute)
            module.recompute = True
    encoder = getattr(model, "speech_encoder", None)
    for layer in getattr(encoder, "layers", []):
        undo.callback(layer.__dict__.pop, "forward", None)
        layer.forward = partial(_again, layer.forward)
    backbone = getattr(getattr(model, "llm", None), "backbone", None)
    if backbone is not None and not hasattr(backbone, "stack"):
        log.warning("this LLM runs through transformers: its layers are not recomputed")


def _again(forward: Any, *given: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*given, **named)
    return checkpoint(forward, *given, use_reentrant=False, **named)
