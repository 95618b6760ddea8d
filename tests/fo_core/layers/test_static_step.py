"""Steps of fixed shapes, run on a CPU as they are captured on CUDA: they equal the dynamic ones."""

from __future__ import annotations

import contextlib
import gc
import logging
from types import SimpleNamespace

import pytest
import torch
from device_reads import DeviceReads

from fo_core.errors import FoError
from fo_core.layers import graphs
from fo_core.layers.graphs import CapturedStep
from fo_core.layers.kv_cache import LayerKind
from fo_core.layers.ragged import run_ragged
from fo_core.layers.rope import Rope
from fo_core.layers.static_step import REACH, StaticSteps
from fo_core.layers.transformer import LlamaConfig, LlamaStack

NEAR = {"rtol": 1e-5, "atol": 1e-5}  # sums over masked places are rounded otherwise
PLAIN = LlamaConfig(32, 4, 2, 8, 48, layers=3, qkv_bias=True)
GEMMA = LlamaConfig(
    32, 4, 2, 8, 48, layers=3, qk_norm=True, norm_offset=True, post_norms=True,
    activation="gelu_tanh", scale=0.3, softcap=20.0,
    kinds=(LayerKind(5, "local"), LayerKind(), LayerKind(4, "none")),
)  # fmt: skip


def _stack(config: LlamaConfig = PLAIN) -> LlamaStack:
    torch.manual_seed(1)
    local = Rope(config.head_dim, 100.0) if config.kinds else None
    return LlamaStack(config, local_rope=local).eval().fuse()


def _rows(seed: int, count: int) -> torch.Tensor:
    return torch.randn(1, count, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", [PLAIN, GEMMA], ids=["plain", "gemma"])
@torch.inference_mode()
def test_a_static_step_equals_the_dynamic_one(config):
    """A text read whole, then tokens, the two vectors of a chunk, and tokens again."""
    dynamic, static = _stack(config), _stack(config)
    static.static = StaticSteps(static, rows=3, positions=64)
    one, other = dynamic.init_cache(1, 16), static.init_cache(1, 16)
    for step, count in enumerate([9, 1, 1, 2, 1, 2, 3, 1, 7, 1]):
        x = _rows(step, count)
        torch.testing.assert_close(static(x, cache=other), dynamic(x, cache=one), **NEAR)
        assert other.length == one.length
    used = slice(0, one.length)
    for mine, own in ((other.keys, one.keys), (other.values, one.values)):
        torch.testing.assert_close(mine[:, :, :, used], own[:, :, :, used], **NEAR)
    assert other.home is not None and other.keys.data_ptr() == static.static.keys.data_ptr()


@pytest.mark.parametrize("packed", [False, True])
@torch.inference_mode()
def test_weights_in_bfloat16_take_float32_vectors(packed):
    """Alone and together; packed, such a stack keeps float32. Both were a RuntimeError."""
    stack = _stack().to(torch.bfloat16)
    if packed:
        stack.pack("fp16")
    found = []
    for static in (None, StaticSteps(stack, rows=3, positions=64)):
        stack.static = static
        caches = [stack.init_cache(1, 8) for _ in range(3)]
        outs = [stack(_rows(1, 2), cache=caches[0])]
        outs += run_ragged(stack, [_rows(2, 1), _rows(3, 1)], caches[1:], [0, 0])
        found.append(outs)
    near = NEAR if packed else {"rtol": 0.05, "atol": 0.05}
    for mine, own in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, own, **near)
        assert mine.dtype == stack.dtype == (torch.float32 if packed else torch.bfloat16)


@torch.inference_mode()
def test_bits_do_not_depend_on_what_else_is_there():
    """Neither on the other rows, nor on what lies behind the end of a row."""
    stack = _stack()
    stack.static = StaticSteps(stack, rows=4, positions=64)
    alone, spoiled = stack.init_cache(1, 4), stack.init_cache(1, 4)
    for cache in (alone, spoiled):
        stack(_rows(1, 6), cache=cache)
        assert stack.static.takes(cache, 1)
    spoiled.keys[:, :, :, 6:] = 1e4
    spoiled.values[:, :, :, 6:] = -1e4
    x = _rows(3, 1)
    twins = stack.static.run([x, x], [alone, spoiled], [0, 0])
    assert torch.equal(*twins)


@torch.inference_mode()
def test_sequences_of_different_ages_and_positions_step_together():
    dynamic, static = _stack(), _stack()
    static.static = StaticSteps(static, rows=4, positions=300)
    shifts, found = [0, 3, 1], []
    for stack in (dynamic, static):
        caches = [stack.init_cache(1, 8) for _ in shifts]
        for number, cache in enumerate(caches):
            stack(_rows(number, 5 + 120 * number), cache=cache)
        outs = [
            run_ragged(stack, [_rows(10 * step + n, count) for n in range(3)], caches, shifts)
            for step, count in enumerate([1, 1, 2, 1])
        ]
        found.append([out for step in outs for out in step])
        assert [cache.length for cache in caches] == [10, 130, 250]
    for mine, own in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, own, **NEAR)
    mixed = [_rows(1, 1), _rows(2, 2), _rows(3, 1)]  # one of another size: nobody waits for it
    assert [y.shape[1] for y in run_ragged(static, mixed, caches, shifts)] == [1, 2, 1]


@torch.inference_mode()
def test_strands_of_one_talk_share_a_row():
    """A branch goes on beside its origin; cropping goes back."""
    dynamic, static = _stack(), _stack()
    static.static = StaticSteps(static, rows=1, positions=64)
    found = []
    for stack in (dynamic, static):
        cache, outs = stack.init_cache(1, 8), []
        for step in range(6):
            outs.append(stack(_rows(step, 1), cache=cache))
        cache.crop(5)
        twin = cache.branch()
        for step in (10, 11):
            outs += [stack(_rows(step, 1), cache=twin), stack(_rows(step + 5, 2), cache=cache)]
        found.append(outs)
    assert cache.home is twin.home
    for mine, own in zip(*found, strict=True):
        torch.testing.assert_close(mine, own, **NEAR)


@torch.inference_mode()
def test_rows_are_lent_and_come_back(caplog):
    stack = _stack()
    stack.static = steps = StaticSteps(stack, rows=2, positions=32)
    caches = [stack.init_cache(1, 4) for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        for cache in caches:
            stack(_rows(1, 1), cache=cache)
    assert [cache.home is not None for cache in caches] == [True, True, False]
    assert "more than 2 sequences" in caplog.text
    del cache
    caches.pop(0)
    gc.collect()
    assert steps.free == {0}
    stack(_rows(2, 1), cache=caches[1])  # the one without a row
    assert caches[1].home is not None and not steps.free


@torch.inference_mode()
def test_a_full_row():
    """Directly: one clear line. Through the stack: the sequence goes on in memory of its own."""
    dynamic, stack = _stack(), _stack()
    stack.static = steps = StaticSteps(stack, rows=1, positions=REACH)
    cache, own = stack.init_cache(1, 4), dynamic.init_cache(1, 4)
    for one, layers in ((cache, stack), (own, dynamic)):
        layers(_rows(1, 1), cache=one)
        layers(_rows(2, REACH - 2), cache=one)
    assert cache.length == REACH - 1 and cache.home is not None
    with pytest.raises(FoError, match=f"full: {REACH - 1} positions of {REACH}, and 2 more"):
        steps.run([_rows(3, 2)], [cache], [0])
    y, wanted = (s(_rows(3, 2), cache=c) for s, c in ((stack, cache), (dynamic, own)))
    torch.testing.assert_close(y, wanted, **NEAR)
    assert cache.home is None and steps.free == {0}
    with pytest.raises(FoError, match="without a row"):
        steps.run([_rows(3, 1)], [cache], [0])


@torch.inference_mode()
def test_a_step_reads_nothing_back():
    """No number of the device is wanted, and no buffer is made anew for an older sequence."""
    stack = _stack()
    stack.static = steps = StaticSteps(stack, rows=2, positions=2 * REACH)
    cache = stack.init_cache(1, 4)
    stack(_rows(1, 1), cache=cache)
    with DeviceReads() as reads:
        for step in range(5):
            stack(_rows(step, 1), cache=cache)
    assert reads.count == 0
    assert len(steps._step._ready) == 1
    stack(_rows(2, REACH), cache=cache)
    stack(_rows(1, 1), cache=cache)
    assert len(steps._step._ready) == 2  # attention reads twice as far now
    assert stack.to(torch.float64).static is None  # its block is of the old weights


def test_a_captured_step_has_one_set_of_buffers_for_each_shape():
    seen = []

    def function(x, y, key):
        seen.append((x.data_ptr(), key))
        return [x * key, x if y is None else x + y]

    step = CapturedStep(function)
    one = step(torch.ones(2), None, key=3)
    two = step(torch.full((2,), 5.0), None, key=3)
    three = step(torch.ones(2), torch.ones(2), key=3)
    assert one[0].tolist() == [3, 3] and two[0].tolist() == [15, 15] and three[1].tolist() == [2, 2]
    assert seen[0] == seen[1] and seen[2][0] != seen[0][0]


class _Graph:
    """What torch.cuda.CUDAGraph does, on a CPU: the same kernels again, on the same memory."""

    def __init__(self) -> None:
        self.run, self.outputs = lambda: [], []

    def replay(self) -> None:
        for old, new in zip(self.outputs, self.run(), strict=True):
            old.copy_(new)


def _simulate_cuda(monkeypatch, function) -> list[str]:
    """Capture and replay, with what they call noted."""
    called: list[str] = []

    @contextlib.contextmanager
    def graph(one, capture_error_mode):
        called.append(f"capture, {capture_error_mode}")
        one.run = lambda: function(*step_inputs[-1])
        yield
        called.append("captured")

    step_inputs: list[tuple] = []
    stream = SimpleNamespace(wait_stream=lambda other: None)
    real = graphs._capture

    def capture(ready, run):
        step_inputs.append(tuple(ready.inputs))
        real(ready, run)
        ready.graph.outputs = ready.outputs

    fakes = {
        "Stream": lambda: stream, "current_stream": lambda: stream, "CUDAGraph": _Graph,
        "stream": lambda one: contextlib.nullcontext(), "graph": graph,
        "device": lambda one: contextlib.nullcontext(),
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(graphs, "captures", lambda device: True)
    monkeypatch.setattr(graphs, "_capture", capture)
    return called


def test_a_graph_is_captured_once_and_replayed_with_what_is_given(monkeypatch):
    """Warmed up, captured, then only replayed; what came out before stays."""
    runs = []

    def function(x, y):
        runs.append(x.data_ptr())
        return [x + y, x * y]

    called = _simulate_cuda(monkeypatch, function)
    step = CapturedStep(lambda x, y, key: function(x, y))
    first = step(torch.ones(3), torch.full((3,), 2.0))
    assert called == ["capture, thread_local", "captured"]
    assert len(runs) == graphs.WARM + 2  # the capture and the first replay
    second = step(torch.full((3,), 5.0), torch.full((3,), 7.0))
    assert [out.tolist() for out in first] == [[3.0] * 3, [2.0] * 3]
    assert [out.tolist() for out in second] == [[12.0] * 3, [35.0] * 3]
    assert len(called) == 2 and len(set(runs)) == 1
    for size in range(graphs.KEPT + 5):
        step(torch.ones(size + 10), torch.ones(size + 10))
    assert len(step._ready) == graphs.KEPT


def test_what_cannot_be_captured_runs_all_the_same(monkeypatch, caplog):
    _simulate_cuda(monkeypatch, lambda x: [2 * x])

    @contextlib.contextmanager
    def graph(one, capture_error_mode):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    step = CapturedStep(lambda x, key: [2 * x])
    with caplog.at_level(logging.WARNING):
        found = [step(torch.full((2,), float(value)))[0].tolist() for value in (1, 4)]
    assert found == [[2.0, 2.0], [8.0, 8.0]]
    assert caplog.text.count("without a CUDA graph, and slower: operation not permitted") == 1
