"""Memory of a process: the right unit, and no module that only some systems have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fo_core.devices.memory import peak_memory

STATUS = Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.is_file(), reason="Linux says it in /proc")
def test_the_peak_is_what_the_system_says_in_bytes() -> None:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    assert peak_memory() == pytest.approx(1024 * int(line.split()[1]), rel=0.1)
    assert peak_memory(children=True) >= peak_memory()


@pytest.mark.parametrize(("system", "wanted"), [("win32", 7), ("darwin", 5), ("linux", 5 * 1024)])
def test_the_peak_of_every_system(
    system: str, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=7))
    used = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=5))
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: process))
    monkeypatch.setitem(sys.modules, "resource", None if system == "win32" else used)
    monkeypatch.setattr(sys, "platform", system)
    assert peak_memory() == wanted


def test_training_and_the_demo_load_where_there_is_no_module_resource() -> None:
    """On Windows `fo train` ended in ModuleNotFoundError."""
    code = (
        "import os, sys, psutil; sys.modules['resource'] = None; del os.sysconf, os.getloadavg;"
        "import fo_core.training.logger, fo_cli.demo.page, eval.latency.legs;"
        "from eval.report.provenance import machine; assert machine()['memory_gb'] > 0"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
