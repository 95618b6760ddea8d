"""The latency report as Markdown and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from eval.latency.legs import Leg, Legs
from eval.latency.original import MACHINE
from eval.latency.stream import Report, Row, reached
from fo_core.devices import cpu
from fo_core.layers import kernels

HEAD = ("what", "measured", "bound", "reached")
AGAINST = ("original", "faster by")  # behind them, if they are asked for
LEGS_HEAD = (
    "leg, ms", "average", "50 %", "90 %", "99 %", "bound", "reached", "paper: average, 50 %, 90 %",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """The machine and how busy it is."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu.describe()[0],
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load": None if load is None else round(load, 2),
    }


def as_dict(report: Report) -> dict[str, Any]:
    """JSON-ready; ``faster`` is how many times as fast as the original the row is.

    ``reached`` is the share of the bound.
    """
    rows = [asdict(row) | {"reached": row.reached, "faster": faster(row)} for row in report.rows]
    return asdict(report) | {"rows": rows, "bandwidth_gb_s": report.bandwidth / 1e9}


def legs_dict(legs: Legs) -> dict[str, Any]:
    """JSON-ready; every talk's legs are there."""
    found = {key: value for key, value in vars(legs).items() if key not in ("legs", "talks")}
    rows = {leg.key: asdict(leg) for leg in legs.legs}
    return found | {"legs": rows, "talks": [one.legs for one in legs.talks]}


def leg_cells(leg: Leg) -> tuple[str, ...]:
    """A leg's texts under :data:`LEGS_HEAD`."""
    found = (_number(value, "ms") for value in (leg.mean, leg.p50, leg.p90, leg.p99))
    paper = ", ".join(f"{value:g}" for value in leg.paper) if any(leg.paper) else ""
    bound = "" if leg.bound is None else _number(leg.bound, "ms")
    return (leg.label, *found, bound, _share(reached(leg.p50, leg.bound)), paper)


def legs_notes(legs: Legs) -> str:
    """What stands under the legs."""
    memory = ", ".join(f"{name} {value:.0f}" for name, value in legs.memory.items())
    return (
        f"{legs.runs} talks after {legs.warmup} to warm up, seeds from {legs.seed} on, "
        f"{legs.first_chunk} speech tokens first. The legs are {100 * legs.covered:.1f} % of what "
        f"the caller measured. Real-time factor {legs.rtf:.2f} speaking, "
        f"{legs.rtf_listen:.2f} listening. MB: {memory}."
    )


def faster(row: Row) -> float | None:
    """Times as fast as the original program."""
    if not row.original:
        return None
    share = row.value / row.original
    return share if row.unit == "tokens/s" else 1 / share


def cells(row: Row, against: bool = False) -> tuple[str, ...]:
    """A row's texts under :data:`HEAD`, and :data:`AGAINST` if it is held against the original."""
    times = faster(row)
    found = (
        row.label,
        f"{_number(row.value, row.unit)} {row.unit}".strip(),
        "" if row.bound is None else _number(row.bound, row.unit),
        _share(row.reached),
    )
    if not against:
        return found
    original = "" if row.original is None else f"{row.original:g}"
    return (*found, original, "" if times is None else f"{times:.1f}")


def head(against: bool) -> tuple[str, ...]:
    """Over :func:`cells`."""
    return (*HEAD, *AGAINST) if against else HEAD


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _number(value: float, unit: str) -> str:
    if unit == "":
        return f"{value:.2f}"
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def markdown(
    reports: Sequence[Report],
    legs: Sequence[Legs] = (),
    used: Mapping[str, str] | None = None,
    against: bool = False,
) -> str:
    """The tables of each report and of its legs, under the machine, its load and kernels.

    ``against``: with the original's figures and their machine.
    """
    found = machine()
    busy = "" if found["load"] is None else f", load {found['load']} at the end"
    text = [
        f"{found['cpu']} ({found['capability']}), {found['cores']} cores{busy}, "
        f"torch {found['torch']}."
    ]
    if used:
        text += ["", kernels.say(used) + "."]
    if against:
        text += ["", MACHINE + "."]
    for index, report in enumerate(reports):
        plural = "s" * (report.threads > 1)
        text += [
            "",
            f"### {report.size}, weights {report.weights}, {report.threads} thread{plural}",
        ]
        if report.choice:
            text += ["", f"Measured on this CPU: {report.choice}."]
        if report.rows:
            rows = (cells(row, against) for row in report.rows)
            text += ["", report_notes(report), "", *_table(head(against), rows)]
        if legs:
            own = legs[index]
            text += ["", *_table(LEGS_HEAD, map(leg_cells, own.legs)), "", legs_notes(own)]
    return "\n".join(text)


def report_notes(report: Report) -> str:
    """What stands over the steps."""
    busy = ""
    if report.threads == 1:
        busy = f" The program had its core for {100 * min(1.0, report.share):.0f} % of the time."
    return (
        f"Medians of {report.repeat} runs; {report.bandwidth / 1e9:.1f} GB/s and "
        f"{report.peak / 1e9:.0f} GFLOP/s measured.{busy}"
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table under an empty line."""
    return "\n".join(["", *_table(head, rows)])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]
