"""The steps of ``fo demo``: each runs in a child process, writes what it made and a marker."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.chain import SOURCES, run_chain
from data_prep.runner.run import RunConfig
from data_prep.steps import align, encode_speech
from eval.qa_run import evaluate_folder
from fo_cli.children import Progress
from fo_cli.demo.config import DemoConfig, Steps
from fo_core import config as configs
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.dialogue.settings import read_dialogue, write_dialogue
from fo_core.io.files import write_json
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.normalize import speakable
from fo_core.shipped import model_folder
from fo_core.training.initial_model import common_voice, ctc_tokens
from fo_core.training.loop import run_stage
from fo_core.training.recipes import Recipe
from fo_core.training.stage import Stage

INPUT = ("input-1", "input-2", "input-3")
OUTPUT = ("output-1", "output-2", "output-3")
STAGES = (*INPUT, *OUTPUT)
PLAN = (  # threads, jobs side by side
    (2, ("prepare",)),
    (1, ("listen", "speak")),
    (1, ("follow",)),
    (1, ("evaluate",)),
)
LISTENING = ("speech_encoder", "ctc_head", "adapter", "task", "prompt", "state_head")
SPEAKING = ("speech_decoder", "codec")
TRAINING = ("train", "val")
WORDINGS = 2  # spoken questions from which output-3 learns an answer: their states cost time
ALIGNED = "hibari"  # the engine that says its durations
SETS = {"known": "heldout_a", "unseen": "heldout_b"}


def steps_of(job: str, cfg: DemoConfig) -> tuple[str, ...]:
    """Steps of a job of the plan, in order."""
    if job == "speak":
        aligned = ("align",) if cfg.aligned else ()
        return ("output-1", "encode", *aligned, "output-2")
    if job == "evaluate":
        start = ("evaluate-start",) if cfg.start and cfg.evaluate.start else ()
        return (*start, *(f"evaluate-{name}" for name in SETS if getattr(cfg.evaluate, name)))
    return {"prepare": ("prepare-data", "model"), "listen": INPUT, "follow": ("output-3",)}[job]


def over(job: str, steps: Steps, cfg: DemoConfig) -> bool:
    """Whether every step of a job is done."""
    return all(steps.done(name) for name in steps_of(job, cfg))


def prepare(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """Questions, the LLM's own answers, speech and state labels; then the model to train."""
    steps = Steps(out, cfg.start)
    made = partial(run_chain, cfg.prepare, steps.data, SOURCES[cfg.prepare.source], progress)
    steps.run("prepare-data", lambda: {"report": made()})
    steps.run("model", partial(_copy if cfg.start else _model, steps, cfg))


def _copy(steps: Steps, cfg: DemoConfig) -> dict[str, Any]:
    """The model to start from with a prefix stack of initial weights, for output-3."""
    folder = model_folder(cfg.start)
    model = freeze_omni.load(folder)
    model.add_prefix()
    model.save(steps.model)
    write_dialogue(steps.model, read_dialogue(folder))
    return {"llm_fingerprint": model.llm.fingerprint()}


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
    steps = Steps(out, cfg.start)
    data = {split: manifest.read(steps.data / "user" / f"{split}.jsonl") for split in TRAINING}
    _stages(progress, steps, cfg, dict.fromkeys(INPUT, data), LISTENING)


def speak(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """The codec, the speech tokens of the answers, and the decoder that reads them aloud."""
    steps = Steps(out, cfg.start)
    sound = {split: spoken(steps, split) for split in TRAINING}
    _stages(progress, steps, cfg, {"output-1": sound}, SPEAKING)
    steps.run("encode", partial(_encode, progress, steps, cfg))
    if cfg.aligned:
        steps.run("align", partial(_align, progress, steps, cfg))
    if not steps.done("output-2"):
        _stages(progress, steps, cfg, {"output-2": _coded(steps, cfg)}, SPEAKING)


def spoken(steps: Steps, split: str) -> list[Item]:
    """The answers of a split as they were spoken: one an answer sentence."""
    said = manifest.read(steps.data / "synthesize" / f"{split}.jsonl")
    return list({item.text: item for item in reversed(said)}.values())[::-1]


def _coded(steps: Steps, cfg: DemoConfig) -> dict[str, list[Item]]:
    """The answers with their speech tokens and, for a decoder with durations, those of letters."""
    folder = steps.data / ("aligned" if cfg.aligned else "assistant")
    return {split: manifest.read(folder / f"{split}.jsonl") for split in TRAINING}


def follow(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """The decoder's prefix: after both lanes, for it may learn from spoken questions."""
    steps = Steps(out, cfg.start)
    if steps.done("output-3"):
        return
    data = _coded(steps, cfg)
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
    model.save(steps.model, trained_parts(recipe.stage.build()), with_config=False)
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


def trained_parts(stage: Stage) -> tuple[str, ...]:
    """Parts of the model that hold trained weights after a stage."""
    named = {glob.split(".")[0] for o in stage.objectives for glob in o.trainable}
    return tuple(part for part in freeze_omni.PARTS if part in named)


def _encode(progress: Progress, steps: Steps, cfg: DemoConfig) -> dict[str, Any]:
    """Speech tokens of the answers, and the voice: the global tokens that most answers have."""
    encode = replace(cfg.prepare.encode, model=str(steps.model))
    run = replace(cfg.prepare.run, workers=1)  # the other lane has the other core
    run_chain(replace(cfg.prepare, encode=encode, run=run), steps.data, ("encode",), progress)
    coded = manifest.read(steps.data / "assistant" / "train.jsonl")
    model = freeze_omni.load(steps.model, parts=("codec",))
    model.config = replace(model.config, voice=common_voice(coded))
    model.save(steps.model, ())
    tokens = [token for item in coded for token in item.speech_tokens]
    return {
        "voice": list(model.config.voice),
        "answer_tokens": len(tokens),
        "codes_used": len(set(tokens)),
    }


def _align(progress: Progress, steps: Steps, cfg: DemoConfig) -> dict[str, Any]:
    """How long each letter is spoken: from the answer voice's engine, or by the CTC head."""
    spoken = (cfg.prepare.synthesize.assistants[0].engine, str(model_folder(cfg.start)))
    how = align.AlignConfig() if spoken[0] == ALIGNED else align.AlignConfig("ctc", spoken[1])
    source = [steps.data / "assistant" / "manifest.jsonl"]
    found = align.run(how, source, steps.data / "aligned", RunConfig(1), progress)
    return {"report": asdict(found)}


def evaluate(progress: Progress, out: Path, cfg: DemoConfig) -> None:
    """Ask the held-out questions."""
    steps = Steps(out, cfg.start)
    for step in steps_of("evaluate", cfg):
        name = step.removeprefix("evaluate-")
        steps.run(step, partial(_ask, progress, steps, cfg, name))


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
    """Ask a set; ``start`` is set (a), asked of the model that was started from."""
    user, spoken = held_out(steps, cfg, "known" if name == "start" else name)
    scores = evaluate_folder(
        model_folder(cfg.start) if name == "start" else steps.model,
        user,
        spoken,
        steps.out / "eval" / name,
        cfg.evaluate.judge,
        workers=cfg.evaluate.workers,
        progress=lambda what, done, of: progress(f"ask {name}", done, of),
    )
    return {"scores": scores}
