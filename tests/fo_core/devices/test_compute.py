"""Which devices are there, and what they can multiply."""

import pytest
import torch

from fo_core.devices import compute
from fo_core.errors import FoError


def test_cpu_is_always_there():
    assert compute.choose("cpu") == "cpu"
    assert compute.choose("auto") in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cuda:x", ""])
def test_no_such_device(name):
    with pytest.raises(FoError, match="no device") as caught:
        compute.choose(name)
    assert "cpu" in str(caught.value)


def test_float32_is_multiplied_everywhere():
    assert compute.working_dtype(torch.float32) is torch.float32
    assert compute.working_dtype(torch.bfloat16, "cuda") is torch.bfloat16


@pytest.mark.parametrize("there", [True, False])
def test_a_cpu_computes_in_float32_what_it_cannot_multiply(monkeypatch, there):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: there)
    assert compute.native_matmul(torch.bfloat16) is there
    assert compute.working_dtype(torch.bfloat16) is (torch.bfloat16 if there else torch.float32)


def test_a_build_without_onednn(monkeypatch):
    def missing():
        raise AttributeError

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", missing)
    assert not compute.native_matmul(torch.bfloat16)
