"""Names of devices, and which of them are there."""

from __future__ import annotations

from fo_core.errors import FoError


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
