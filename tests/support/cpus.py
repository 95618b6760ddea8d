"""The numeric tests under every instruction set that this CPU has (``make test-cpus``).

torch, oneDNN and MKL each choose their kernels by the CPU and can be held to less by an environment
variable. What passes under all of them here passes on the CPUs they stand for.

    python tests/support/cpus.py [--least] [OPTION OF PYTEST ...]

``--least``: only with all three at their least.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
NUMERIC = [
    "tests/fo_core/convert",
    "tests/fo_core/layers",
    "tests/fo_core/models",
    "tests/fo_core/test_features.py",
    "tests/fo_core/training/losses/test_llm_rows.py",
    "tests/fo_core/training/test_loop.py",
    "tests/fo_core/training/test_losses.py",
]
# Variable, value, and the flag of /proc/cpuinfo that it needs.
SETTINGS = [
    ("ATEN_CPU_CAPABILITY", "default", ""),
    ("ATEN_CPU_CAPABILITY", "avx2", "avx2"),
    ("ATEN_CPU_CAPABILITY", "avx512", "avx512f"),
    ("ONEDNN_MAX_CPU_ISA", "SSE41", "sse4_1"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", "avx512f"),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", "amx_tile"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX2", "avx2"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX512", "avx512f"),
    ("MKL_CBWR", "COMPATIBLE", ""),
]
LEAST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}  # all three at once


def say(text: str) -> None:
    """A line on the standard output, before what a program started next writes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def flags() -> set[str]:
    """What this CPU can do; empty where /proc does not say it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


def settings() -> list[dict[str, str]]:
    """Environments to test under; those that this CPU lacks are said and left out."""
    if platform.machine() not in ("x86_64", "AMD64"):
        say(f"{platform.machine()}: no other instruction sets to choose from")
        return [{}]
    has, chosen = flags(), [LEAST]
    for name, value, flag in SETTINGS:
        if flag and flag not in has:
            say(f"left out: {name}={value} (this CPU has no {flag})")
        else:
            chosen.append({name: value})
    return chosen


def main() -> int:
    options = [option for option in sys.argv[1:] if option != "--least"]
    least = "--least" in sys.argv
    rows, failed = [], False
    for setting in [LEAST] if least else settings():
        name = " ".join(f"{key}={value}" for key, value in setting.items()) or "as it is"
        say(f"== {name}")
        start = time.monotonic()
        tests = [sys.executable, "-m", "pytest", "-m", "not slow and not gpu", *options, *NUMERIC]
        code = subprocess.run(tests, cwd=REPO, env={**os.environ, **setting}).returncode
        rows.append(f"{'failed' if code else 'passed'}  {time.monotonic() - start:4.0f} s  {name}")
        failed |= bool(code)
    say("\n".join(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
