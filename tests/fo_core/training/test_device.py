"""Every stage with a model that is not on the CPU."""

import copy

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from pretended_device import DEVICE, PretendedDevice

from fo_core.config import replace
from fo_core.training import distributed
from fo_core.training.loop import run_stage
from fo_core.training.recipes import NAMES, recipe


class TeamOnADevice(distributed.DistributedContext):
    """Accelerate believes that the device is there."""

    def __init__(self, cfg):
        super().__init__(cfg)
        for state in (AcceleratorState, PartialState):
            state._shared_state["device"] = DEVICE
        self.device = self.accelerator.device
        assert self.device == DEVICE


class CpuAutocast(torch.autocast):
    """The kernels are the CPU's."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu", *args, **kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_no_stage_mixes_devices(name, model, data, tmp_path, monkeypatch):
    """Three steps, a checkpoint, validation: the same losses as on the CPU."""
    changes = ["train.curves=false", "train.max_steps=3", "train.precision=fp32"]
    cfg = recipe(name, "tiny", overrides=changes)
    side = 0 if name.startswith("input") else 1
    sets = data[0][side], data[1][side]

    def go(own, folder, train=cfg.train):
        return run_stage(own, cfg.stage.build(), train, *sets, folder, progress=False).history

    wanted = go(copy.deepcopy(model), tmp_path / "cpu", replace(cfg.train, samples=0))
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: generator())
    monkeypatch.setattr(torch, "autocast", CpuAutocast)
    monkeypatch.setattr("fo_core.training.loop.DistributedContext", TeamOnADevice)
    try:
        with PretendedDevice():
            found = go(model, tmp_path / "device")
            trained = [p for p in model.parameters() if p.requires_grad]
            assert trained and {p.device for p in trained} == {DEVICE}
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    for one, other in zip(found, wanted, strict=True):
        losses = [key for key in other if key.endswith("loss")]
        assert {key: one[key] for key in losses} == pytest.approx({k: other[k] for k in losses})
