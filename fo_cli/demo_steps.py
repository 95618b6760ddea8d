"""The steps of ``fo demo``: each runs in a child process, writes what it made and a marker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from data_prep import encode_speech, pipeline
from data_prep.pipeline import PrepareConfig
from eval.qa_run import evaluate_folder
from fo_cli.children import Progress, peak_memory_mb
from fo_core import config as configs
from fo_core.config import config
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.dialogue.settings import DialogueConfig, write_dialogue
from fo_core.files import write_json
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig
from fo_core.models.frozen_llm import FrozenLLM
from fo_core.training.census import common_voice, ctc_tokens
from fo_core.training.loop import run_stage
from fo_core.training.stages import Recipe

INPUT = ("input-1", "input-2", "input-3")
OUTPUT = ("output-1", "output-2", "output-3")
TRAINS = {  # parts of the model that hold trained weights after a stage
    "input-1": ("speech_encoder", "ctc_head"),
    "input-2": ("speech_encoder", "ctc_head", "adapter", "task"),
    "input-3": ("prompt", "state_head"),
    "output-1": ("codec",),
    "output-2": ("speech_decoder",),
    "output-3": ("speech_decoder",),
}
PLAN = (  # threads, jobs side by side
    (2, ("prepare",)),
    (1, ("listen", "speak")),
    (1, ("follow",)),
    (1, ("evaluate",)),
)
STEPS_OF = {  # steps of each job of the plan
    "prepare": ("prepare-data", "model"),
    "listen": INPUT,
    "speak": ("output-1", "encode", "output-2"),
    "follow": ("output-3",),
    "evaluate": ("evaluate-known", "evaluate-unseen"),
}
LISTENING = ("speech_encoder", "ctc_head", "adapter", "task", "prompt", "state_head")
SPEAKING = ("speech_decoder", "codec")
TRAINING = ("train", "val")
TOKENS = ".tokens.jsonl"  # ending of a manifest with speech tokens
WORDINGS = 2  # spoken questions from which output-3 learns an answer: their states cost time
SETS = {"known": "heldout_a", "unseen": "heldout_b"}


@config
class EvaluateConfig:
    """What is asked at the end."""

    known: int = 60  # most questions of held-out set (a), besides what only tests the states
    unseen: int = 30  # most questions of held-out set (b)
    judge: str = "faster-whisper"  # speech recogniser that took no part in training


@config
class DemoConfig:
    """The whole demo."""

    prepare: PrepareConfig
    model: FreezeOmniConfig
    dialogue: DialogueConfig
    stages: dict[str, Recipe]  # one for each of the six stages
    evaluate: EvaluateConfig = EvaluateConfig()


def read_demo(overrides: tuple[str, ...] = ()) -> DemoConfig:
    """The shipped demo with ``a.b=c`` changes."""
    path = Path(str(resources.files("fo_core"))) / "conf" / "demo.yaml"
    return configs.load(DemoConfig, configs.read_yaml(path), overrides)


class Steps:
    """Markers of what is done in the demo's folder.

    Args:
        out: The demo's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.data, self.model, self.runs = out / "data", out / "model", out / "stages"

    def marker(self, name: str) -> Path:
        """The file that says a step is done."""
        return self.out / "steps" / f"{name}.json"

    def done(self, name: str) -> bool:
        """Whether a step is done."""
        return self.marker(name).is_file()

    def over(self, job: str) -> bool:
        """Whether every step of a job (``PLAN``) is done."""
        return all(self.done(name) for name in STEPS_OF[job])

    def run(self, name: str, work: Callable[[], dict[str, Any] | None]) -> None:
        """Run a step that is not done, and mark it with its seconds, memory and results."""
        if self.done(name):
            return
        started = time.perf_counter()
        found = work() or {}
        seconds = round(time.perf_counter() - started, 1)
        row = {"name": name, "seconds": seconds, "peak_memory_mb": peak_memory_mb(), **found}
        write_json(self.marker(name), row)


def prepare(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """Questions, the LLM's own answers, speech and state labels; then the untrained model."""
    steps = Steps(out)
    made = partial(pipeline.prepare, cfg.prepare, steps.data, progress)
    steps.run("prepare-data", lambda: {"report": made()["steps"]})
    steps.run("model", partial(_model, steps, cfg))


def _model(steps: Steps, cfg: DemoConfig) -> dict[str, Any]:
    llm = FrozenLLM.load(cfg.model.llm.spec, cfg.model.llm.dtype)
    said = manifest.read(steps.data / "user" / "train.jsonl")
    tokens = ctc_tokens(llm.tokenizer, (item.text for item in said))
    model = replace(
        cfg.model,
        ctc=replace(cfg.model.ctc, tokens=tokens),
        llm=replace(cfg.model.llm, fingerprint=llm.fingerprint()),
    )
    steps.model.mkdir(parents=True, exist_ok=True)
    write_json(steps.model / "config.json", configs.to_dict(model))
    write_dialogue(steps.model, cfg.dialogue)
    return {"ctc_tokens": len(tokens), "llm_fingerprint": model.llm.fingerprint}


def listen(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """The three input stages."""
    steps = Steps(out)
    data = {split: manifest.read(steps.data / "user" / f"{split}.jsonl") for split in TRAINING}
    _stages(progress, steps, cfg, dict.fromkeys(INPUT, data), LISTENING)


def speak(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """The codec, the speech tokens of the answers, and the decoder that reads them aloud."""
    steps = Steps(out)
    folder = steps.data / "assistant"
    val, train = folder / "val.jsonl", [folder / "train.jsonl", folder / "read.jsonl"]
    train = [path for path in train if path.is_file()]
    sound = {"train": [i for path in train for i in manifest.read(path)], "val": manifest.read(val)}
    _stages(progress, steps, cfg, {"output-1": sound}, SPEAKING)
    steps.run("encode", partial(_encode, progress, steps, [*train, val]))
    if steps.done("output-2"):
        return
    coded = {path: manifest.read(path.with_suffix(TOKENS)) for path in (*train, val)}
    every = [item for path in train for item in coded[path]]
    _stages(progress, steps, cfg, {"output-2": {"train": every, "val": coded[val]}}, SPEAKING)


def follow(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """The decoder's prefix: after both lanes, for it may learn from spoken questions."""
    steps = Steps(out)
    if steps.done("output-3"):
        return
    data = {}
    for split in TRAINING:
        said = manifest.read(steps.data / "assistant" / f"{split}{TOKENS}")
        if cfg.stages["output-3"].stage.build().data == "reply":  # the question is heard
            asked = manifest.read(steps.data / "user" / f"{split}.jsonl")
            said = encode_speech.answered(asked, said, WORDINGS)
        data[split] = said
    _stages(progress, steps, cfg, {"output-3": data}, freeze_omni.PARTS)


def _stages(
    progress: Progress,
    steps: Steps,
    cfg: DemoConfig,
    data: dict[str, dict[str, Any]],
    parts: tuple[str, ...],
) -> None:
    """Train stages one after the other on a model with only these parts of the folder.

    The other lane's parts may come at any moment; a run that goes on must not find them changed.
    """
    if all(steps.done(name) for name in data):
        return
    model = freeze_omni.load(steps.model, parts=parts)
    for name, items in data.items():
        steps.run(name, partial(_train, progress, steps, cfg.stages[name], model, name, items))


def _train(
    progress: Progress,
    steps: Steps,
    recipe: Recipe,
    model: FreezeOmni,
    name: str,
    data: dict[str, Any],
) -> dict[str, Any]:
    result = run_stage(
        model,
        recipe.stage.build(),
        recipe.train,
        data["train"],
        data["val"],
        steps.runs / name,
        progress=lambda done, total: progress(name, done, total),
    )
    model.save(steps.model, TRAINS[name], with_config=False)
    llm = result.fingerprints["llm"]
    return {
        "summary": recipe.stage.build().summary,
        "metrics": result.metrics,
        "trainable_parameters": result.trainable_parameters,
        "frozen_parameters": result.frozen_parameters,
        "llm_fingerprint_before": llm["frozen_before"],
        "llm_fingerprint_after": llm["frozen_after"],
        "frozen_parts_unchanged": all(
            part.get("frozen_before") == part.get("frozen_after")
            for part in result.fingerprints.values()
        ),
    }


def _encode(progress: Progress, steps: Steps, paths: list[Path]) -> dict[str, Any]:
    """Speech tokens of the answers, and the voice: the global tokens that most answers have."""
    model = freeze_omni.load(steps.model, parts=("codec",))
    model.require("codec")
    coded = [
        encode_speech.encode_manifest(
            path, model.codec, path.with_suffix(TOKENS), progress=progress
        )
        for path in paths
    ]
    model.config = replace(model.config, voice=common_voice(coded[0]))
    model.save(steps.model, ())
    tokens = [token for item in coded[0] for token in item.speech_tokens]
    return {
        "voice": list(model.config.voice),
        "answer_tokens": len(tokens),
        "codes_used": len(set(tokens)),
    }


def evaluate(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """Ask the held-out questions."""
    steps = Steps(out)
    for name in SETS:
        steps.run(f"evaluate-{name}", partial(_ask, progress, steps, cfg, name))


def held_out(steps: Steps, cfg: DemoConfig, name: str) -> tuple[list[Item], list[Item]]:
    """A held-out set, user side and answers: so many questions, and their share of the rest.

    What is no question (back-channels, noises, questions that break off) tests the states only.
    """
    split = SETS[name]
    user = manifest.read(steps.data / "user" / f"{split}.jsonl")
    asked = [item for item in user if item.kind == "question"]
    others = [item for item in user if item.kind != "question"]
    limit = cfg.evaluate.known if name == "known" else cfg.evaluate.unseen
    share = min(1.0, limit / max(1, len(asked)))
    chosen = asked[:limit] + others[: round(share * len(others))]
    return chosen, list(manifest.read(steps.data / "assistant" / f"{split}.jsonl"))


def _ask(progress: Progress, steps: Steps, cfg: DemoConfig, name: str) -> dict[str, Any]:
    user, spoken = held_out(steps, cfg, name)
    scores = evaluate_folder(
        steps.model,
        user,
        spoken,
        steps.out / "eval" / name,
        cfg.evaluate.judge,
        workers=2,
        progress=lambda what, done, of: progress(f"ask {name} facts", done, of),
    )
    return {"scores": scores}
