"""Metrics never see the model: they read texts, waves and numbers."""

import ast
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[3] / "eval" / "metrics").glob("*.py"))
ALLOWED = {"eval.metrics", "fo_core.errors", "fo_core.features"}  # of our own packages


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            assert name.split(".")[0] not in {"torch", "transformers"}, name
            if name.split(".")[0] in {"fo_core", "eval", "fo_cli", "data_prep"}:
                assert any(name == one or name.startswith(one + ".") for one in ALLOWED), name
