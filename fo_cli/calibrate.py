"""``fo models calibrate``: when a model takes the user's turn for ended, from held-out talk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render
from fo_cli.eval import options as shared
from fo_core.devices.compute import choose
from fo_core.errors import DataError
from fo_core.progress import Bars


def calibrate(
    model: Annotated[Path, typer.Argument(help=options.MODEL_HELP, metavar="MODEL")],
    states: Annotated[
        Path,
        typer.Argument(help="Held-out talk with state labels (label-states).", metavar="JSONL"),
    ],
    false_cuts: Annotated[
        float,
        typer.Option(
            "--false-cuts", help="Highest share of turns answered before they end.", min=0, max=1
        ),
    ] = 0.05,
    write: Annotated[
        bool, typer.Option("--write", help="Put the settings and the curve into dialogue.json.")
    ] = False,
    out: shared.Out = None,
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Find the end-of-turn threshold and smoothing for a wanted share of false cuts.

    Every recording is heard once; then thresholds and smoothings are tried on what the state head
    said. The one with the least delay is shown, with the curve, and with --write kept.
    """
    from eval.duplex import calibrate as tune
    from eval.duplex.page import calibration_page
    from eval.duplex.recordings import read_states
    from eval.harness import run
    from eval.report.provenance import describe_model, fingerprint
    from fo_core import shipped
    from fo_core.config import to_dict
    from fo_core.data import manifest
    from fo_core.dialogue.settings import FILE, read_dialogue, write_calibration
    from fo_core.io.files import read_jsonl, write_json

    folder = options.model_folder(model)
    dialogue = read_dialogue(folder)
    rows, left = read_states(manifest.read(options.existing_file(states, "manifest")))
    rows = rows[:limit]
    if not any("speech_end" in row for row in rows):
        raise DataError(f"{states} holds no turn of a user that ends in state 1 (speech_end)",
                        do="fo prepare-data label-states")  # fmt: skip
    out = shared.results(out, "calibrate")
    device = choose(device)
    key = {"weights": fingerprint(folder, without=FILE)}
    about = shared.about(describe_model(folder), device, seed) | {"states": str(states)}
    with Bars() as bars:
        evaluation = tune.evaluation(str(folder), key, dialogue, about, device)
        overview = run(evaluation, rows, out, left, resume, False, seed, bars)
    turns = tune.turns_of(
        [row for row in read_jsonl(out / "items.jsonl") if "probabilities" in row]
    )
    timeout = dialogue.duplex.turn.end_of_turn_timeout_ms / 1000
    curves = tune.sweep(dialogue.states, turns, timeout)
    rule, found = tune.calibration(curves, dialogue.states, false_cuts, len(turns))
    write_json(out / "calibration.json", {"states": to_dict(rule), "calibration": to_dict(found)})
    before = tune.point(dialogue.states, turns, timeout)
    page = calibration_page(overview, curves, (dialogue.states, before), (rule, found))
    shared.show(overview, page, out, json)
    if found.false_cuts > false_cuts:
        render.note(f"no threshold has so few false cuts as {false_cuts:.1%}; this has the fewest")
    if not write:
        render.note(f"nothing was changed; --write puts this into {folder / FILE}")
        return
    write_calibration(folder, rule, found)
    if (folder / shipped.INDEX).is_file():
        shipped.write_index(folder)
    render.note(f"written: {folder / FILE}")
