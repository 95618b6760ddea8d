"""``fo eval duplex``: turn taking, interruptions, dialogue states."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fo_cli import options
from fo_cli.eval import options as shared
from fo_core.devices.compute import choose
from fo_core.errors import FoError
from fo_core.progress import Bars


def duplex(
    out: shared.Out = None,
    model: shared.Model = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder in Full-Duplex-Bench's form.", metavar="DIR"),
    ] = None,
    states: Annotated[
        Path | None,
        typer.Option("--states", help="Manifest with state labels.", metavar="JSONL"),
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Measure the output.wav beside each input.")
    ] = False,
    clock: Annotated[
        Literal["wall", "sound"],
        typer.Option("--clock", help="wall: in real time; sound: as if computing took no time."),
    ] = "wall",
    judge: shared.Judge = "faster-whisper",
    judge_model: shared.JudgeModel = None,
    overrides: options.Sets = None,
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    rescore: shared.Rescore = False,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure turn taking: rates and latencies of Full-Duplex-Bench, and the dialogue states.

    The recordings are played to the model in real time (--clock wall), so computing time is part of
    the latencies and the machine should be idle otherwise.
    """
    from eval import judges
    from eval.duplex.page import duplex_page
    from eval.duplex.recordings import TALK, read_states
    from eval.duplex.turn_taking import evaluation, passes
    from eval.harness import asked_before, run
    from eval.report.provenance import describe_model
    from eval.sets import full_duplex_bench

    out = shared.results(out, "duplex")
    device = choose(device)
    rows: list[dict[str, Any]] = []
    left: dict[str, str] = {}
    folder = None
    if rescore:
        before = asked_before(out, "duplex")
        about, rows, left = before["about"], before["items"], before["left_out"]
        key: dict[str, Any] = {}
    else:
        if data is None and states is None:
            data = _at_hand()
        if data is not None:
            rows, left = full_duplex_bench.read(options.existing_folder(data, "data folder"))
        if outputs:
            if model is not None or states is not None:
                raise FoError("--outputs measures recordings that are there, without a model")
            left |= {r["id"]: "no output.wav" for r in rows if "given_wav" not in r}
            rows = [row for row in rows if "given_wav" in row]
            key = {"outputs": str(data)}
            described = {"fingerprint": "", "outputs": str(data)}
        else:
            folder = str(shared.needed_model(model))
            described = describe_model(folder)
            key = {"fingerprint": described["fingerprint"]}
        rows = rows[:limit]
        if states is not None:
            from fo_core.data import manifest

            labelled, more = read_states(manifest.read(options.existing_file(states, "manifest")))
            rows, left = rows + labelled[:limit], left | more
        about = shared.about(described, device, seed) | {"clock": clock}
    ears = None
    if any(row["kind"] == TALK for row in rows):
        judges.check(judge, times=True)
        ears = judges.JudgeSpec(judge, judge_model)
        about |= {"judge": ears.key()}
    settings = [f"seed={seed}", *(overrides or ())]
    steps = passes(folder, key, clock, ears, out, settings, device)
    with Bars() as bars:
        found = run(evaluation(steps, about), rows, out, left, resume, rescore, seed, bars)
    shared.show(found, duplex_page(found), out, json)


def _at_hand() -> Path:
    """The recordings in ``$FO_DATA`` or the cache.

    Raises:
        FoError: There are none.
    """
    from eval.sets import full_duplex_bench
    from eval.source import known_source
    from fo_core.errors import DataError

    try:
        return Path(known_source("full-duplex-bench", full_duplex_bench))
    except DataError as error:
        raise FoError(
            "nothing to measure",
            possible="--data DIR, --states MANIFEST, or both; or Full-Duplex-Bench at "
            "$FO_DATA/full_duplex_bench",
        ) from error
