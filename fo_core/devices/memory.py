"""How much memory this process has taken, on every system."""

from __future__ import annotations

import sys


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
