"""The shape of the code: no circle of imports, no folder that is a pile, no import upwards."""

from __future__ import annotations

import ast
import functools
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("fo_core", "fo_cli", "data_prep", "eval")
LARGEST: dict[str, int] = {"fo_core/dialogue": 22}  # modules of a folder; of any other: 20


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement, without the expressions in it."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(tree, part, ()):
            yield node
            yield from statements(node)


@functools.cache
def imports() -> dict[str, set[str]]:
    """What every module imports of ours, also inside functions and for type checkers."""
    known, graph = modules(), defaultdict(set)
    for module, path in known.items():
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            assert not getattr(node, "level", 0), f"{path}: relative import"
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in known else node.module for name in inside]
            graph[module] |= {name for name in names if name in known and name != module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other in the end: what is left when leaves and roots are taken."""
    left = {module: set(graph.get(module, ())) for module in graph}
    while True:
        wanted = {name for names in left.values() for name in names}
        gone = {m for m, names in left.items() if not names & left.keys() or m not in wanted}
        if not gone:
            return [sorted(left)] if left else []
        left = {m: names - gone for m, names in left.items() if m not in gone}


def test_no_module_imports_itself_through_others():
    graph = {m: names for m, names in imports().items() if m != "fo_core"}  # for type checkers
    assert circles({"a": {"b"}, "b": {"a", "c"}, "c": set()}) == [["a", "b"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles(graph) == []


def test_imports_go_one_way():
    above = {"fo_core": {"fo_cli", "data_prep", "eval"}, "data_prep": {"fo_cli", "eval"}}
    above["eval"] = {"fo_cli", "data_prep"}
    top = {module: module.split(".")[0] for module in modules()}
    edges = [(m, name) for m, names in imports().items() for name in names]
    assert len(edges) > 1000
    assert [e for e in edges if top[e[1]] in above.get(top[e[0]], ())] == []


def test_no_folder_is_a_pile():
    count = Counter(path.parent.relative_to(ROOT) for path in modules().values())
    assert {str(f): n for f, n in count.items() if n > LARGEST.get(str(f), 20)} == {}


def test_constructors_name_what_they_take():
    """``**named: Any`` is read by no type checker, and misspelt arguments go down with it."""
    found = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                taken = (node.args.vararg, node.args.kwarg)
                found += [name for one in taken if one and ast.unparse(one).endswith(": Any")]
    assert Counter(found) == {"data_prep.runner.outcome": 1}  # the fields of a JSON line
