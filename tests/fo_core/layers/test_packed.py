"""Packed linears give what the plain ones give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from formats import UNITS, stored
from rounding import bounds, near
from torch import Tensor, nn

from fo_core.layers import packed
from fo_core.layers.kernels import say, taken
from fo_core.layers.kv_cache import LayerKind
from fo_core.layers.packed import PackedLinear, pack_linears
from fo_core.layers.ragged import run_ragged
from fo_core.layers.transformer import LlamaConfig, LlamaStack


@pytest.mark.parametrize("shape", [(1,), (2, 1), (1, 3), (4,), (2, 40)])
@pytest.mark.parametrize(
    ("weights", "tolerance"), [("same", 1e-5), ("fp16", 1e-3), ("bf16", 1e-2), ("int8", 1e-2)]
)
@torch.inference_mode()
def test_product(shape, weights, tolerance):
    """A kernel adds no error but the rounding of its format, whatever kernel this CPU takes."""
    torch.manual_seed(0)
    linear = nn.Linear(160, 130)
    x = 3 * torch.randn(*shape, 160)
    product = PackedLinear(linear, weights=weights)
    plain, found = linear(x), product(x)
    assert found.shape == plain.shape and found.dtype == plain.dtype
    assert (found - plain).norm() / plain.norm() < tolerance
    kept, bias = stored(linear.weight, product.kernel), linear.bias.double()

    def exact() -> dict[str, Tensor]:
        return {"y": F.linear(x.double(), kept, bias)}

    near(found, exact()["y"], bounds(exact, UNITS[product.kernel])["y"], product.kernel)


def overflowing(weight, bias):
    """int8 products as x86 without VNNI adds them: pairs in 16 bits, which saturate."""
    scale = weight.abs().amax(1) / 127
    rounded = (weight / scale[:, None]).round().int()

    def byte_product(values: Tensor) -> Tensor:  # [M, in] 0 .. 255 → [M, out]
        terms = values[:, None, :] * rounded
        pairs = terms.unflatten(-1, (-1, 2)).sum(-1).clamp(-32768, 32767)
        return (pairs.sum(-1) - 128 * rounded.sum(1)).float()

    def product(x):
        unit = x.abs().amax(1, keepdim=True) / 32600
        steps = (x / unit + 128 * 256 + 128.5).int()
        found = byte_product(steps % 256) + 256 * byte_product(steps // 256)
        return found * scale * unit + (0 if bias is None else bias)

    return product


@torch.inference_mode()
def test_int8_that_overflows_is_not_taken(monkeypatch):
    """Random inputs seldom overflow: it was taken, and real ones came out off by a tenth."""
    torch.manual_seed(1)
    linear, x = nn.Linear(64, 32), torch.randn(4, 64).abs()
    half = PackedLinear(linear, weights="fp16")(x)
    monkeypatch.setattr(packed, "_int8", overflowing)
    product = PackedLinear(linear, weights="int8")
    assert product.kernel == "FBGEMM fp16" and torch.equal(product(x), half)


@pytest.mark.skipif(
    taken(["int8"])["int8"][:11] != "oneDNN int8", reason="this CPU has no int8 products"
)
@torch.inference_mode()
def test_int8_gives_zeros_for_zeros():
    product = PackedLinear(nn.Linear(512, 256, bias=False), weights="int8")
    assert torch.equal(product(torch.zeros(3, 512)), torch.zeros(3, 256))


@torch.inference_mode()
def test_fp16_keeps_weights_of_any_size():
    torch.manual_seed(0)
    linear, x = nn.Linear(512, 256), torch.randn(3, 512)
    linear.weight.mul_(torch.logspace(-3, 1, 256).unsqueeze(1))  # half precision has few exponents
    product = PackedLinear(linear, weights="fp16")
    kept, bias = stored(linear.weight, product.kernel), linear.bias.double()

    def exact() -> dict[str, Tensor]:
        return {"y": F.linear(x.double(), kept, bias)}

    near(product(x), exact()["y"], bounds(exact)["y"])


@torch.inference_mode()
def test_half_precision_of_bfloat16_weights_rounds_no_input():
    """What is asked for is taken; the weights fit, so only float32 sums are left of the error."""
    torch.manual_seed(0)
    linear, x = nn.Linear(512, 256).bfloat16(), torch.randn(3, 512)
    exact = nn.functional.linear(x, linear.weight.float(), linear.bias.float())
    product = PackedLinear(linear, weights="fp16")
    assert product.kernel == taken(["fp16"])["fp16"].partition(" (")[0]
    if product.kernel == packed.KERNELS["fp16"]:
        assert (product(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_the_kernels_taken_are_named(capfd):
    found = taken()
    assert list(found) == ["same", "fp16", "bf16", "int8"]
    for kernel in found.values():
        assert kernel.partition(" (")[0] in UNITS
    text = say(taken(["same"]))
    assert torch.backends.cpu.get_cpu_capability() in text and f"same: {found['same']}" in text
    assert capfd.readouterr().out == ""  # oneDNN's own report is caught


@pytest.mark.parametrize("fuse", [False, True])
def test_stack_packs_itself(fuse):
    torch.manual_seed(0)
    stack = LlamaStack(LlamaConfig(128, 4, 2, 32, 256, layers=2, qkv_bias=True)).eval()
    if fuse:
        stack.fuse()
    x = torch.randn(2, 5, 128)
    with torch.inference_mode():
        expected = stack(x)
        assert pack_linears(nn.ModuleList([stack]))[0] is stack
        torch.testing.assert_close(stack(x), expected, rtol=0, atol=1e-5)
        cache = stack.init_cache(2)
        steps = [stack(x[:, i : i + 1], cache=cache) for i in range(5)]
        torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
def test_a_row_is_what_the_layers_give(heads):
    """The step of one position takes a path of its own: cache, rotation, groups must agree."""
    torch.manual_seed(0)
    config = LlamaConfig(128, heads[0], heads[1], 32, 256, layers=3, qkv_bias=True)
    stack = LlamaStack(config).eval()
    for parameter in stack.parameters():  # norms and biases other than one and zero
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 9, 128)
    with torch.inference_mode():
        plain, packed_cache = stack.init_cache(1, 2), stack.init_cache(1, 2)
        expected = [stack(x[:, i : i + 1], 5 - 3 + i, cache=plain) for i in range(9)]
        stack.pack()
        assert stack.rows
        stack(x[:, :4], 2, cache=packed_cache)
        found = [stack(x[:, i : i + 1], 5 - 3 + i, cache=packed_cache) for i in range(4, 9)]
    torch.testing.assert_close(torch.cat(found, 1), torch.cat(expected[4:], 1), rtol=0, atol=1e-4)
    assert packed_cache.length == 9
    used = slice(0, 9)
    for ours, theirs in ((packed_cache.keys, plain.keys), (packed_cache.values, plain.values)):
        torch.testing.assert_close(ours[..., used, :], theirs[..., used, :], rtol=0, atol=1e-4)
    stack.double()
    assert not stack.rows


def test_skip_and_small():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(256, 256), nn.Linear(256, 256))
    pack_linears(model, skip=lambda name: name == "2")
    assert [type(m).__name__ for m in model] == ["Linear", "PackedLinear", "Linear"]


def test_plain_where_the_op_is_missing(monkeypatch):
    def broken(*_):
        raise NotImplementedError

    def wrong(*_):
        return lambda x: x.new_zeros(len(x), 130)

    linear, x = nn.Linear(160, 130), torch.randn(2, 160)
    with torch.inference_mode():
        half = PackedLinear(linear, weights="fp16")(x)
        with monkeypatch.context() as patch:  # as on x86 without VNNI
            patch.setattr(packed, "_int8", wrong)
            assert torch.equal(PackedLinear(linear, weights="int8")(x), half)
        monkeypatch.setattr(packed, "_fp16", broken)
        same = PackedLinear(linear)(x)
        assert torch.equal(PackedLinear(linear, weights="fp16")(x), same)
    monkeypatch.setattr(packed, "_onednn", broken)
    monkeypatch.setattr(packed, "_int8", wrong)
    with torch.inference_mode():
        for weights in ("same", "fp16", "int8"):
            torch.testing.assert_close(PackedLinear(linear, weights=weights)(x), linear(x))


def test_neither_gradient_nor_move():
    layer = PackedLinear(nn.Linear(160, 130))
    with pytest.raises(RuntimeError, match="no gradient"):
        layer(torch.randn(1, 160, requires_grad=True))
    with pytest.raises(RuntimeError, match="cannot be moved"):
        layer.half()
    assert not layer.float().state_dict()


@pytest.mark.parametrize("weights", ["same", "fp16", "bf16", "int8"])
def test_rows_that_do_not_lie_together(weights):
    product = PackedLinear(nn.Linear(160, 130), weights=weights)
    x = torch.randn(160, 1, 2)[:, :, 0].T
    with torch.inference_mode():
        assert torch.equal(product(x), product(x.contiguous()))


@torch.no_grad()
def test_bfloat16_weights_keep_float32_between_the_products():
    """What was rounded to bfloat16 after every operation is not, once the stack is packed."""
    torch.manual_seed(0)
    stack = LlamaStack(LlamaConfig(128, 4, 2, 32, 256, layers=4, qkv_bias=True)).eval().bfloat16()
    wide = LlamaStack(stack.config).eval()
    wide.load_state_dict(stack.state_dict())
    x = torch.randn(1, 6, 128).bfloat16()
    exact, rounded = wide(x.float()), stack(x).float()
    stack.pack("fp16")
    cache = stack.init_cache(1, 8)
    found = torch.cat([stack(x[:, :3], cache=cache), stack(x[:, 3:4], cache=cache)], 1)
    found = torch.cat([found, stack(x[:, 4:], cache=cache)], 1)
    assert found.dtype == cache.keys.dtype == torch.float32
    assert (found - exact).norm() < 0.7 * (rounded - exact).norm()
    with torch.enable_grad():
        given = x.clone().requires_grad_()
        stack.requires_grad_(False)
        stack(given).float().sum().backward()
        assert given.grad is not None and stack(given).dtype == torch.bfloat16


@pytest.mark.parametrize("weights", ["same", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_sequence_alone_and_among_others_is_the_same_to_the_bit(weights, dtype):
    torch.manual_seed(0)
    kinds = (LayerKind(), LayerKind(window=4), LayerKind(rope="none"))
    config = LlamaConfig(128, 4, 2, 32, 256, layers=3, qk_norm=True, kinds=kinds)
    stack = LlamaStack(config).eval().to(dtype).pack(weights)
    past = [torch.randn(1, n, 128).to(dtype) for n in (5, 2, 9)]
    new = [torch.randn(1, n, 128).to(dtype) for n in (1, 3, 1)]
    caches, alone = ([stack.init_cache(1, 2) for _ in new] for _ in range(2))
    for rows, cache, other in zip(past, caches, alone, strict=True):
        stack(rows, cache=cache)
        stack(rows, cache=other)
    together = run_ragged(stack, new, caches, [0, 0, 0])
    for rows, other, found, cache in zip(new, alone, together, caches, strict=True):
        assert torch.equal(stack(rows, cache=other), found)
        assert torch.equal(other.keys[..., : other.length, :], cache.keys[..., : cache.length, :])
