"""How far float32 may lie from the exact result: the bound of the numeric tests, in one place.

CPUs differ in their kernels: the order of a sum, fused multiply-adds, the last bit of a logarithm.
How much that may change a result depends on the chain of operations (a quiet mel bin beside loud
ones, or an encoder without a final norm, amplifies it a hundredfold), so no one number fits, and a
number that was measured on one machine fails on the next. The bound is computed instead:

1. the chain runs in float64: the exact result;
2. it runs again, a few times, while every number that an operation reads is off by up to one
   rounding of float32 (relative, random, seeded), and what is multiplied and summed over ``n`` by
   as much as adding ``n`` numbers in a row makes of it (``sqrt(n) / 2`` roundings): the results
   spread as float32 results of different kernels do;
3. ``FACTOR`` times the largest, and ``FACTOR`` times the mean distance from the exact result are
   what two float32 results may differ by. The mean catches what the largest lets pass: an error
   everywhere that is no larger than the rounding of the worst element.

The same on every machine, and it grows with the rounding only, never with a mistake of the code:
a wrong label, a missing norm, a transposed weight stay far outside (``mutations.py``). What is
discrete (tokens, states, lengths) is compared exactly: the recorded margins say that no tie is
near.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FLOAT32, FLOAT16, BFLOAT16 = 2.0**-24, 2.0**-11, 2.0**-8  # largest relative error of one rounding
FACTOR = 8.0  # CPUs with AVX2 and AVX-512, oneDNN and MKL held to less: up to 1.9 were seen
DRAWS = 2
POOL = 1 << 18

MOVES = {
    "cat", "clone", "constant_pad_nd", "copy", "embedding", "empty_like", "flip", "gather", "index",
    "index_select", "lift_fresh", "masked_fill", "new_empty", "new_zeros", "ones_like", "repeat",
    "slice_scatter", "stack", "_to_copy", "_unsafe_view", "where", "zeros_like",
}  # fmt: skip  # operations that copy numbers and round nothing


PRODUCTS = {"addmm": 1, "baddbmm": 1, "bmm": 0, "dot": 0, "linear": 0, "matmul": 0, "mm": 0}


def summed(name: str, args: tuple) -> int:
    """How many products an operation adds up for a number of its result; 1: it is no product."""
    if name in PRODUCTS:  # the argument whose last dimension is summed over
        return args[PRODUCTS[name]].shape[-1]
    if name.startswith("conv"):
        return args[1].numel() // args[1].shape[int("transpose" in name)]
    if name.startswith(("scaled_dot_product", "_scaled_dot_product")):
        return args[0].shape[-1]
    return 1


class Roundings(TorchDispatchMode):
    """Every number that an operation reads is off by up to one rounding, at random.

    Args:
        seed: Of the errors. Numbers that the chain itself keeps in float32 are off by up to two
            roundings, so that the error is not lost in their own.
        unit: The largest relative error of one rounding of what products read (their sums are
            float32's whatever the format of weights and inputs).
    """

    def __init__(self, seed: int, unit: float = FLOAT32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.pool = torch.rand(POOL, generator=generator, dtype=torch.float64) * 2 - 1
        self.unit = unit
        self.places = random.Random(seed)

    def _off(self, x: Tensor, size: float) -> Tensor:
        count, errors = x.numel(), self.pool
        if count >= POOL:
            errors = errors.repeat(count // POOL + 2)
        start = self.places.randrange(min(POOL, errors.numel() - count))
        errors = errors[start : start + count].view(x.shape)
        wide = x.dtype in (torch.float64, torch.complex128)
        return (x * errors.mul(size if wide else 2 * size).add_(1)).to(x.dtype)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        if func.is_view or func._schema.is_mutable or name in MOVES:
            return func(*args, **(kwargs or {}))
        size, count = FLOAT32, summed(name, args)
        if count > 1:
            size = max(self.unit, FLOAT32 * count**0.5 / 2)

        args = [self._off(x, size) if _floats(x) else x for x in args]
        kwargs = {k: self._off(x, size) if _floats(x) else x for k, x in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _floats(x: object) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


@dataclass(frozen=True)
class Bound:
    """What two float32 results may differ by."""

    largest: float
    mean: float


def bounds(
    compute: Callable[[], Mapping[str, Tensor]],
    unit: float = FLOAT32,
    exact: Mapping[str, Tensor] | None = None,
) -> dict[str, Bound]:
    """The bounds of the tensors of a chain.

    Args:
        compute: Runs the chain anew, in float64 as far as its code allows. What float32 code would
            compute once and keep (filters, tables) belongs to the chain.
        unit: Of the format that products read: FLOAT32, FLOAT16, BFLOAT16.
        exact: What ``compute`` gives without errors, where that is known.
    """
    with torch.no_grad():
        exact = compute() if exact is None else exact
        largest, mean = dict.fromkeys(exact, 0.0), dict.fromkeys(exact, 0.0)
        for seed in range(DRAWS):
            with Roundings(seed, unit):
                drawn = compute()
            for name, value in exact.items():
                error = (drawn[name] - value).abs().double()
                assert bool(error.isfinite().all()), f"{name}: no number"
                largest[name] = max(largest[name], float(error.max()))
                mean[name] = max(mean[name], float(error.mean()))
    return {name: Bound(FACTOR * largest[name], FACTOR * mean[name]) for name in exact}


def near(found: Tensor, expected: Tensor, bound: Bound, what: str = "") -> None:
    """Assert that two results of the same shape differ by rounding only."""
    assert found.shape == expected.shape, f"{what}: {list(found.shape)}, {list(expected.shape)}"
    error = (found.double() - expected.double()).abs()
    largest, mean = float(error.max()), float(error.mean())
    assert largest <= bound.largest and mean <= bound.mean, (
        f"{what}: off by {largest:.3g} where {bound.largest:.3g} is rounding, "
        f"by {mean:.3g} in the mean where {bound.mean:.3g} is"
    )


def roundings(count: float, like: Tensor) -> Bound:
    """A stated number of float32 roundings of a tensor's largest value, for shallow chains."""
    size = count * FLOAT32 * float(like.abs().max())
    return Bound(size, size)


def pcm16(wave: torch.Tensor) -> torch.Tensor:
    """The published program's 16-bit samples [S] of a wave [S]: cut toward zero, clipped."""
    return (wave * 32768.0).clamp(-32768.0, 32767.0).to(torch.int16)
