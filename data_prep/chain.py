"""The whole chain from published dialogues to training manifests, or any one step of it.

    sample -> regenerate -> synthesize -> label-states   -> user/{train,val}.jsonl
                                       -> encode         -> assistant/{train,val}.jsonl

Each step reads the manifest of the step before and writes its own folder (runner.py); what is done
is found done, by what it was made from. The folder's settings.json is the config of the last run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from data_prep import answers, encode_turns, label_turns, sample, synthesize_turns
from data_prep.answers import AnswersConfig
from data_prep.encode_turns import EncodeConfig
from data_prep.label_turns import TurnStatesConfig
from data_prep.runner import Progress, RunConfig, StepReport, quiet
from data_prep.sample import SampleConfig
from data_prep.speakers import SynthesizeConfig
from fo_core.config import config, to_dict
from fo_core.errors import DataError, FoError
from fo_core.files import write_json, write_text

FOLDERS = {  # step -> its folder, in the order of the steps
    "sample": "sample",
    "regenerate": "regenerate",
    "synthesize": "synthesize",
    "label-states": "user",
    "encode": "assistant",
}
READS = {  # step -> the step whose manifest it reads
    "regenerate": "sample",
    "synthesize": "regenerate",
    "label-states": "synthesize",
    "encode": "synthesize",
}


@config
class ChainConfig:
    """Everything of a run; each step's section stands in its own file."""

    source: Literal["moss"] = "moss"  # published dialogues in moss-003's forms
    sample: SampleConfig = SampleConfig()
    regenerate: AnswersConfig = AnswersConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    label_states: TurnStatesConfig = TurnStatesConfig()
    encode: EncodeConfig = EncodeConfig()
    run: RunConfig = RunConfig()


def run_chain(
    cfg: ChainConfig,
    out: Path,
    steps: Sequence[str] = tuple(FOLDERS),
    progress: Progress = quiet,
    source: Path | None = None,
) -> dict[str, Any]:
    """Run steps in their order.

    Args:
        cfg: The whole run. Its limit is of the first of the steps.
        out: The data's folder.
        steps: Which ones; encode is left out where no model is named and others are asked for.
        progress: Called with (step, done, total).
        source: Manifest for the first of the steps, instead of that of the step before it.

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
    chosen = [step for step in FOLDERS if step in steps]
    if len(chosen) > 1 and not cfg.encode.model:
        chosen.remove("encode")
    elif "encode" in chosen:
        encode_turns.ready(cfg.encode)
    reports: dict[str, Any] = {}
    how, spoken = cfg.run, out / FOLDERS["synthesize"] / "manifest.jsonl"
    with _remembered(cfg, out):
        for step in chosen:
            if source is None and step in READS:
                source = out / FOLDERS[READS[step]] / "manifest.jsonl"
                if not source.is_file():
                    raise DataError(f"{source} is not there", do=f"run {READS[step]} before {step}")
            if step == "regenerate" and "synthesize" in chosen and not spoken.exists():
                synthesize_turns.try_voices(cfg.synthesize)  # not only when all is answered
            made = _work(cfg, step)(source, out / FOLDERS[step], how, progress)
            reports[step] = asdict(made) if isinstance(made, StepReport) else made
            if not reports[step]["items"]:
                raise DataError(f"{step} found nothing to do in {source}",
                                do=f"run {READS.get(step, step)} again")  # fmt: skip
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


def _work(cfg: ChainConfig, step: str) -> Callable[..., StepReport | dict[str, Any]]:
    """A step's function with its section of the config."""
    if step == "label-states":
        states = cfg.label_states
        if not states.speakers:
            states = replace(states, speakers=cfg.synthesize.users)
        return partial(label_turns.run, states)
    if step == "encode":
        held = replace(cfg.encode, val=cfg.label_states.val, seed=cfg.label_states.seed)
        return partial(encode_turns.run, held)
    modules: Mapping[str, Any] = {
        "sample": (sample.run, cfg.sample),
        "regenerate": (answers.run, cfg.regenerate),
        "synthesize": (synthesize_turns.run, cfg.synthesize),
    }
    function, section = modules[step]
    return partial(function, section)
