"""Which precision the matrices of a model are multiplied in: measured on this CPU once, and kept.

Which one is fastest depends on the CPU: with AMX it may be int8, then bfloat16; on another CPU half
precision is faster than both. So one row is multiplied by the matrices of a few layers of the LLM
and of the speech decoder in each precision, the precisions taking turns, and the lower quartiles
decide, as other programs only ever add time. A less exact precision has to be faster by the factor
in :data:`GAIN` to be worth its error. Encoder, adapter and state head stay in half precision.

The times lie in the cache folder under the CPU, its instruction sets, the threads, torch's version
and the shapes. A file that is damaged, or of another machine, is measured again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from fo_core.devices import cpu
from fo_core.errors import FoError
from fo_core.io.files import cache_dir, mark_of, read_json, write_json
from fo_core.layers import packed
from fo_core.layers.packed import PackedLinear, Weights
from fo_core.layers.transformer import LlamaLayer, LlamaStack
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.backbone import LlamaBackbone

log = logging.getLogger(__name__)

KINDS: tuple[Weights, ...] = ("same", "fp16", "bf16", "int8")  # the most exact one first
GAIN: Mapping[Weights, float] = {"same": 1.0, "fp16": 1.0, "bf16": 1.1, "int8": 1.25}
LARGE = 300_000_000  # parameters of an LLM that int8 need not be quicker for: it halves the memory
SMALLEST = 1 << 20  # weights of a stack; a smaller one is not measured
SAMPLE = 12 << 20  # weights of a stack that are measured
ROUNDS = 15  # behind each time
DEFAULT: Weights = "fp16"


@dataclass(frozen=True)
class Precision:
    """Precision of the packed matrices of each part."""

    rest: Weights = "same"  # of all but the two below
    llm: Weights = "same"
    speech: Weights = "same"  # of the speech decoder

    @classmethod
    def of(cls, weights: Weights | Precision) -> Precision:
        """The same for all parts, where it is one name."""
        return weights if isinstance(weights, Precision) else cls(weights, weights, weights)

    def __str__(self) -> str:
        if self.rest == self.llm == self.speech:
            return self.rest
        return f"LLM {self.llm}, speech decoder {self.speech}, the rest {self.rest}"


@dataclass(frozen=True)
class Choice:
    """What was chosen for a model, and why."""

    precision: Precision
    times: Mapping[str, Mapping[Weights, float]]  # milliseconds a row, by part ("llm", "speech")
    fresh: bool = False  # measured just now

    def __str__(self) -> str:
        parts = [
            f"{part}: " + ", ".join(f"{kind} {ms:.2f}" for kind, ms in times.items())
            for part, times in self.times.items()
        ]
        return f"precision {self.precision}" + (f" ({'; '.join(parts)} ms)" if parts else "")


def choose(model: FreezeOmni) -> Choice:
    """The precision for a model on this CPU, before it is packed.

    Nothing is measured elsewhere than on a CPU, nor of a stack that is small.
    """
    stacks: dict[str, LlamaStack] = {}
    if isinstance(model.llm.backbone, LlamaBackbone):
        stacks["llm"] = model.llm.backbone.stack
    speech = getattr(model.speech_decoder, "decoder", None)
    if isinstance(speech, LlamaStack):
        stacks["speech"] = speech
    times: dict[str, Mapping[Weights, float]] = {}
    fresh = False
    for part, stack in stacks.items():
        if _size(stack) < SMALLEST or next(stack.parameters()).device.type != "cpu":
            continue
        times[part], new = _times(stack)
        fresh = fresh or new
    size = sum(p.numel() for p in model.llm.parameters())
    chosen = {
        part: quickest(found, size > LARGE and part == "llm") for part, found in times.items()
    }
    large = "int8" if size > LARGE else DEFAULT
    precision = Precision(
        DEFAULT, chosen.get("llm", cast(Weights, large)), chosen.get("speech", DEFAULT)
    )
    choice = Choice(precision, times, fresh)
    log.info("%s, %s", choice, "measured now" if fresh else "known")
    return choice


def quickest(times: Mapping[Weights, float], large: bool = False) -> Weights:
    """The quickest precision whose gain over a more exact one is worth its error.

    Args:
        times: Of the precisions that there are.
        large: int8 is worth it as soon as it is no slower.
    """
    best, *others = [kind for kind in KINDS if kind in times]
    for kind in others:
        gain = 1.0 if large and kind == "int8" else GAIN[kind]
        if times[best] >= gain * times[kind]:
            best = kind
    return best


def _size(stack: LlamaStack) -> int:
    return stack.config.layers * sum(out * size for size, out in _shapes(stack))


def _shapes(stack: LlamaStack) -> list[tuple[int, int]]:
    """(in, out) of the products of a layer."""
    return [
        (linears[0].in_features, sum(linear.out_features for linear in linears))
        for linears in stack.blocks[0].products
    ]


def _times(stack: LlamaStack) -> tuple[dict[Weights, float], bool]:
    """Kept or measured times of a stack; and whether they were measured."""
    key = _key(stack)
    name = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:16]
    path = cache_dir() / "precision" / f"{name}.json"
    kept = _read(path, key)
    if kept is not None:
        return kept, False
    found = measure(stack)
    try:
        write_json(path, {"key": key, "ms": found})
    except FoError as error:
        log.warning("times of the precisions cannot be kept: %s", error)
    return found, True


def _key(stack: LlamaStack) -> dict[str, Any]:
    """What the times depend on."""
    name, flags = cpu.describe()
    return {
        "cpu": name,
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "limit": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "shapes": [list(shape) for shape in _shapes(stack)],
        "layers": stack.config.layers,
        "dtype": str(next(stack.parameters()).dtype),
        "code": mark_of([Path(__file__), Path(packed.__file__)]),
    }


def _read(path: Path, key: Mapping[str, Any]) -> dict[Weights, float] | None:
    """Times that were measured under ``key``; None where there are none, with a note if damaged."""
    if not path.is_file():
        return None
    try:
        held = read_json(path)
        times = held["ms"]
        right = held["key"] == key and bool(times) and set(times) <= set(KINDS)
        if right and all(isinstance(ms, float) and 0 < ms < 1e6 for ms in times.values()):
            return {kind: times[kind] for kind in KINDS if kind in times}
        problem = "it is of something else"
    except (FoError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    log.warning("%s is measured again: %s", path, problem)
    return None


@torch.inference_mode()
def measure(stack: LlamaStack) -> dict[Weights, float]:
    """Milliseconds that one row through the products of some layers takes, by precision.

    Processor time where torch has one thread, which a busy machine does not stretch.

    A precision whose kernel another one takes, too, is left out. The precisions take turns, so that
    each finds its weights gone from the CPU's caches, as a step does.
    """
    blocks = stack.blocks[: max(1, SAMPLE * len(stack.blocks) // _size(stack))]
    dtype = blocks[0].self_attn.q_proj.weight.dtype
    products: dict[Weights, list[PackedLinear]] = {}
    seen: set[str] = set()
    for kind in KINDS if dtype == torch.float32 else KINDS[1:]:  # "same" is "bf16"
        first = _packed(blocks[0], kind)
        own = _kernel(first, dtype)
        if own in seen:
            continue
        seen.add(own)
        products[kind] = first + [one for block in blocks[1:] for one in _packed(block, kind)]
    draw = torch.Generator().manual_seed(0)
    rows = {size: torch.randn(1, size, generator=draw) for size, _ in _shapes(stack)}
    times: dict[Weights, list[float]] = {kind: [] for kind in products}
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for turn in range(ROUNDS + 1):
        for kind, parts in products.items():
            began = clock()
            _run(parts, rows)
            if turn:
                times[kind].append(1000 * (clock() - began))
    return {kind: statistics.quantiles(spent, n=4)[0] for kind, spent in times.items()}


def _packed(layer: LlamaLayer, kind: Weights) -> list[PackedLinear]:
    return [PackedLinear(*linears, weights=kind) for linears in layer.products]


def _kernel(products: Sequence[PackedLinear], dtype: torch.dtype) -> str:
    """What runs products: a precision that falls back to another's kernel has the other's name."""
    kernels = sorted({product.kernel for product in products})
    bf16 = dtype == torch.bfloat16
    return "+".join("oneDNN bf16" if bf16 and name == "oneDNN" else name for name in kernels)


def _run(products: Sequence[PackedLinear], rows: Mapping[int, Tensor]) -> None:
    for product in products:
        product.product(rows[product.in_features])
