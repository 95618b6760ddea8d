"""``fo train``: one stage on one model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fo_cli import options, render
from fo_core.errors import FoError

if TYPE_CHECKING:
    from fo_core.models.freeze_omni import FreezeOmni


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"


def train(
    stage: Annotated[
        str, typer.Option("--stage", help="input-1, input-2, input-3, output-1, -2 or -3.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Model folder to start from; or, for a new model, a size or a YAML file.",
            metavar="DIR|SIZE|YAML",
        ),
    ],
    train: Annotated[Path, typer.Option("--train", help="Training manifest.", metavar="JSONL")],
    valid: Annotated[Path, typer.Option("--valid", help="Held-out manifest.", metavar="JSONL")],
    out: Annotated[
        Path, typer.Option("--out", help="Run folder; the model is DIR/model.", metavar="DIR")
    ],
    size: Annotated[
        str, typer.Option("--size", help="Shipped recipe to start from: paper, smol, tiny.")
    ] = "paper",
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML over the shipped recipe.")
    ] = None,
    sets: options.Sets = None,
    device: Annotated[Device, typer.Option("--device", help="Where to train.")] = Device.auto,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained on what, and stop.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of going on where a run stopped.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Train one stage: what it trains is printed first, the rest is proven not to move.

    A stopped run goes on from its newest checkpoint; a finished one is found done.
    """
    from fo_core.training.stages import recipe

    overrides = [*(sets or ()), f"train.device={device.value}"]
    chosen = recipe(stage, size, config, overrides)
    options.existing_file(train, "training manifest")
    options.existing_file(valid, "held-out manifest")
    if not dry_run:
        options.writable(out, "run folder")

    import torch

    torch.manual_seed(chosen.train.seed)  # untrained parts are the same when the run goes on
    start = _start(model, train)

    from fo_core.training.loop import run_stage

    built = chosen.stage.build()
    result = run_stage(
        start, built, chosen.train, train, valid, out, resume=not fresh, dry_run=dry_run
    )
    counts = {
        "stage": stage,
        "trainable_parameters": result.trainable_parameters,
        "frozen_parameters": result.frozen_parameters,
    }
    if dry_run:
        _say(counts, json)
        return
    trained = {glob.split(".")[0] for o in built.objectives for glob in o.trainable}
    folder = _save(start, trained, Path(model), out / "model")
    counts |= {"seconds": round(result.seconds, 1), "model": str(folder)} | result.metrics
    _say(counts, json)


def _start(model: str, train: Path) -> FreezeOmni:
    """The model to train: a folder's, or a new one of a shipped size or a YAML file.

    A new CTC head gets the tokens of the training transcripts; a model without a voice gets that of
    the training answers.
    """
    from importlib.resources import files

    from fo_core.config import load, read_yaml, replace
    from fo_core.data import manifest
    from fo_core.models import freeze_omni
    from fo_core.models.frozen_llm import FrozenLLM
    from fo_core.registry import did_you_mean
    from fo_core.training.census import common_voice, ctc_tokens

    path = Path(model)
    if path.is_dir():
        loaded = freeze_omni.load(path)
        if not loaded.config.voice:
            voice = common_voice(manifest.read(train))
            loaded.config = replace(loaded.config, voice=voice)
        return loaded
    if not path.is_file():
        shipped = Path(str(files("fo_core"))) / "conf" / "sizes"
        names = sorted(p.stem for p in shipped.glob("*.yaml"))
        if model not in names:
            raise FoError(
                f"no model folder, file or size {model!r}", possible=did_you_mean(model, names)
            )
        path = shipped / f"{model}.yaml"
    config = load(freeze_omni.FreezeOmniConfig, read_yaml(path))
    llm = FrozenLLM.load(config.llm.spec, config.llm.dtype)
    if not config.ctc.tokens:
        texts = (item.text for item in manifest.read(train))
        ctc = replace(config.ctc, tokens=ctc_tokens(llm.tokenizer, texts))
        config = replace(config, ctc=ctc)
    return freeze_omni.build(config, llm=llm)


def _save(model: FreezeOmni, trained: set[str], start: Path, folder: Path) -> Path:
    """Write the model folder of a finished stage; how it talks is taken over from the start."""
    from fo_core.config import replace
    from fo_core.dialogue.settings import FILE
    from fo_core.files import write_text
    from fo_core.models.freeze_omni import PARTS

    model.trained |= trained & set(PARTS)
    if not model.config.llm.fingerprint:
        llm = replace(model.config.llm, fingerprint=model.llm.fingerprint())
        model.config = replace(model.config, llm=llm)
    model.save(folder)
    if (start / FILE).is_file():
        write_text(folder / FILE, (start / FILE).read_text(encoding="utf-8"))
    return folder


def _say(counts: dict[str, Any], json: bool) -> None:
    if json:
        render.as_json(counts)
        return
    for name, value in counts.items():
        whole = isinstance(value, int)
        text = f"{value:,}" if whole else f"{value:.4g}" if isinstance(value, float) else value
        render.result(f"{name}: {text}")
