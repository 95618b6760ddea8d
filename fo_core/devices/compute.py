"""Names of devices, which of them are there, and what they can multiply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fo_core.errors import FoError

if TYPE_CHECKING:
    import torch


def choose(device: str) -> str:
    """A device that is there, by its name.

    Args:
        device: "cpu", "cuda", "cuda:N" or "mps"; "auto" is "cuda" where there is one, else "cpu".

    Raises:
        FoError: There is no such device here.
    """
    if device == "cpu":
        return device
    import torch

    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device == "auto":
        return "cuda" if there["cuda"] else "cpu"
    kind, _, index = device.partition(":")
    if not (index or "0").isdigit() or int(index or 0) >= there.get(kind, 0):
        known = [k if n == 1 else f"{k}:0 to {k}:{n - 1}" for k, n in there.items() if n]
        raise FoError(f"no device {device!r} here", possible=", ".join(["auto", "cpu", *known]))
    return device


def native_matmul(dtype: torch.dtype, device: str | torch.device = "cpu") -> bool:
    """Whether a device has kernels for products in a dtype.

    A CPU without them (x86 without AVX-512, say) gets there one number at a time: bfloat16 then
    takes 50 times as long as float32.
    """
    import torch

    if torch.device(device).type != "cpu":
        return True
    asked = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }.get(dtype)
    if asked is None:
        return True
    try:
        return bool(getattr(torch.ops.mkldnn, asked)())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def working_dtype(dtype: torch.dtype, device: str | torch.device = "cpu") -> torch.dtype:
    """The dtype in which a device computes with weights of a dtype: that, or float32."""
    import torch

    return dtype if native_matmul(dtype, device) else torch.float32
