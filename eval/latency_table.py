"""The latency report as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from eval.latency import Report, Row

HEAD = ("what", "measured", "bound", "original", "faster by")


def machine() -> dict[str, Any]:
    """The machine and how busy it is."""
    names = []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load": None if load is None else round(load, 2),
    }


def as_dict(report: Report) -> dict[str, Any]:
    """JSON-ready; ``faster`` is how many times as fast as the original the row is."""
    rows = [asdict(row) | {"faster": faster(row)} for row in report.rows]
    return asdict(report) | {"rows": rows, "bandwidth_gb_s": report.bandwidth / 1e9}


def faster(row: Row) -> float | None:
    """Times as fast as the original program."""
    if not row.original:
        return None
    share = row.value / row.original
    return share if row.unit == "tokens/s" else 1 / share


def cells(row: Row) -> tuple[str, ...]:
    """A row's texts under :data:`HEAD`."""
    times = faster(row)
    return (
        row.label,
        f"{_number(row.value, row.unit)} {row.unit}".strip(),
        "" if row.bound is None else _number(row.bound, row.unit),
        "" if row.original is None else f"{row.original:g}",
        "" if times is None else f"{times:.1f}",
    )


def _number(value: float, unit: str) -> str:
    if unit == "":
        return f"{value:.2f}"
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def markdown(reports: Sequence[Report]) -> str:
    """One table for each report, under the machine and its load."""
    found = machine()
    busy = "" if found["load"] is None else f", load {found['load']} at the end"
    text = [
        f"{found['cpu']} ({found['capability']}), {found['cores']} cores{busy}, "
        f"torch {found['torch']}."
    ]
    for report in reports:
        text += [
            "",
            f"### {report.size}, weights {report.weights}, {report.threads} "
            f"thread{'s' * (report.threads > 1)}",
            "",
            f"Medians of {report.repeat} runs; {report.bandwidth / 1e9:.1f} GB/s measured.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|---|" + "--:|" * (len(HEAD) - 1),
            *("| " + " | ".join(cells(row)) + " |" for row in report.rows),
        ]
    return "\n".join(text)
