"""The whole chain from a source to training manifests, or any one step of it.

    sample -> regenerate -> synthesize -> label-states   -> user/{train,val}.jsonl
                                       -> encode         -> assistant/{train,val}.jsonl

Sources of the first step: published dialogues (``moss``), a closed domain (``domain``), a file of
questions (``questions``), recorded questions (``corpus``), a file of sentences (``texts``: nothing
is answered, so their steps are sample, synthesize and encode).

Each step reads the manifest of the step before and writes its own folder (runner.py); what was
made from the same input and settings is not repeated. The folder's settings.json is the config of
the last run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from data_prep.runner.run import Progress, RunConfig, StepReport, quiet
from data_prep.sources import domain_questions, texts
from data_prep.sources.domain_questions import DomainConfig
from data_prep.sources.texts import TextsConfig
from data_prep.steps import answers, encode_turns, label_turns, sample, synthesize_turns
from data_prep.steps.answers import AnswersConfig
from data_prep.steps.encode_turns import EncodeConfig
from data_prep.steps.label_turns import TurnStatesConfig
from data_prep.steps.sample import SampleConfig
from data_prep.steps.speakers import READERS, SIDES, SynthesizeConfig
from data_prep.steps.speakers import check as check_voices
from fo_core.config import config, to_dict
from fo_core.errors import DataError, FoError
from fo_core.io.files import write_json, write_text

FOLDERS = {  # step -> its folder, in the order of the steps
    "sample": "sample",
    "regenerate": "regenerate",
    "synthesize": "synthesize",
    "label-states": "user",
    "encode": "assistant",
}
SOURCES = {  # source -> its steps, in order
    **dict.fromkeys(("domain", "moss", "questions", "corpus"), tuple(FOLDERS)),
    "texts": ("sample", "synthesize", "encode"),
}


@config
class ChainConfig:
    """Everything of a run; each step's section stands in its own file."""

    source: Literal["domain", "moss", "questions", "corpus", "texts"] = "domain"
    domain: DomainConfig = DomainConfig()  # what the source domain asks
    texts: TextsConfig = TextsConfig()  # inputs of questions, corpus and texts
    sample: SampleConfig = SampleConfig()  # what is drawn of moss
    regenerate: AnswersConfig = AnswersConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    label_states: TurnStatesConfig = TurnStatesConfig()
    encode: EncodeConfig = EncodeConfig()
    run: RunConfig = RunConfig()


def step_before(source: str, step: str) -> str:
    """The step whose manifest a step of a source reads; "" for the first one."""
    steps = [each for each in SOURCES[source] if each != "label-states" or step == each]
    return ("", *steps)[steps.index(step)]


def run_chain(
    cfg: ChainConfig,
    out: Path,
    steps: Sequence[str] = tuple(FOLDERS),
    progress: Progress = quiet,
    source: Path | Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Run steps in their order; those that the source does not have are skipped.

    Args:
        cfg: The whole run. Its limit is of the first of the steps.
        out: The data's folder.
        steps: Which ones; encode is skipped where no model is named and others are asked for.
        progress: Called with (step, done, total).
        source: Manifest (for label-states and encode also several, or a folder of them) for the
            first of the steps, instead of that of the step before it.

    Returns:
        Step -> its report.

    Raises:
        DataError: An unknown step, or the step before one of these is not done.
        FoError: What the steps raise.
    """
    out = Path(out).resolve()
    unknown = [step for step in steps if step not in FOLDERS]
    if unknown:
        raise DataError(f"unknown step {unknown[0]!r}", possible=", ".join(FOLDERS))
    chosen = [step for step in SOURCES[cfg.source] if step in steps]
    if not chosen and source is not None:
        chosen = [step for step in FOLDERS if step in steps]
    if not chosen:
        raise DataError(f"source {cfg.source} has no step {steps[0]}",
                        possible=", ".join(SOURCES[cfg.source]))  # fmt: skip
    if chosen[0] == "sample" and cfg.source in ("texts", "questions", "corpus"):
        texts.check(cfg.texts, cfg.source)
    sides = sides_of(cfg.source)
    if "synthesize" in chosen:
        check_voices(cfg.synthesize, sides)
    if len(chosen) > 1 and not cfg.encode.model:
        chosen = [step for step in chosen if step != "encode"]
    if "encode" in chosen:
        encode_turns.ready(cfg.encode)
    reports: dict[str, Any] = {}
    trial = _trial(chosen)
    how, spoken = cfg.run, out / FOLDERS["synthesize"] / "manifest.jsonl"
    with _remembered(cfg, out):
        for step in chosen:
            first = step_before(cfg.source, step) if step in SOURCES[cfg.source] else ""
            if source is None and first:
                source = out / FOLDERS[first] / "manifest.jsonl"
                if not source.is_file():
                    raise DataError(f"{source} is not there", do=f"run {first} before {step}")
            if step == trial and not spoken.exists():
                synthesize_turns.try_voices(cfg.synthesize, sides)
            made = _work(cfg, step)(source, out / FOLDERS[step], how, progress)
            reports[step] = asdict(made) if isinstance(made, StepReport) else made
            if not reports[step]["items"]:
                raise DataError(f"{step} found nothing to do in {source}",
                                do=f"run {first or step} again")  # fmt: skip
            source, how = None, replace(how, limit=0)
    return reports


@contextlib.contextmanager
def _remembered(cfg: ChainConfig, out: Path) -> Iterator[None]:
    """The folder's settings.json is this run's, without its limit.

    That of the run before comes back if this one ends in an error before it did anything: a
    mistyped voice is not what the next run should begin with.
    """
    path = out / "settings.json"
    before = path.read_text(encoding="utf-8") if path.is_file() else None

    def noted() -> int:
        return sum(each.stat().st_size for each in out.glob("*/*.jsonl"))

    done = noted()
    write_json(path, to_dict(replace(cfg, run=replace(cfg.run, limit=0))))
    try:
        yield
    except FoError:
        if noted() == done and before is not None:
            write_text(path, before)
        elif noted() == done:
            path.unlink(missing_ok=True)
        raise


def _trial(steps: Sequence[str]) -> str:
    """The step before which every voice says a word: what comes before it may take hours."""
    if "synthesize" not in steps[1:]:
        return ""
    return "regenerate" if "regenerate" in steps else steps[0]


def sides_of(source: str) -> tuple[str, ...]:
    """Lists of voices that a source needs."""
    return {"texts": READERS, "corpus": ("assistants",)}.get(source, SIDES)


def _work(cfg: ChainConfig, step: str) -> Callable[..., StepReport | dict[str, Any]]:
    """A step's function with its section of the config."""
    states, held = cfg.label_states, (cfg.label_states.val, cfg.label_states.seed)
    if step == "label-states":
        if not states.speakers:
            states = replace(states, speakers=cfg.synthesize.users)
        return partial(label_turns.run, states)
    if step == "encode":
        return partial(encode_turns.run, replace(cfg.encode, val=held[0], seed=held[1]))
    if step == "regenerate":
        return partial(answers.run, cfg.regenerate)
    if step == "synthesize":
        sides = sides_of(cfg.source)
        return partial(synthesize_turns.run, cfg.synthesize, sides=sides, held=held)
    if cfg.source == "moss":
        return partial(sample.run, cfg.sample)
    if cfg.source == "domain":
        return lambda _, out, how, tell: domain_questions.run(cfg.domain, out, how, tell)
    return lambda _, out, how, tell: texts.run(cfg.texts, cfg.source, out, how, tell)
