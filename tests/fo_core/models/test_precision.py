"""The precision of the matrices is measured once for a machine, and chosen by its times."""

from __future__ import annotations

import json
import types

import pytest
import torch
from tiny_models import tiny_model

from fo_core.api import network
from fo_core.devices import cpu
from fo_core.dialogue.settings import DialogueConfig
from fo_core.io.files import cache_dir
from fo_core.layers.kernels import taken
from fo_core.layers.transformer import LlamaConfig, LlamaStack
from fo_core.models import precision
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.packing import pack_for_inference
from fo_core.models.precision import Choice, Precision, choose, quickest

SHAPE = LlamaConfig(256, 4, 2, 64, 768, layers=2)  # 1.6 M weights
TIMES = {"same": 4.0, "fp16": 2.0, "bf16": 3.0, "int8": 1.0}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """One whose LLM is large enough to be measured, with a cache of its own."""
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    found = tiny_model(llm=FrozenLLM.load("tiny"))
    found.llm.backbone.stack = LlamaStack(SHAPE).eval().requires_grad_(False)
    return found


@pytest.fixture
def measured(monkeypatch):
    """The stacks that were measured; each has the same times."""
    stacks = []
    monkeypatch.setattr(precision, "measure", lambda stack: stacks.append(stack) or dict(TIMES))
    return stacks


@pytest.mark.parametrize(
    ("times", "chosen", "large"),
    [
        ({"same": 2.0, "fp16": 2.0}, "fp16", "fp16"),  # no slower: half the memory
        ({"same": 2.0, "fp16": 2.1}, "same", "same"),
        ({"same": 9.0, "fp16": 2.0, "bf16": 1.9, "int8": 1.7}, "fp16", "int8"),
        ({"same": 9.0, "fp16": 2.0, "bf16": 1.7, "int8": 1.5}, "bf16", "int8"),
        ({"same": 9.0, "fp16": 2.0, "bf16": 1.7, "int8": 1.3}, "int8", "int8"),
        ({"fp16": 2.0, "int8": 2.1}, "fp16", "fp16"),
    ],
)
def test_a_less_exact_one_has_to_be_worth_its_error(times, chosen, large):
    assert quickest(times) == chosen
    assert quickest(times, large=True) == large


def test_it_is_measured_once(model, measured):
    first, second = choose(model), choose(model)
    assert measured == [model.llm.backbone.stack]  # once; the speech decoder is too small
    assert (first.fresh, second.fresh) == (True, False)
    assert first.precision == second.precision == Precision("fp16", llm="int8", speech="fp16")
    assert second.times == {"llm": TIMES}
    assert str(second) == (
        "precision LLM int8, speech decoder fp16, the rest fp16"
        " (llm: same 4.00, fp16 2.00, bf16 3.00, int8 1.00 ms)"
    )


@pytest.mark.parametrize("what", ["cpu", "threads", "shape", "dtype"])
def test_other_circumstances_are_measured_anew(what, model, measured, monkeypatch):
    choose(model)
    if what == "cpu":
        monkeypatch.setattr(cpu, "describe", lambda: ("another one", ""))
    elif what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    elif what == "shape":
        model.llm.backbone.stack = LlamaStack(LlamaConfig(256, 4, 4, 64, 768, layers=2))
    else:
        model.llm.backbone.stack.bfloat16()
    assert choose(model).fresh and len(measured) == 2
    assert not choose(model).fresh


def _edit(change):
    def edit(path):
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return edit


BROKEN = {
    "cut": lambda path: path.write_text(path.read_text()[:40]),
    "empty": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda path: path.write_text("[1, 2]"),
    "of another machine": _edit(lambda held: held["key"].update(cpu="another one")),
    "an unknown precision": _edit(lambda held: held["ms"].update(int4=0.1)),
    "no times": _edit(lambda held: held.update(ms={})),
    "a time that is none": _edit(lambda held: held["ms"].update(fp16="fast")),
    "a time below zero": _edit(lambda held: held["ms"].update(fp16=-1.0)),
    "not a number": _edit(lambda held: held["ms"].update(fp16=float("nan"))),
}


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
def test_a_broken_or_foreign_file_is_measured_again(breaks, model, measured, caplog):
    choose(model)
    (path,) = (cache_dir() / "precision").iterdir()
    breaks(path)
    assert choose(model).fresh and f"{path} is measured again" in caplog.text
    assert not choose(model).fresh and len(measured) == 2  # it was mended


def test_a_cache_that_cannot_be_written_is_no_error(model, measured, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "file"))
    assert choose(model).precision.llm == "int8" and "cannot be kept" in caplog.text


def test_the_times_are_of_the_kernels_that_there_are(model):
    """Real products: every kernel once, and bfloat16 weights are not tried under two names."""
    stack = model.llm.backbone.stack
    for dtype in (torch.float32, torch.bfloat16):
        times = precision.measure(stack.to(dtype))
        assert all(0 < ms < 1e4 for ms in times.values())
        assert list(times) == [kind for kind in precision.KINDS if kind in times]
        assert next(iter(times)) == ("same" if dtype == torch.float32 else "fp16")
        assert len(set(taken(times).values())) == len(times)


def test_each_part_is_packed_as_chosen():
    """Its kernel is that of a model that is packed so as a whole, whatever this CPU has for it."""

    def kernels(weights):
        model = tiny_model(llm=FrozenLLM.load("tiny"))
        pack_for_inference(model, weights)
        spoken = model.speech_decoder.decoder.blocks[0].mlp.output
        return model.llm.backbone.stack.blocks[0].mlp.output.kernel, spoken.kernel

    found = kernels(Precision("same", llm="fp16", speech="int8"))
    assert found == (kernels("fp16")[0], kernels("int8")[1])


def test_only_auto_is_measured_and_never_for_a_published_checkpoint(model, monkeypatch):
    said: list[str] = []
    choice = Choice(Precision("fp16", "int8", "bf16"), {"llm": TIMES}, fresh=True)
    monkeypatch.setattr(precision, "choose", lambda model: choice)
    official = types.SimpleNamespace(compat="official")
    assert network._precision(model, "auto", official, said.append) == Precision.of("same")
    assert network._precision(model, "int8", DialogueConfig(), said.append) == Precision.of("int8")
    assert not said
    assert network._precision(model, "auto", DialogueConfig(), said.append) == choice.precision
    assert said == [f"measured on this CPU, once: {choice}"]


def test_what_is_small_or_elsewhere_is_not_measured(tmp_path, monkeypatch, measured):
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    assert choose(tiny_model(llm=FrozenLLM.load("tiny"))) == Choice(
        Precision("fp16", "fp16", "fp16"), {}
    )
    assert not measured and not list(tmp_path.glob("precision/*"))
