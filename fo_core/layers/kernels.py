"""Which kernels this CPU takes for the packed products: one of each is run and looked at."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

import torch
from torch import nn

from fo_core.layers.packed import PackedLinear, Weights


def taken(weights: Iterable[Weights] = get_args(Weights)) -> dict[str, str]:
    """What runs a packed product in each precision, such as "oneDNN bf16 (avx512_core_amx)".

    A precision that this CPU (or a limit such as ``ONEDNN_MAX_CPU_ISA``) cannot do right names what
    takes its place.
    """
    draw = torch.Generator().manual_seed(0)
    linear = nn.Linear(256, 256, device="meta")
    linear.weight = nn.Parameter(torch.randn(256, 256, generator=draw) / 16)
    linear.bias = nn.Parameter(torch.zeros(256))
    found: dict[str, str] = {}
    for kind in weights:
        product = PackedLinear(linear, weights=kind)
        code = ""
        if product.kernel.startswith("oneDNN"):
            with torch.inference_mode():
                code = _instructions(lambda run=product: run(torch.ones(1, 256)))  # type: ignore[misc]
        found[kind] = f"{product.kernel} ({code})" if code else product.kernel
    return found


def say(found: Mapping[str, str]) -> str:
    """What :func:`taken` found as a line of text, with the instruction set of torch's own ones."""
    each = "; ".join(f"{kind}: {kernel}" for kind, kernel in found.items())
    return f"kernels of this CPU ({torch.backends.cpu.get_cpu_capability()}): {each}"


def _instructions(run: Callable[[], object]) -> str:
    """The instruction set of the oneDNN primitive that ``run`` runs; empty if it is not said.

    oneDNN tells it only on the standard output of the process, which is caught meanwhile.
    """
    lines: list[str] = []
    with contextlib.suppress(OSError, RuntimeError, AttributeError, ValueError):
        sys.stdout.flush()
        kept = os.dup(1)
        try:
            with tempfile.TemporaryFile() as caught:
                os.dup2(caught.fileno(), 1)
                with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                    run()
                os.dup2(kept, 1)
                caught.seek(0)
                lines = caught.read().decode(errors="replace").splitlines()
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    for text in lines:
        fields = text.split(",")
        if "exec" in fields and len(fields) > 6:
            return fields[fields.index("exec") + 3].rpartition(":")[2]
    return ""
