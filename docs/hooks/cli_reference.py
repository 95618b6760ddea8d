"""MkDocs hook: the page of all ``fo`` commands, made from the program itself at every build."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, get_args

import typer.main
from mkdocs.structure.files import File, Files
from typer.core import TyperGroup

sys.path.insert(0, str(Path(__file__).parents[2]))
from fo_cli.main import app  # noqa: E402

PAGE = "reference/cli.md"
HEAD = """# Command line

Made from the program at every build of these pages; `fo COMMAND --help` shows the same. Results go
to stdout (`--json` for machines), progress and notes to stderr. Exit status: 0, 1 (one line says
what is wrong, what is possible and what to do), 2 (wrong usage), 130 (Ctrl-C).
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page to the site."""
    files.append(File.generated(config, PAGE, content=reference()))
    return files


def reference() -> str:
    """The whole page, Markdown."""
    command: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *_sections(command, "fo")])


def _sections(command: Any, name: str) -> list[str]:
    """The sections of a command and of all commands below it."""
    own = [f"{'#' * (1 + name.count(' '))} {name}", "", _prose(command.help), ""]
    if not isinstance(command, TyperGroup):
        return [*own, *_usage(command, name), *_options(command)]
    below = {key: value for key, value in command.commands.items() if not value.hidden}
    if name == "fo":
        own = []
    for key, value in below.items():
        own += _sections(value, f"{name} {key}")
    return own


def _usage(command: Any, name: str) -> list[str]:
    words = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    needed = [
        f"{p.opts[0]} {_metavar(p)}"
        for p in command.params
        if p.param_type_name == "option" and p.required
    ]
    return ["```text", " ".join([name, *words, *needed, "[OPTIONS]"]), "```", ""]


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]{}")
    name = f"{name} ..." if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _options(command: Any) -> list[str]:
    rows = [_row(p) for p in command.params if not getattr(p, "hidden", False)]
    if not rows:
        return []
    return ["| option | meaning | default |", "|---|---|---|", *rows, ""]


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        label = f"`{_argument(parameter)}`"
    else:
        flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
        takes = "" if getattr(parameter, "is_flag", False) else f" `{_metavar(parameter)}`"
        label = flags + takes
    default = "required" if parameter.required else _default(parameter)
    return f"| {label} | {_cell(_prose(getattr(parameter, 'help', '') or ''))} | {default} |"


def _metavar(parameter: Any) -> str:
    """What an option takes: its own word, its choices, or the type it is read as."""
    if parameter.metavar:
        return str(parameter.metavar)
    described = parameter.type_descriptor
    if described.choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in described.choices)
    inner = get_args(described.annotation) or (described.annotation,)
    return str(getattr(inner[0], "__name__", inner[0])).upper()


def _default(parameter: Any) -> str:
    value = getattr(parameter.default, "value", parameter.default)
    if value in (None, False, "", ()) or callable(value):
        return ""
    return f"`{value}`"


def _prose(text: str | None) -> str:
    """Help text as a paragraph; angle brackets are no HTML."""
    lines = re.sub(r"[ \t]*\n[ \t]*", "\n", (text or "").strip())
    joined = re.sub(r"(?<!\n)\n(?!\n)", " ", lines)
    return joined.replace("<", "&lt;").replace("*", "\\*")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
