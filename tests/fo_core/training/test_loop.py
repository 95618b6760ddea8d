"""The loop alone, with a toy model: freezing, exact resume, refusals, records."""

import json
import resource
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fo_core.data.augment import AugmentConfig
from fo_core.errors import CheckpointError, ConfigError, StageError
from fo_core.training import distributed, report
from fo_core.training.data_feed import BatchConfig
from fo_core.training.estimate import plan_stage
from fo_core.training.freeze import freeze_all_but, select
from fo_core.training.guard import Divergence, memory_guard
from fo_core.training.loop import TrainConfig, run_stage
from fo_core.training.optim import OptimConfig, rate
from fo_core.training.recipes import recipe
from fo_core.training.stage import Objective, Stage


class Toy(nn.Module):
    """A trained part with dropout and batch norm, and a frozen one with the same."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.ears = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
        self.brain = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.mouth = nn.Linear(8, 1)


@dataclass
class Named:
    id: str
    duration: float = 1.0


class Loader:
    """Endless supply of seeded batches with a position that can be saved."""

    def __init__(self, batches=7, bad=None):
        self.at, self.batches, self.bad = 0, batches, bad
        self.items = [Named(f"item-{i}") for i in range(batches)]

    def __iter__(self):
        while self.at < self.batches:
            g = torch.Generator().manual_seed(self.at)
            x = torch.randn(16, 4, generator=g)
            y = x.sum(1, keepdim=True)
            if self.at == self.bad:
                x[0] = float("nan")
            self.at += 1
            yield {"x": x, "y": y, "items": [self.items[self.at - 1]]}
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def losses(model, batch):
    y = model.mouth(model.brain(model.ears(batch["x"])))
    loss = F.mse_loss(y, batch["y"])
    return {"loss": loss}


def metrics(model, batch):
    return {"twice": (2.0 * len(batch["x"]), float(len(batch["x"])))}


def stage(**changes):
    optim = OptimConfig(lr=0.02, warmup_steps=3)
    objective = Objective("main", ("ears.*",), losses, optim)
    return Stage(**({"name": "toy", "summary": "a toy", "objectives": (objective,), "data": "none",
                     "metrics": metrics} | changes))  # fmt: skip


def config(**changes):
    return TrainConfig(**({"max_steps": 20, "validate_every": 7, "save_every": 5, "log_every": 2,
                           "device": "cpu", "curves": False} | changes))  # fmt: skip


def run(path, model=None, the_stage=None, cfg=None, loader=None, **options):
    model = model or Toy()
    result = run_stage(model, the_stage or stage(), cfg or config(), loader or Loader(),
                       Loader(2), path, progress=False, **options)  # fmt: skip
    return model, result


class Stop(Exception):
    pass


def stopping(at):
    """Losses that die at a step, as a killed process would."""

    def dying(model, batch):
        if batch["step"] == at and torch.is_grad_enabled():
            raise Stop
        return losses(model, batch)

    return stage(objectives=(Objective("main", ("ears.*",), dying, stage().objectives[0].optim),))


def test_only_the_chosen_part_moves_and_the_loss_falls(tmp_path):
    start = {k: v.clone() for k, v in Toy().state_dict().items()}
    model, result = run(tmp_path, cfg=config(curves=True))
    moved = {k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, start[k])}
    assert moved == {"ears"}
    rows = [r["val_loss"] for r in result.history if "val_loss" in r]
    assert rows[-1] < 0.8 * rows[0]
    assert result.metrics["val_twice"] == 2.0
    prints = result.fingerprints
    assert prints["brain"]["frozen_before"] == prints["brain"]["frozen_after"]
    assert prints["ears"]["trained_before"] != prints["ears"]["trained_after"]
    assert (result.trainable_parameters, result.frozen_parameters) == (56, 97)
    record = json.loads((tmp_path / "stage.json").read_text())
    assert record["done"] and record["plan"]["parts"]["brain"]["frozen"] == 88
    assert (tmp_path / "curves.png").stat().st_size > 5000
    assert not model.ears.training


def test_frozen_parts_are_in_eval_mode_and_take_no_gradient():
    model = Toy()
    freeze_all_but(model, select(model, ["ears.*"]))
    assert model.ears[2].training and not model.brain[2].training and not model.brain[1].training
    assert not model.brain[0].weight.requires_grad and model.ears[0].weight.requires_grad


@pytest.mark.parametrize("killed_at", [4, 5, 12, 19])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, killed_at):
    whole, result = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "killed", the_stage=stopping(killed_at))
    resumed, again = run(tmp_path / "killed")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    quiet = ("seconds", "items_per_s", "audio_s_per_s", "data_share", "memory_gb")
    for one, two in zip(result.history, again.history, strict=True):
        assert all(two[k] == v for k, v in one.items() if k not in quiet)


def test_a_half_written_checkpoint_is_not_found(tmp_path):
    with pytest.raises(Stop):
        run(tmp_path, the_stage=stopping(12))
    folder = tmp_path / "checkpoints"
    (folder / ".step-00000012.tmp").mkdir()
    (folder / "step-00000015").mkdir()  # no state.json: not complete
    model, _ = run(tmp_path)
    assert not list(folder.glob(".step*")) and len(list(folder.iterdir())) <= 3


def test_a_finished_run_gives_its_result_again(tmp_path):
    model, result = run(tmp_path)
    fresh, again = run(tmp_path, loader=Loader(bad=0))  # would fail if it trained
    assert torch.equal(fresh.ears[0].weight, model.ears[0].weight) and again == result
    redone, _ = run(tmp_path, resume=False)
    assert torch.equal(redone.ears[0].weight, model.ears[0].weight)


def test_changed_settings_or_parts_are_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(StageError, match=r"train.max_steps was 20, now 30"):
        run(tmp_path, cfg=config(max_steps=30))
    run(tmp_path, cfg=config(max_steps=30), force=True)
    other = Toy()
    other.brain[0].weight.data += 1
    with pytest.raises(StageError, match="another brain"):
        run(tmp_path, model=other, force=True)


def test_an_option_that_is_gone_and_was_off_stops_no_run(tmp_path):
    _, first = run(tmp_path)
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    record["settings"]["train"]["batch"]["echoes"] = []
    path.write_text(json.dumps(record))
    assert run(tmp_path)[1].metrics == first.metrics
    record["settings"]["train"]["batch"]["echoes"] = [0.5]
    path.write_text(json.dumps(record))
    with pytest.raises(StageError, match="train.batch.echoes was"):
        run(tmp_path)


def test_a_moving_frozen_part_is_caught(tmp_path):
    def naughty(model, batch):
        model.brain[0].weight.data += 1e-3
        return losses(model, batch)

    with pytest.raises(StageError, match="frozen part brain changed"):
        run(tmp_path, the_stage=stage(objectives=(Objective("main", ("ears.*",), naughty),)))


def test_nan_stops_with_the_batch_saved_and_the_item_named(tmp_path):
    with pytest.raises(StageError, match=r"loss of main is nan at step 4 on items item-3"):
        run(tmp_path, loader=Loader(bad=3))
    assert (tmp_path / "bad-batch-00000003.safetensors").is_file()


def test_a_glob_that_matches_nothing_is_refused(tmp_path):
    objective = Objective("main", ("nose.*",), losses)
    with pytest.raises(StageError, match=r"'nose.\*' matches no parameter.*brain.\*"):
        run(tmp_path, the_stage=stage(objectives=(objective,)))
    with pytest.raises(StageError, match="needs 'nose'"):
        run(tmp_path, the_stage=stage(starts_from=("nose",)))


def test_two_objectives_take_turns_and_the_second_may_begin_later(tmp_path):
    def second(model, batch):
        assert not torch.is_grad_enabled() or not model.ears[0].weight.requires_grad
        return {"loss": model.mouth(model.brain(model.ears(batch["x"]))).square().mean()}

    both = (
        Objective("one", ("ears.*",), losses),
        Objective("two", ("mouth.*",), second, starts_at=4),
    )
    model, result = run(tmp_path, the_stage=stage(objectives=both, metrics=None))
    rows = {r["step"]: r for r in result.history if "one.loss" in r}
    assert "two.loss" not in rows[4] and "two.loss" in rows[6]
    assert not torch.equal(model.mouth.weight, Toy().mouth.weight)


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    class Halves(Loader):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch | {"x": batch["x"][:8], "y": batch["y"][:8]}
                yield batch | {"x": batch["x"][8:], "y": batch["y"][8:]}

    plain = Objective("main", ("mouth.*",), losses, OptimConfig(lr=0.02))
    whole, _ = run(tmp_path / "a", the_stage=stage(objectives=(plain,)))
    parts, _ = run(tmp_path / "b", the_stage=stage(objectives=(plain,)), loader=Halves(),
                   cfg=config(accumulate=2))  # fmt: skip
    assert torch.allclose(whole.mouth.weight, parts.mouth.weight, atol=1e-6)


def test_bf16_runs_beside_full_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "native_matmul", lambda dtype: True)  # slowly, on some CPUs
    _, full = run(tmp_path / "a")
    _, half = run(tmp_path / "b", cfg=config(precision="bf16"))
    assert half.metrics["val_loss"] == pytest.approx(full.metrics["val_loss"], rel=0.1)
    assert half.metrics["val_loss"] != full.metrics["val_loss"]


def test_precomputed_values_are_made_once_per_item(tmp_path):
    calls = []

    def compute(model, batch):
        calls.append(batch["items"][0].id)
        return {"kept": batch["x"] * 2}

    def use(model, batch):
        assert torch.equal(batch["kept"][0], batch["x"][:1] * 2)
        return losses(model, batch)

    run(tmp_path, the_stage=stage(objectives=(Objective("main", ("mouth.*",), use),),
                                  precompute=compute))  # fmt: skip
    assert len(calls) == len(set(calls)) == 7


def test_what_changes_every_epoch_is_not_remembered(tmp_path):
    """Fails if an augmented item is given what was computed from its sound of another epoch."""

    class Changing(Loader):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch | {"x": batch["x"] + torch.rand(1)}

    def use(model, batch):
        assert torch.equal(batch["kept"][0], batch["x"][:1] * 2)
        return losses(model, batch)

    run(tmp_path, cfg=config(batch=BatchConfig(augment=AugmentConfig())), loader=Changing(),
        the_stage=stage(objectives=(Objective("main", ("mouth.*",), use),),
                        precompute=lambda model, batch: {"kept": batch["x"] * 2}))  # fmt: skip


def test_helper_modules_live_as_long_as_the_stage(tmp_path):
    def use(model, batch):
        return {"loss": losses(model, batch)["loss"] + model.judge(batch["y"]).mean()}

    objective = Objective("main", ("ears.*", "judge.*"), use)
    helped = stage(objectives=(objective,), helpers=lambda model: {"judge": nn.Linear(1, 1)})
    model, result = run(tmp_path, the_stage=helped)
    assert not hasattr(model, "judge") and result.trainable_parameters == 58


def test_the_plan_is_made_without_training():
    plan = plan_stage(Toy(), stage(), config(), Loader(), Loader(2))
    assert plan["trainable_parameters"] == 56 and plan["train"]["items"] == 7


def test_a_plan_is_shown_and_leaves_nothing_behind(tmp_path, capsys):
    report.print_plan(plan_stage(Toy(), stage(), config(), Loader(), Loader(2)))
    out = capsys.readouterr()
    assert "97" in out.err and "ears.*" in out.err and not out.out


def test_the_best_weights_are_kept_and_can_be_exported(tmp_path):
    wild = stage(objectives=(Objective("main", ("ears.*",), losses, OptimConfig(lr=0.3)),))
    # Lowest near step 9 and far above it at 18, whatever numbers a CPU's kernels draw for dropout.
    settings = config(validate_every=1, max_steps=18, diverged=0.0)
    _, last = run(tmp_path / "last", the_stage=wild, cfg=settings)
    settings = config(validate_every=1, max_steps=18, diverged=0.0, export="best", save_every=7)
    model, best = run(tmp_path / "best", the_stage=wild, cfg=settings)
    losses_seen = [r["val_loss"] for r in last.history if "val_loss" in r][1:]
    lowest = pytest.approx(min(losses_seen), rel=1e-5)  # six digits are logged
    assert best.metrics["val_loss"] == lowest and min(losses_seen) < last.metrics["val_loss"]
    (folder,) = (tmp_path / "best" / "checkpoints").glob("best-*")
    assert json.loads((folder / "state.json").read_text())["value"] == lowest
    found, again = run(tmp_path / "best", the_stage=wild, cfg=settings)  # found done
    assert again == best and torch.equal(found.ears[0].weight, model.ears[0].weight)
    quieter = config(validate_every=3, max_steps=18, diverged=0.0)  # harmless: not refused
    run(tmp_path / "best", the_stage=wild, cfg=quieter)


def test_a_mean_of_the_weights_is_validated_and_left_in_the_model(tmp_path):
    plain, _ = run(tmp_path / "plain")
    meant, result = run(tmp_path / "mean", cfg=config(ema=0.9))
    assert not torch.equal(plain.ears[0].weight, meant.ears[0].weight)
    with pytest.raises(Stop):
        run(tmp_path / "cut", cfg=config(ema=0.9), the_stage=stopping(12))
    resumed, again = run(tmp_path / "cut", cfg=config(ema=0.9))
    assert torch.equal(resumed.ears[0].weight, meant.ears[0].weight)
    assert again.metrics == result.metrics
    found, _ = run(tmp_path / "cut", cfg=config(ema=0.9))  # found done
    assert torch.equal(found.ears[0].weight, meant.ears[0].weight)


def test_a_full_disk_is_said_and_the_older_checkpoint_is_kept(tmp_path):
    """Files above a limit cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(model, batch):
        if batch["step"] == 12:
            resource.setrlimit(resource.RLIMIT_FSIZE, (700, before[1]))
        return losses(model, batch)

    objective = Objective("main", ("ears.*",), filling, stage().objectives[0].optim)
    try:
        with pytest.raises(CheckpointError, match="free space there"):
            run(tmp_path, the_stage=stage(objectives=(objective,)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert [n for n in names if n.startswith("step-")] == ["step-00000005", "step-00000010"]
    model, _ = run(tmp_path)  # goes on once there is space
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_divergence_stops_with_the_batch_saved(tmp_path):
    def leaving(model, batch):
        scale = 100.0 if batch["step"] >= 9 and torch.is_grad_enabled() else 1.0
        return {"loss": losses(model, batch)["loss"] * scale}

    with pytest.raises(StageError, match="diverged: loss is .* at step 14, it began at"):
        run(tmp_path, the_stage=stage(objectives=(Objective("main", ("ears.*",), leaving),)))
    assert (tmp_path / "bad-batch-00000013.safetensors").is_file()


def test_one_hard_batch_is_no_divergence(tmp_path):
    """Rows of ``make demo``: few items a batch, the state head of fo-smol knows the easy ones."""
    rows = [0.268, 0.338, 3.25, 0.31, 0.29, 0.30, 40.0, 0.30, 41.0, 42.0]
    guard = Divergence(10.0, [{"loss": x} for x in rows])
    with pytest.raises(StageError, match=r"loss is 43 at step 11, it began at 3.25"):
        guard.check({"loss": 43.0}, {"items": []}, tmp_path, "toy", 10)


def test_a_start_that_knows_the_batch_is_no_measure(tmp_path):
    """Rows of ``make demo``: the first batch held nothing that fo-smol's state head got wrong."""
    guard = Divergence(10.0, [])
    for step, loss in enumerate((0.004974, 0.300477, 2.22577, 0.245348, 0.3, 0.1)):
        guard.check({"loss": loss}, {"items": []}, tmp_path, "toy", step)


def test_out_of_memory_says_what_to_lower(tmp_path):
    def large(model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(StageError, match=r"out of memory at step 1 .* lower train.batch.seconds"):
        with memory_guard("toy", 0, [{"items": [Named("a", 3.0)]}]):
            large(None, None)
    with pytest.raises(RuntimeError, match="another fault"), memory_guard("toy", 0, []):
        raise RuntimeError("another fault")


def test_learning_rates_follow_their_schedule():
    cfg = OptimConfig(
        lr=1.0, warmup_steps=4, schedule="linear", plateau_ratio=0.5, min_lr_ratio=0.1
    )
    rates = [rate(cfg, s, 24) for s in (0, 3, 4, 13, 14, 24, 99)]
    assert rates == pytest.approx([0.25, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1])
    decayed = OptimConfig(lr=1.0, schedule="exponential", decay=0.5, decay_steps=10)
    assert [rate(decayed, s, 99) for s in (9, 10, 25)] == [1.0, 0.5, 0.25]


def test_trackers_get_every_row_and_a_missing_one_is_said_before_training(tmp_path, monkeypatch):
    cfg = config(max_steps=4, trackers=("tensorboard",))
    run(tmp_path / "run", cfg=cfg)
    events = list((tmp_path / "run" / "trackers").rglob("events.out.tfevents.*"))
    assert any(b"train/loss" in e.read_bytes() and b"val/loss" in e.read_bytes() for e in events)
    monkeypatch.setattr("fo_core.training.logger.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(StageError, match=r"wandb is not installed.*pip install wandb"):
        run(tmp_path / "other", cfg=config(trackers=("wandb",)))
    with pytest.raises(ConfigError, match="train.tensorboard is train.trackers now"):
        recipe("input-1", "tiny", overrides=["train.tensorboard=true"])
