"""``fo eval codec``: what the codec keeps of words, and whether its global tokens are the voice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options
from fo_cli.eval import options as shared
from fo_core.devices.compute import choose
from fo_core.errors import FoError
from fo_core.progress import Bars


def codec(
    out: shared.Out = None,
    model: shared.Model = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Manifest of several speakers, with texts.", metavar="JSONL"),
    ] = None,
    judge: shared.Judge = "faster-whisper",
    judge_model: shared.JudgeModel = None,
    dnsmos: shared.Dnsmos = True,
    utmos: shared.Utmos = None,
    language: Annotated[str, typer.Option("--language", help="Of the recordings.")] = "en",
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    rescore: shared.Rescore = False,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure a codec: words and voice of recordings, and with exchanged global tokens.

    Global tokens of another speaker's recording should change the voice and leave the words: a
    recogniser's error rate, a classifier of the manifest's voices and the pitch are compared with
    those of the recordings.
    """
    from eval import judges
    from eval.codec import as_rows, evaluation, passes
    from eval.harness import asked_before, run
    from eval.report.pages import codec_page
    from eval.report.provenance import describe_model
    from fo_core.data import manifest
    from fo_core.io.files import read_jsonl

    out = shared.results(out, "codec")
    judges.check(judge)
    device = choose(device)
    ears = judges.JudgeSpec(judge, judge_model, language)
    rate = shared.rating(dnsmos, utmos, originals=True)
    if rescore:
        before = asked_before(out, "codec")
        about, rows, left = before["about"], before["items"], before["left_out"]
        steps = passes("", {}, rows, ears, out, device, rate)
    else:
        folder = shared.needed_model(model)
        if data is None:
            raise FoError("nothing to hear", possible="--data MANIFEST of several speakers")
        rows, left = as_rows(manifest.read(data), limit, seed)
        about = shared.about(describe_model(folder), device, seed) | {"data": str(data)}
        key = {"fingerprint": about["model"]["fingerprint"], "seed": seed}
        steps = passes(str(folder), key, rows, ears, out, device, rate)
    about = about | {"judge": ears.key()} | shared.about_sound(rate)
    with Bars() as bars:
        found = run(evaluation(steps, about), rows, out, left, resume, rescore, seed, bars)
    page = codec_page(found, read_jsonl(out / "items.jsonl"), out)
    shared.show(found, page, out, json)
