"""What each kernel of packed products rounds: its weights, its inputs, its outputs."""

from __future__ import annotations

import torch
from rounding import BFLOAT16, FLOAT32
from torch import Tensor

# Per kernel: the largest error of rounding an input or an output, besides that of the weights.
UNITS = {
    "oneDNN": FLOAT32,
    "FBGEMM fp16": FLOAT32,
    "oneDNN bf16": BFLOAT16,
    "oneDNN int8": 2.0**-15,  # of the largest input of a row
    "ATen": FLOAT32,
}


def stored(weight: Tensor, kernel: str) -> Tensor:
    """The weights as a kernel keeps them, in float64."""
    if kernel == "oneDNN int8":
        scale = weight.double().abs().amax(1, keepdim=True) / 127
        return (weight.double() / scale).round() * scale
    kept = {"FBGEMM fp16": torch.float16, "oneDNN bf16": torch.bfloat16}
    return weight.to(kept.get(kernel, torch.float32)).double()
