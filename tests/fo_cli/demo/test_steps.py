"""The demo's plan names every step once, in an order in which each finds what it needs."""

from pathlib import Path
from typing import Any

import pytest

from fo_cli.demo import config, page, report
from fo_cli.demo import steps as demo_steps
from fo_core.data import manifest
from fo_core.data.manifest import Item

QUICK, SCRATCH = config.read_demo(), config.read_demo(config.SCRATCH)


@pytest.mark.parametrize("name", [config.QUICK, config.SCRATCH])
def test_every_step_of_the_report_is_in_the_plan(name: str) -> None:
    cfg = config.read_demo(name)
    jobs = [job for _, names in demo_steps.PLAN for job in names]
    assert len(set(jobs)) == len(jobs)
    assert all(callable(getattr(demo_steps, job)) for job in jobs)
    steps = [step for job in jobs for step in demo_steps.steps_of(job, cfg)]
    known = (*report.ORDER, "evaluate-known", "evaluate-unseen")
    wanted = page.ORDER[1:] if cfg.start else known  # the first is asked before the plan
    assert sorted(steps) == sorted(wanted)


def test_a_stage_that_hears_comes_after_both_lanes() -> None:
    phase = {job: number for number, (_, names) in enumerate(demo_steps.PLAN) for job in names}
    spoken = ("stages.output-3.stage.context=spoken",)
    cfg = config.read_demo(config.SCRATCH, spoken)
    assert cfg.stages["output-3"].stage.build().data == "reply"
    assert phase["listen"] == phase["speak"] < phase["follow"] < phase["evaluate"]


def test_both_demos_are_configs_of_the_chain() -> None:
    """It once had a pipeline of its own, so it proved nothing about the one that users run."""
    cfg = config.read_demo(config.SCRATCH, ("prepare.domain.recordings=40",))
    assert cfg.prepare.source == "domain" and cfg.prepare.domain.recordings == 40
    assert cfg.prepare.encode.once and not cfg.prepare.encode.model
    llm = cfg.model.llm
    assert (llm.spec, llm.system) == (cfg.prepare.regenerate.llm, cfg.prepare.regenerate.system)
    assert llm.shots == cfg.prepare.regenerate.shots  # data and model show the same examples
    assert QUICK.prepare.source == "domain" and QUICK.prepare.domain.recordings == 12
    assert QUICK.prepare.regenerate.shots == cfg.prepare.regenerate.shots


def test_the_quick_demo_trains_the_six_stages_of_fo_smols_recipes_from_it() -> None:
    assert QUICK.start == "fo-smol" and QUICK.aligned and not SCRATCH.start and not SCRATCH.aligned
    assert tuple(QUICK.stages) == demo_steps.STAGES
    assert QUICK.stages["input-1"].stage.distil == 0.5  # of the recipe, which is changed only
    assert all(recipe.train.max_steps <= 20 for recipe in QUICK.stages.values())
    parts = {n: demo_steps.trained_parts(r.stage.build()) for n, r in QUICK.stages.items()}
    assert parts["output-2"] == parts["output-3"] == ("speech_decoder",)
    assert parts["input-3"] == ("state_head",)  # no prompt embeddings to write
    assert demo_steps.trained_parts(SCRATCH.stages["input-3"].stage.build()) == (
        "prompt",
        "state_head",
    )


def test_a_copy_of_what_ships_does_not_become_the_latest_model(tmp_path: Path) -> None:
    assert config.Steps(tmp_path, "fo-smol").model.name != "model"
    assert config.Steps(tmp_path).model == tmp_path / "model"


def test_a_held_out_question_whose_answer_is_spoken_in_training_is_left_out(
    tmp_path: Path,
) -> None:
    def item(name: str, **known: Any) -> Item:
        return Item(name, "/x.flac", 16000, 16000, **known)

    steps = config.Steps(tmp_path)
    said = {"train": "It is 8.", "val": "It is red.", "heldout_b": "It is eight."}
    for split, text in said.items():
        answers = [item(f"{split}{i}", text=text, role="assistant") for i in range(2)]
        manifest.write(steps.data / "synthesize" / f"{split}.jsonl", answers)
    asked = [
        item("q0", kind="question", answer="It is eight."),
        item("n0", kind="noise"),
        item("q1", kind="question", answer="It is blue."),
        item("n1", kind="noise"),
    ]
    manifest.write(steps.data / "user" / "heldout_b.jsonl", asked)
    user, answers = demo_steps.held_out(steps, SCRATCH, "unseen")
    assert [i.id for i in user] == ["q1", "n0", "n1"]
    assert [i.id for i in answers] == ["heldout_b0"]  # one an answer sentence
