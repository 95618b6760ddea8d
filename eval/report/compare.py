"""Two runs side by side: every score of both, and their difference on the items that both have.

The difference is paired: items are drawn together, so what is hard for both does not blur it. A
difference whose interval leaves out 0 is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.metrics.bootstrap import difference, interval
from fo_core.errors import DataError
from fo_core.io.files import read_json, read_jsonl, write_json, write_text
from fo_core.report.document import Document, Section, Table
from fo_core.report.writer import markdown

Row = dict[str, Any]


def compare(first: Path, second: Path, seed: int = 0) -> Row:
    """Compare two results folders.

    Args:
        first: The run to compare with.
        second: The run that is compared.
        seed: Of the bootstrap.

    Returns:
        ``a`` and ``b`` (folder, evaluation, items), ``shared`` items, ``differ`` (what is not the
        same in what was measured), and ``metrics``: each with ``a``, ``b`` over the shared items,
        ``difference``, ``low``, ``high`` and ``items``.

    Raises:
        DataError: A folder holds no results, or the two share no item or no score.
    """
    parts = [set(_parts(folder)) for folder in (first, second)]
    if all(parts):
        return _suites(first, second, sorted(parts[0] & parts[1]), seed)
    about, rows = zip(*(_read(folder) for folder in (first, second)), strict=True)
    shared = [name for name in rows[0] if name in rows[1]]
    if not shared:
        raise DataError(
            f"{first} and {second} have no item in common", do="compare runs of one set"
        )
    metrics = {}
    names = dict.fromkeys(key for name in shared for key in rows[0][name])
    for key in names:
        both = [name for name in shared if key in rows[0][name] and key in rows[1][name]]
        a, b = (([side[n][key][0] for n in both], [side[n][key][1] for n in both]) for side in rows)
        found, left, right = difference(a, b, seed), interval(*a, seed), interval(*b, seed)
        if found is None or left is None or right is None:
            continue
        metrics[key] = {
            "a": left.value,
            "b": right.value,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "items": len(both),
        }
    if not metrics:
        raise DataError(f"{first} and {second} have no score in common", do="compare like runs")
    sides = [
        {"folder": str(folder), "evaluation": known["evaluation"], "items": known["items"]}
        for folder, known in zip((first, second), about, strict=True)
    ]
    differ = _differ(about[0]["about"], about[1]["about"])
    return {"a": sides[0], "b": sides[1], "shared": len(shared), "differ": differ,
            "metrics": metrics}  # fmt: skip


def _parts(folder: Path) -> list[str]:
    """Parts of a suite's folder; none of another."""
    path = folder / "overview.json"
    return list(read_json(path).get("parts", ())) if path.is_file() else []


def _suites(first: Path, second: Path, parts: Sequence[str], seed: int) -> Row:
    """:func:`compare` on every part that both suites have."""
    if not parts:
        raise DataError(f"{first} and {second} have no part in common", do="compare like suites")
    found = {name: compare(first / name, second / name, seed) for name in parts}
    overviews = [read_json(folder / "overview.json") for folder in (first, second)]
    sides = [
        {"folder": str(folder), "evaluation": one["evaluation"], "items": one["items"]}
        for folder, one in zip((first, second), overviews, strict=True)
    ]
    return {
        "a": sides[0],
        "b": sides[1],
        "shared": sum(one["shared"] for one in found.values()),
        "differ": _differ(overviews[0]["about"], overviews[1]["about"]),
        "metrics": {
            f"{name}/{key}": m for name, one in found.items() for key, m in one["metrics"].items()
        },
    }


def _read(folder: Path) -> tuple[Row, dict[str, Any]]:
    if not (folder / "overview.json").is_file():
        raise DataError(f"{folder} holds no results", possible="the --out folder of an fo eval run")
    overview = read_json(folder / "overview.json")
    rows = {row["id"]: row.get("scores", {}) for row in read_jsonl(folder / "items.jsonl")}
    return overview, rows


def _differ(a: Mapping[str, Any], b: Mapping[str, Any], above: str = "") -> list[Row]:
    found: list[Row] = []
    for key in dict.fromkeys([*a, *b]):
        one, two = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += _differ(one, two, f"{above}{key}.")
        elif one != two:
            found.append({"what": f"{above}{key}", "a": one, "b": two})
    return found


def clear(found: Mapping[str, Any]) -> bool:
    """Whether a difference's interval leaves out 0."""
    return found["low"] is not None and (found["low"] > 0 or found["high"] < 0)


def table(found: Mapping[str, Any]) -> Table:
    """The comparison as text cells."""
    rows = []
    for key, m in found["metrics"].items():
        low, high = m["low"], m["high"]
        bounds = "" if low is None else f"{low:+.4f} to {high:+.4f}"
        mark = "*" if clear(m) else ""
        numbers = (f"{m['a']:.4f}", f"{m['b']:.4f}", f"{m['difference']:+.4f}{mark}")
        rows.append((key, *numbers, bounds, str(m["items"])))
    head = ("score", "A", "B", "B − A", "95 % interval", "items")
    return Table(head, tuple(rows), (1, 2, 3, 4, 5))


def write(found: Mapping[str, Any], out: Path) -> None:
    """Write ``compare.json`` and ``compare.md``."""
    write_json(out / "compare.json", found)
    rows = tuple((d["what"], str(d["a"]), str(d["b"])) for d in found["differ"])
    sections = [
        Section("Scores", f"{found['shared']} items in both; * = the interval leaves out 0.",
                (table(found),)),
        Section("What else differs", "", (Table(("what", "A", "B"), rows),)),
    ]  # fmt: skip
    told = f"A: {found['a']['folder']}, B: {found['b']['folder']}"
    write_text(out / "compare.md", markdown(Document("Two runs", told, sections)) + "\n")
