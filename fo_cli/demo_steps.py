"""The steps of ``fo demo``: each runs in a child process, writes what it made and a marker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from data_prep.chain import SOURCES, ChainConfig, run_chain
from data_prep.steps import encode_speech
from eval.qa_run import evaluate_folder
from fo_cli.children import Progress, peak_memory_mb
from fo_core import config as configs
from fo_core.config import config
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.dialogue.settings import DialogueConfig, write_dialogue
from fo_core.io.files import write_json
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.normalize import speakable
from fo_core.training.initial_model import common_voice, ctc_tokens
from fo_core.training.loop import run_stage
from fo_core.training.recipes import Recipe

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

    prepare: ChainConfig  # conf/data/domain.yaml
    model: FreezeOmniConfig
    dialogue: DialogueConfig
    stages: dict[str, Recipe]  # one for each of the six stages
    evaluate: EvaluateConfig = EvaluateConfig()


def read_demo(overrides: tuple[str, ...] = ()) -> DemoConfig:
    """The shipped demo with ``a.b=c`` changes."""
    conf = Path(str(resources.files("fo_core"))) / "conf"
    data = {"prepare": configs.read_yaml(conf / "data" / "domain.yaml")}
    return configs.load(DemoConfig, data | configs.read_yaml(conf / "demo.yaml"), overrides)


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
    made = partial(run_chain, cfg.prepare, steps.data, SOURCES[cfg.prepare.source], progress)
    steps.run("prepare-data", lambda: {"report": made()})
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
    sound = {split: spoken(steps, split) for split in TRAINING}
    _stages(progress, steps, cfg, {"output-1": sound}, SPEAKING)
    steps.run("encode", partial(_encode, progress, steps, cfg))
    if not steps.done("output-2"):
        _stages(progress, steps, cfg, {"output-2": _coded(steps)}, SPEAKING)


def spoken(steps: Steps, split: str) -> list[Item]:
    """The answers of a split as they were spoken: one an answer sentence."""
    said = manifest.read(steps.data / "synthesize" / f"{split}.jsonl")
    return list({item.text: item for item in reversed(said)}.values())[::-1]


def _coded(steps: Steps) -> dict[str, list[Item]]:
    """The answers with their speech tokens."""
    folder = steps.data / "assistant"
    return {split: manifest.read(folder / f"{split}.jsonl") for split in TRAINING}


def follow(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """The decoder's prefix: after both lanes, for it may learn from spoken questions."""
    steps = Steps(out)
    if steps.done("output-3"):
        return
    data = _coded(steps)
    if cfg.stages["output-3"].stage.build().data == "reply":  # the question is heard
        for split, said in data.items():
            asked = manifest.read(steps.data / "user" / f"{split}.jsonl")
            data[split] = encode_speech.answered(asked, said, WORDINGS)
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


def _encode(progress: Progress, steps: Steps, cfg: DemoConfig) -> dict[str, Any]:
    """Speech tokens of the answers, and the voice: the global tokens that most answers have."""
    encode = replace(cfg.prepare.encode, model=str(steps.model))
    run = replace(cfg.prepare.run, workers=1)  # the other lane has the other core
    run_chain(replace(cfg.prepare, encode=encode, run=run), steps.data, ("encode",), progress)
    coded = _coded(steps)["train"]
    model = freeze_omni.load(steps.model, parts=("codec",))
    model.config = replace(model.config, voice=common_voice(coded))
    model.save(steps.model, ())
    tokens = [token for item in coded for token in item.speech_tokens]
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

    What is no question (back-channels, noises, questions that break off) tests the states only. A
    question of set (b) whose answer sentence is also a training answer is skipped.
    """
    split = SETS[name]
    user = manifest.read(steps.data / "user" / f"{split}.jsonl")
    known = _spoken_in_training(steps) if name == "unseen" else set()
    asked = [i for i in user if i.kind == "question" and _plain(i.answer) not in known]
    others = [item for item in user if item.kind != "question"]
    limit = cfg.evaluate.known if name == "known" else cfg.evaluate.unseen
    share = min(1.0, limit / max(1, len(asked)))
    chosen = asked[:limit] + others[: round(share * len(others))]
    return chosen, spoken(steps, split)


def _plain(answer: str) -> str:
    return speakable(answer).lower()


def _spoken_in_training(steps: Steps) -> set[str]:
    return {_plain(item.text) for split in TRAINING for item in spoken(steps, split)}


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
