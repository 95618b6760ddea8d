"""The ``fo`` program: its commands, each in a file of its own. Nothing heavy is imported here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fo_cli import chat, models, render
from fo_cli.attach import attach
from fo_cli.demo.main import demo
from fo_cli.errors import PoliteGroup
from fo_cli.eval import main as evaluate
from fo_cli.prepare import main as prepare_data
from fo_cli.profile import main as profile
from fo_cli.serve import serve
from fo_cli.train import train

# Threads that wait for each other sleep. By default they spin, and where a core is busy with
# something else, all of them burn for it: one question then takes minutes. Read when torch loads.
for _name, _value in (("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")):
    os.environ.setdefault(_name, _value)

app = typer.Typer(
    name="fo",
    cls=PoliteGroup,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Give a frozen text LLM ears and a voice: data, training, evaluation, dialogue.",
    epilog="Exit status: 0, 1 (one line says what is wrong), 2 (usage), 130 (Ctrl-C).",
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    render.result(f"freeze-omni {version('freeze-omni')}")
    raise typer.Exit


@app.callback()
def fo(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Parse what stands before the command."""


app.command("demo")(demo)
app.add_typer(prepare_data.app, name="prepare-data")
app.command("train")(train)
app.command("attach")(attach)
app.add_typer(evaluate.app, name="eval")
app.add_typer(chat.app, name="chat")
app.add_typer(models.app, name="models")
app.add_typer(profile.app, name="profile")
app.command("serve")(serve)
