"""``fo models calibrate``: when a model takes the user's turn for ended, from held-out talk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render
from fo_cli.eval import options as shared
from fo_core.devices.compute import choose as choose_device
from fo_core.errors import DataError, FoError
from fo_core.progress import Bars


def calibrate(
    model: Annotated[Path, typer.Argument(help=options.MODEL_HELP, metavar="MODEL")],
    states: Annotated[
        Path,
        typer.Argument(
            help="Manifest of held-out turns with state labels (label-states).", metavar="JSONL"
        ),
    ],
    false_cuts: Annotated[
        float,
        typer.Option(
            "--false-cuts", help="Highest share of turns answered before they end.", min=0, max=1
        ),
    ] = 0.05,
    missed: Annotated[
        float,
        typer.Option(
            "--missed", help="Highest share of turns dismissed or never decided.", min=0, max=1
        ),
    ] = 0.1,
    write: Annotated[
        bool, typer.Option("--write", help="Write the settings and the curve into dialogue.json.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="With --write: also where no setting meets both shares (the nearest is taken), or "
            "where the turns are few.",
        ),
    ] = False,
    old_anyway: options.OldAnyway = False,
    out: shared.Out = None,
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Find when a turn of the user is over: threshold, its fall in silence, smoothing.

    Every recording is processed once; then settings are tried on the state head's output. Of the
    settings with few enough false cuts and missed turns, the one with the smallest delay is shown,
    with the curve; --write keeps it. If no setting meets both limits, nothing is written.
    """
    from eval.duplex import calibrate as tune
    from eval.duplex.page import calibration_page
    from eval.duplex.recordings import read_states
    from eval.duplex.trade_off import Wanted, choose, unmet
    from eval.duplex.trade_off import calibration as how_found
    from eval.harness import run
    from eval.report.provenance import describe_model, fingerprint
    from fo_core import shipped
    from fo_core.config import to_dict
    from fo_core.data import manifest
    from fo_core.dialogue.settings import FILE, read_dialogue, write_calibration
    from fo_core.io.files import read_jsonl, write_json

    if force and not write:
        raise FoError("--force is for --write", do="add --write, or leave it out")
    folder = options.model_folder(model)
    dialogue = read_dialogue(folder)
    rows, left = read_states(manifest.read(options.existing_file(states, "manifest")))
    rows = rows[:limit]
    if not any("speech_end" in row for row in rows):
        raise DataError(f"{states} holds no turn of a user that ends in state 1 (speech_end)",
                        do="fo prepare-data label-states")  # fmt: skip
    out = shared.results(out, "calibrate")
    device = choose_device(device)
    about = shared.about(describe_model(folder), device, seed)
    weights = fingerprint(folder, without=FILE)
    timeout, rule = dialogue.duplex.turn.end_of_turn_timeout_ms / 1000, dialogue.states
    with Bars() as bars:
        evaluation = tune.evaluation(str(folder), weights, dialogue,
                                     about | {"states": str(states)}, device)  # fmt: skip
        overview = run(evaluation, rows, out, left, resume, False, seed, bars)
        turns = tune.turns_of(read_jsonl(out / "items.jsonl"))
        unheard = [row for row in overview["skipped"] if row["id"] not in left]
        if not turns:
            raise DataError(
                f"{states}: not one turn of a user could be heard ({unheard[0]['why']})"
            )
        curves = tune.sweep(rule, turns, timeout, bars)
    wanted = Wanted(false_cuts, missed)
    chosen = choose(curves, wanted)
    found = how_found(curves, chosen, wanted, len(turns))
    against = unmet(curves, wanted, len(turns))
    kept = {"states": to_dict(chosen.rule(rule)), "calibration": to_dict(found)}
    write_json(out / "calibration.json", kept | {"against": against})
    now = (rule, tune.point(rule, turns, timeout))
    page = calibration_page(overview, curves, now, chosen, wanted, len(turns))
    shared.show(overview, page, out, json)
    if unheard:
        render.note(f"{len(unheard)} of {len(rows)} could not be heard, such as "
                    f"{unheard[0]['id']}: {unheard[0]['why']}")  # fmt: skip
    if write and against and not force:
        raise DataError(f"nothing was written: {against}", do="other shares, or --force")
    if against:
        render.note(against)
    if not write:
        render.note(f"nothing was changed; --write puts this into {folder / FILE}")
        return
    write_calibration(folder, chosen.rule(rule), found)
    if (folder / shipped.INDEX).is_file():
        shipped.write_index(folder)
    render.note(f"written: {folder / FILE}")
