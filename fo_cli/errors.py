"""How commands end: one line and status 1 for what the user can fix, 130 for Ctrl-C."""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from fo_core.errors import FoError

TALKS = {"serve", "chat"}  # commands that leave nothing to go on with
OURS = {"fo_cli", "fo_core", "data_prep", "eval"}


def one_line(error: Exception) -> str | None:
    """What to say about an error that the user can fix; None for a fault of ours."""
    if isinstance(error, FoError):
        return str(error)
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            return None
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        if package and package not in OURS:
            return f"the package {package!r} is not installed; do: make setup, or pip install it"
    return None


def show_all() -> None:
    """Let stdout and stderr take every character, whatever the console's encoding (cp1252 ..)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class PoliteGroup(TyperGroup):
    """A command group whose errors are one line; what it cannot explain keeps its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; what its console cannot show is written as an escape."""
        show_all()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            talks = TALKS & {ctx.invoked_subcommand, *ctx.command_path.split()}
            typer.echo(
                "stopped" if talks else "stopped; run the same command again to go on", err=True
            )
            raise typer.Exit(130) from None
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise
            typer.echo("error: " + " ".join(line.split()), err=True)
            raise typer.Exit(1) from error
