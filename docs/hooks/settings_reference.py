"""MkDocs hook: the page of all settings, made from the configs and the comments beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2]))

PAGE = "reference/settings.md"
HEAD = """# Settings

Made from the code at every build: each key with its type, default and meaning. `--set a.b=c`
changes one, a YAML several (only what differs); an unknown key is an error that names near ones.
`fo train --list-settings STAGE` prints those of a stage.
"""
STAGES = ("input-1", "input-2", "input-3", "output-1", "output-2", "output-3")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page to the site."""
    files.append(File.generated(config, PAGE, content=reference()))
    return files


def reference() -> str:
    """The whole page, Markdown."""
    from data_prep.chain import ChainConfig
    from fo_core.config_docs import settings
    from fo_core.dialogue.settings import DialogueConfig
    from fo_core.models.model_config import FreezeOmniConfig
    from fo_core.training.recipes import settings_of

    parts: list[tuple[str, str, Any]] = [
        ("A model", "`config.json` of a model folder; a YAML for `fo train --model`.",
         FreezeOmniConfig),
        ("How it talks", "`dialogue.json` of a model folder; `--set` of `fo chat` and `fo serve`.",
         DialogueConfig),
        ("Data preparation", "`--config` and `--set` of `fo prepare-data`.", ChainConfig),
    ]  # fmt: skip
    lines = [HEAD]
    for title, about, config in parts:
        lines += [f"## {title}", "", about, "", *_table(settings(config))]
    for stage in STAGES:
        lines += [f"## Stage {stage}", "", *_table(settings(settings_of(stage)))]
    return "\n".join(lines)


def _table(rows: list[Any]) -> list[str]:
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    cells = ([f"`{r.key}`", r.type, _default(r.default), r.meaning] for r in rows)
    return [*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in cells), ""]


def _default(text: str) -> str:
    """A default in one short line; nothing where a section has none of its own."""
    line = text.replace("\n", "\\n")
    return f"`{line if len(line) <= 60 else line[:57] + '...'}`" if line else ""


def _cell(text: str) -> str:
    """A table's cell: no bar ends it, nothing in it is taken for markup."""
    if text.startswith("`"):
        return text.replace("|", "\\|")
    return "".join(f"\\{c}" if c in "|*_[" else c for c in text.replace("<", "&lt;"))
