"""The demo's plan names every step once, in an order in which each finds what it needs."""

from pathlib import Path
from typing import Any

from fo_cli import demo_report, demo_steps
from fo_core.data import manifest
from fo_core.data.manifest import Item


def test_every_step_of_the_report_is_in_the_plan() -> None:
    jobs = [job for _, names in demo_steps.PLAN for job in names]
    assert sorted(jobs) == sorted(demo_steps.STEPS_OF) and len(set(jobs)) == len(jobs)
    assert all(callable(getattr(demo_steps, job)) for job in jobs)
    steps = [step for job in jobs for step in demo_steps.STEPS_OF[job]]
    assert sorted(steps) == sorted({*demo_report.ORDER, "evaluate-known", "evaluate-unseen"})


def test_a_stage_that_hears_comes_after_both_lanes() -> None:
    phase = {job: number for number, (_, names) in enumerate(demo_steps.PLAN) for job in names}
    cfg = demo_steps.read_demo(("stages.output-3.stage.context=spoken",))
    assert cfg.stages["output-3"].stage.build().data == "reply"
    assert phase["listen"] == phase["speak"] < phase["follow"] < phase["evaluate"]


def test_the_demo_is_a_config_of_the_chain() -> None:
    """It once had a pipeline of its own, so it proved nothing about the one that users run."""
    cfg = demo_steps.read_demo(("prepare.domain.recordings=40",))
    assert cfg.prepare.source == "domain" and cfg.prepare.domain.recordings == 40
    assert cfg.prepare.encode.once and not cfg.prepare.encode.model
    llm = cfg.model.llm
    assert (llm.spec, llm.system) == (cfg.prepare.regenerate.llm, cfg.prepare.regenerate.system)
    assert llm.shots == cfg.prepare.regenerate.shots  # data and model show the same examples


def test_a_held_out_question_whose_answer_is_spoken_in_training_is_left_out(
    tmp_path: Path,
) -> None:
    def item(name: str, **known: Any) -> Item:
        return Item(name, "/x.flac", 16000, 16000, **known)

    steps = demo_steps.Steps(tmp_path)
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
    user, answers = demo_steps.held_out(steps, demo_steps.read_demo(), "unseen")
    assert [i.id for i in user] == ["q1", "n0", "n1"]
    assert [i.id for i in answers] == ["heldout_b0"]  # one an answer sentence
