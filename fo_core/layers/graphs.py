"""A step of fixed shapes as a CUDA graph: what it launches is launched by one call.

A token of a GPU's model is hundreds of small kernels, and starting them takes the CPU longer than
running them takes the GPU. Captured once, they start together. Elsewhere than on CUDA the same
function runs on the same buffers without a graph, so that tests on a CPU check all but the capture.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fo_core.errors import first_line

log = logging.getLogger(__name__)
WARM = 3  # runs before a capture: libraries choose their kernels and take their memory
KEPT = 64  # graphs of one step, those used last


@dataclass
class _Ready:
    """A step in one set of shapes."""

    inputs: list[Tensor | None]  # the buffers that it reads
    outputs: Sequence[Tensor] = ()  # those that it writes
    graph: Any = None  # torch.cuda.CUDAGraph; None: the function runs as it is


class CapturedStep:
    """A function of tensors, captured once for each set of shapes.

    May be called by several threads; calls run one after the other.

    Args:
        function: From tensors (or None), and a keyword ``key``, to a sequence of tensors. It never
            waits for the device. What it writes in place must not depend on how often it ran: it is
            run a few times before it is captured.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]]) -> None:
        self._function = function
        self._ready: dict[Hashable, _Ready] = {}  # the one used last at the end
        self._lock = threading.Lock()

    @torch.no_grad()
    def __call__(self, *inputs: Tensor | None, key: Any = None) -> list[Tensor]:
        """Run it.

        Args:
            inputs: Copied into the step's own buffers.
            key: Whatever else the function depends on.

        Returns:
            Its outputs, in memory of their own.
        """
        given = [one for one in inputs if one is not None]
        shapes = tuple(None if i is None else (i.shape, i.dtype, i.device) for i in inputs)
        with self._lock:
            ready = self._ready.pop((key, shapes), None)
            if ready is None:
                ready = self._prepare(inputs, key)
            else:
                _copy([one for one in ready.inputs if one is not None], given)
            self._ready[key, shapes] = ready
            while len(self._ready) > KEPT:
                self._ready.pop(next(iter(self._ready)))
            if ready.graph is None:
                ready.outputs = self._function(*ready.inputs, key=key)
            else:
                ready.graph.replay()
            found = [torch.empty_like(one) for one in ready.outputs]
            _copy(found, ready.outputs)
            return found

    def _prepare(self, inputs: Sequence[Tensor | None], key: Any) -> _Ready:
        with torch.inference_mode(False):  # buffers that may be written in either mode
            ready = _Ready([None if one is None else one.detach().clone() for one in inputs])
        device = next(one.device for one in inputs if one is not None)
        if captures(device):
            try:
                with torch.cuda.device(device):
                    _capture(ready, lambda: self._function(*ready.inputs, key=key))
            except RuntimeError as error:
                log.warning("a step runs without a CUDA graph, and slower: %s", first_line(error))
        return ready


def captures(device: torch.device) -> bool:
    """Whether steps become graphs there."""
    return device.type == "cuda" and torch.cuda.is_available()


def _capture(ready: _Ready, run: Callable[[], Sequence[Tensor]]) -> None:
    """Tested with a simulated graph only: there is no CUDA where the tests run."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # other threads may go on with work of their own meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        ready.outputs = list(run())
    ready.graph = graph


def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Into buffers, in as few launches as can be."""
    torch._foreach_copy_(list(targets), list(sources))


def upload(values: Any, device: torch.device) -> Tensor:
    """Whole numbers as an int64 tensor on a device, without waiting for it."""
    found = torch.tensor(values, dtype=torch.int64)
    if not captures(device):
        return found.to(device)
    return found.pin_memory().to(device, non_blocking=True)
