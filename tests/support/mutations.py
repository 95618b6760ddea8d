"""Mistakes put into the code one at a time: the golden tests must notice each of them.

Shows that the bounds of ``rounding.py`` are not so wide that a mistake passes for rounding. Run as
a program it prints, for each mistake, how many golden tests of each variant noticed it:

    python tests/support/mutations.py [--golden-dir DIR] [NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.nn.functional as F
from torch import nn

TESTS = Path(__file__).resolve().parents[1] / "fo_core" / "convert"
Patch = pytest.MonkeyPatch


def a_louder_wave(patch: Patch) -> None:
    from fo_core.features import KaldiFbank as It

    right = It.extract
    patch.setattr(It, "extract", lambda self, frames, peak: right(self, frames * 1.001, peak))


def labels_one_late(patch: Patch) -> None:
    from fo_core.layers.positions import LabelTable as It

    right = It.rows
    patch.setattr(It, "rows", lambda self, labels: right(self, labels + 1))


def a_norm_left_out(patch: Patch) -> None:
    from fo_core.models.encoder.speech_encoder import EncoderLayer as It

    right = It.forward

    def wrong(self, *args):
        norm, self.norm2 = self.norm2, nn.Identity()
        try:
            return right(self, *args)
        finally:
            self.norm2 = norm

    patch.setattr(It, "forward", wrong)


def a_transposed_weight(patch: Patch) -> None:
    from fo_core.layers.attention import Attention as It

    right = It.split

    def wrong(self, x):
        weight = self.query.weight
        self.query.weight = nn.Parameter(weight.T, requires_grad=False)
        try:
            return right(self, x)
        finally:
            self.query.weight = weight

    patch.setattr(It, "split", wrong)


def a_kernel_backwards(patch: Patch) -> None:
    from fo_core.layers.conv import CausalConv1d as It

    def wrong(self, x):
        return F.conv1d(x, self.weight.flip(2), self.bias, self.stride)

    patch.setattr(It, "convolve", wrong)


def rotary_frequencies_off(patch: Patch) -> None:
    from fo_core.layers.rope import Rope as It

    right = It.angles
    patch.setattr(It, "angles", lambda self, at, dtype: right(self, at * 1.001, dtype))


def no_final_norm(patch: Patch) -> None:
    patch.setattr("fo_core.models.llm.backbone.quick_norm", lambda norm, x: x)


def gate_and_up_exchanged(patch: Patch) -> None:
    from fo_core.layers.transformer import GatedFeedForward as It

    def wrong(self, x):
        return self.down_proj(F.silu(self.up_proj(x)) * self.gate_proj(x))

    patch.setattr(It, "forward", wrong)


def states_one_off(patch: Patch) -> None:
    from fo_core.models.state_head import StateHead as It

    patch.setattr(It, "step", lambda self, x, *_: (self(x)[..., 1:4].softmax(-1), None))


def a_slope_of_a_hundredth(patch: Patch) -> None:
    patch.setattr("fo_core.models.codec.generator.SLOPE", 0.01)


def louder_stages(patch: Patch) -> None:
    from fo_core.models.codec.generator import Generator as It

    right = It.add_voice
    patch.setattr(It, "add_voice", lambda self, x, *args: right(self, x * 1.001, *args))


# Mistake, and the file of golden tests that must notice it.
MUTATIONS: dict[Callable[[Patch], None], str] = {
    a_louder_wave: "listen",
    labels_one_late: "listen",
    a_norm_left_out: "listen",
    a_transposed_weight: "listen",
    a_kernel_backwards: "listen",
    rotary_frequencies_off: "llm",
    no_final_norm: "llm",
    states_one_off: "llm",
    gate_and_up_exchanged: "speak",
    a_slope_of_a_hundredth: "codec",
    louder_stages: "codec",
}


class Outcomes:
    """Counts the golden tests of each variant that failed on an assertion."""

    def __init__(self) -> None:
        self.noticed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        variant = report.nodeid.partition("[")[2].partition("]")[0].partition("-")[0]
        if report.when == "call" and variant:
            crash = getattr(report.longrepr, "reprcrash", None)
            wrong = report.failed and "AssertionError" in str(getattr(crash, "message", ""))
            self.noticed[variant] += wrong


def noticed(mutation: Callable[[Patch], None], options: list[str]) -> dict[str, int]:
    """Golden tests that notice a mistake, by variant."""
    outcomes = Outcomes()
    with Patch.context() as patch, contextlib.redirect_stdout(sys.stderr):
        mutation(patch)
        file = str(TESTS / f"test_golden_{MUTATIONS[mutation]}.py")
        given = ["-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", *options, file]
        pytest.main(given, plugins=[outcomes])
    return dict(outcomes.noticed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden-dir")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    options = ["--golden-dir", args.golden_dir] if args.golden_dir else []
    os.chdir(TESTS.parents[2])
    for mutation in MUTATIONS:
        if not args.names or mutation.__name__ in args.names:
            sys.stdout.write(json.dumps({mutation.__name__: noticed(mutation, options)}) + "\n")


if __name__ == "__main__":
    main()
