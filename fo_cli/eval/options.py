"""Options of the evaluations, and what they all print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fo_cli import options, render
from fo_core.errors import FoError
from fo_core.registry import did_you_mean

if TYPE_CHECKING:
    from eval.judges import JudgeSpec
    from eval.systems.cascade import CascadeSpec
    from eval.systems.sound import Rating

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the results. Default: runs/eval/NAME.", metavar="DIR"),
]
RESULTS = Path("runs") / "eval"
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N items.")]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help=f"{options.MODEL_HELP} Default: fo-smol; --rescore needs none.",
        metavar="DIR|NAME",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Continue with what is in --out, or start over."),
]
Rescore = Annotated[
    bool,
    typer.Option(
        "--rescore", help="Apply a new judge or new metrics to stored outputs; runs no model."
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed of sampling and bootstrap.")]
Judge = Annotated[str, typer.Option("--judge", help="Recogniser that transcribes the speech.")]
JudgeModel = Annotated[
    str | None,
    typer.Option("--judge-model", help="Folder or hub id of its model.", metavar="SPEC"),
]
Baseline = Annotated[
    Literal["cascade"] | None,
    typer.Option(
        "--baseline",
        help="cascade: a recogniser, the same LLM and a speech engine answer the same sound.",
    ),
]
BaselineASR = Annotated[
    str, typer.Option("--baseline-asr", help="Its recogniser.", metavar="NAME[=MODEL]")
]
BaselineTTS = Annotated[
    str, typer.Option("--baseline-tts", help="Its speech engine.", metavar="NAME[=VOICE]")
]
SecondJudge = Annotated[
    str | None,
    typer.Option(
        "--second-judge",
        help="A second recogniser for the replies; disagreements are shown.",
        metavar="NAME[=MODEL]",
    ),
]
Dnsmos = Annotated[
    bool,
    typer.Option(
        "--dnsmos/--no-dnsmos",
        help="Also rate the sound: DNSMOS; UTMOS, Distill-MOS and speaker similarity if "
        "their weights are installed.",
    ),
]
Utmos = Annotated[
    str | None,
    typer.Option(
        "--utmos",
        help="UTMOS22 as a TorchScript file. Default: $FO_UTMOS or utmos-pytorch.",
        metavar="FILE",
    ),
]
VoiceLike = Annotated[
    Path | None,
    typer.Option(
        "--voice-like", help="A recording of the voice that replies should have.", metavar="CLIP"
    ),
]
Published = Annotated[bool, typer.Option("--published", help="Also print the paper's rows.")]


def chosen(values: list[str] | None, possible: Sequence[str], flag: str) -> list[str]:
    """Values of an option that may be repeated, each once; none is an empty list.

    Raises:
        FoError: One of them is not possible.
    """
    for value in values or ():
        if value not in possible:
            raise FoError(f"{flag} {value!r}", possible=did_you_mean(value, list(possible)))
    return list(dict.fromkeys(values or ()))


def speaker_of_questions(known: Any, voice: str | None) -> Any:
    """Who speaks the questions of a set when nobody says: its own recordings where it is published
    with them, else the first engine that speaks a word here."""
    from eval import voices

    if getattr(known, "RECORDED", False):
        return voices.Voice(voices.RECORDINGS, voice)
    found, failed = voices.first_that_speaks(known.LANGUAGE, voice)
    for name, why in failed.items():
        render.note(f"--tts {name} does not work here: {why}")
    render.note(f"voice of the questions: {found.engine}")
    return found


def cascade(asr: str, tts: str, language: str, answered: bool = False) -> CascadeSpec:
    """The baseline of these engines, each ``NAME`` or ``NAME=MODEL`` (of a voice: ``=VOICE``).

    Args:
        asr: Its recogniser.
        tts: Its speech engine.
        language: Of the questions.
        answered: It will not be asked any more: the engines need not be there.

    Raises:
        EngineError: There is none of this name, or its package is missing.
    """
    from eval.judges import JudgeSpec
    from eval.systems.cascade import CascadeSpec

    name, _, model = asr.partition("=")
    engine, _, voice = tts.partition("=")
    spec = CascadeSpec(JudgeSpec(name, model or None, language), engine, voice or None)
    if not answered:
        spec.check()
    return spec


def another_judge(spec: str, first: JudgeSpec) -> JudgeSpec:
    """The second judge, ``NAME`` or ``NAME=MODEL``.

    Raises:
        EngineError: There is none of this name, or its package is missing.
        FoError: It is the first one.
    """
    from eval import judges

    name, _, model = spec.partition("=")
    judges.check(name)
    found = judges.JudgeSpec(name, model or None, first.language)
    if found == first:
        raise FoError(f"--second-judge {spec} is the judge itself", possible="another recogniser")
    return found


def rating(
    wanted: bool, utmos: str | None, reference: Path | None = None, originals: bool = False
) -> Rating | None:
    """What rates the sound of replies.

    Raises:
        EngineError: A file that was named cannot be used.
        FoError: There is no such clip.
    """
    from eval.systems import sound

    if not wanted:
        return None
    if reference is not None:
        options.existing_file(reference, "clip")
    return sound.rating(utmos, reference, originals)


def about_sound(rate: Rating | None) -> dict[str, Any]:
    """What results say of the measures of sound: which ran, and why others did not."""
    if rate is None:
        return {}
    return {"sound": rate.key(), "not_measured": dict(rate.missing)}


def needed_model(model: Path | None) -> Path:
    """The model folder of a run that is not a rescore: the one that ships if none was named."""
    if model is not None:
        return options.model_folder(model)
    render.note(f"model: {options.DEFAULT_MODEL}, which ships with the package")
    return options.model_folder(options.DEFAULT_MODEL)


def results(out: Path | None, name: str) -> Path:
    """The folder of an evaluation's results.

    Raises:
        FoError: It cannot be written.
    """
    if out is None:
        out = RESULTS / name
        render.note(f"results: {out}")
    return options.writable(out, "results folder")


def about(model: Mapping[str, Any], device: str, seed: int) -> dict[str, Any]:
    """What results say of a run: the model, the seed, versions, the machine."""
    from eval.report.provenance import machine, versions

    where = {"versions": versions(), "machine": machine(device)}
    return {"model": dict(model), "seed": seed} | where


def show(
    overview: Mapping[str, Any], page: Any, out: Path, json: bool, published: bool = False
) -> None:
    """Write the page, print its first table (all of them with ``published``)."""
    from eval.report.results import write_page

    paths = write_page(out, overview, page)
    if json:
        render.as_json(overview)
        return
    for number, section in enumerate(page.sections):
        if number and not published:
            break
        if number:
            render.result(f"\n{section.title}. {section.text}")
        for table in section.tables:
            cut = [i for i, name in enumerate(table.head) if name != "meaning"]
            render.table([table.head[i] for i in cut], [[r[i] for i in cut] for r in table.rows])
    for name, why in overview["about"].get("not_measured", {}).items():
        render.note(f"not measured: {name}: {why}")
    if overview["skipped"]:
        first = overview["skipped"][0]
        render.note(f"{len(overview['skipped'])} items skipped, such as {first['id']}: "
                    f"{first['why']}")  # fmt: skip
    render.note(f"report: {paths['html']}; every item is in {out / 'items.jsonl'}")
