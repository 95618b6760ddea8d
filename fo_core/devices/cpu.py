"""What CPU this is, by name and by what it can do."""

from __future__ import annotations

import functools
import platform
from pathlib import Path


@functools.cache
def describe() -> tuple[str, str]:
    """Name of the CPU, and its instruction sets, sorted, with blanks between (empty: unknown)."""
    found: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    flags = found.get("flags") or found.get("Features") or ""  # x86, ARM
    return name, " ".join(sorted(flags.split()))
