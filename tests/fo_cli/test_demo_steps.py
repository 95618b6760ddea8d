"""The demo's plan names every step once, in an order in which each finds what it needs."""

from fo_cli import demo_report, demo_steps


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
