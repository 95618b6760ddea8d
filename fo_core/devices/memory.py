"""How much memory this process has taken, on every system."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory(children: bool = False) -> int:
    """Most memory that this process has had resident, bytes.

    Args:
        children: Of the children that have ended, too, whichever had most; not on Windows.
    """
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    asked = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if children else [])]
    most = max(resource.getrusage(who).ru_maxrss for who in asked)
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


def free_memory(device: str = "cpu") -> int | None:
    """Bytes that can still be taken on a device; None: nothing here says."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    for line in told.read_text().splitlines() if told.is_file() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
