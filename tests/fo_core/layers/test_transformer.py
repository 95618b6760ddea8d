"""Llama layers: parity with transformers, chunked == whole, cache, fusion, gradients."""

import pytest
import torch

from fo_core.layers.kv_cache import GROWTH
from fo_core.layers.rope import Rope, rotate
from fo_core.layers.transformer import KVCache, LlamaConfig, LlamaStack

CONFIG = LlamaConfig(dim=32, heads=4, kv_heads=2, head_dim=8, ffn=48, layers=3)


def make(config: LlamaConfig = CONFIG) -> LlamaStack:
    torch.manual_seed(0)
    return LlamaStack(config).eval()


def reference(stack: LlamaStack):
    """The same weights in transformers' own Llama."""
    from transformers import LlamaConfig as HFConfig
    from transformers import LlamaModel

    c = stack.config
    model = LlamaModel(
        HFConfig(
            hidden_size=c.dim, num_attention_heads=c.heads, num_key_value_heads=c.kv_heads,
            intermediate_size=c.ffn, num_hidden_layers=c.layers, vocab_size=8,
            rms_norm_eps=c.rms_eps, head_dim=c.head_dim,
        )
    ).eval()  # fmt: skip
    model.load_state_dict(stack.state_dict(), strict=False)
    model.norm = torch.nn.Identity()
    return model


def test_parity_with_transformers() -> None:
    stack = make()
    x = torch.randn(2, 11, 32)
    with torch.no_grad():
        expected = reference(stack)(inputs_embeds=x).last_hidden_state
        torch.testing.assert_close(stack(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_chunks_equal_the_whole_and_the_cache_grows(fused: bool) -> None:
    stack = make()
    x = torch.randn(2, 13, 32)
    with torch.no_grad():
        whole = stack(x)
        if fused:
            stack.fuse()
        cache = stack.init_cache(2, capacity=2)
        parts = [stack(part, cache=cache) for part in x.split([3, 1, 2, 1, 6], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    assert cache.length == 13 and cache.capacity >= 13


def test_crop_forgets_by_length_alone() -> None:
    stack = make()
    x, other = torch.randn(1, 6, 32), torch.randn(1, 4, 32)
    with torch.no_grad():
        cache = stack.init_cache(1, 32)
        stack(x, cache=cache)
        pointer = cache.keys.data_ptr()
        stack(other, cache=cache)
        cache.crop(6)
        again = stack(other, cache=cache)
        expected = stack(torch.cat((x, other), 1))[:, 6:]
    assert cache.keys.data_ptr() == pointer
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=0)


def test_fork_and_expand_leave_the_source_alone() -> None:
    stack = make()
    with torch.no_grad():
        cache = stack.init_cache(1, 8)
        stack(torch.randn(1, 5, 32), cache=cache)
        before = cache.keys.clone()
        fork, wide = cache.fork(4), cache.expand(3, 9)
        x = torch.randn(1, 2, 32)
        from_fork = stack(x, cache=fork)
        from_wide = stack(x.expand(3, -1, -1), cache=wide)
    # room that nothing was written to holds whatever was in that memory, NaN as well
    torch.testing.assert_close(cache.keys, before, atol=0, rtol=0, equal_nan=True)
    assert cache.length == 5 and fork.length == 7
    torch.testing.assert_close(from_wide, from_fork.expand(3, -1, -1), atol=1e-5, rtol=0)


def test_bidirectional_prefix_equals_one_masked_pass() -> None:
    """keys_values + past, and keys_values + cache, equal a full pass with a 4-D mask."""
    stack = make()
    prefix, x = torch.randn(2, 4, 32), torch.randn(2, 5, 32)
    sees = torch.ones(9, 9, dtype=torch.bool)
    sees[:4, 4:] = False  # the prefix sees itself, x sees all of both
    with torch.no_grad():
        expected = stack(torch.cat((prefix, x), 1), mask=sees[None, None])[:, 4:]
        past = stack.keys_values(prefix)
        functional = stack(x, past=past, causal=False)
        cache = stack.init_cache(2, 4)
        cache.append(*past)
        cached = stack(x, cache=cache, causal=False)
    torch.testing.assert_close(functional, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(cached, expected, atol=1e-5, rtol=0)


def test_float_mask_equals_bool_mask_per_row() -> None:
    stack = make()
    x = torch.randn(2, 5, 32)
    sees = torch.ones(5, 5, dtype=torch.bool).tril().expand(2, 1, 5, 5).clone()
    sees[1, :, 1:, 0] = False
    added = torch.zeros(2, 1, 5, 5).masked_fill(~sees, torch.finfo(torch.float32).min)
    with torch.no_grad():
        a, b = stack(x, mask=sees), stack(x, mask=added)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
        torch.testing.assert_close(a[:1], stack(x[:1]), atol=1e-5, rtol=0)
        assert not torch.allclose(a[1], stack(x)[1], atol=1e-3)


def test_left_padded_row_equals_the_row_alone() -> None:
    stack = make()
    x = torch.randn(1, 4, 32)
    padded = torch.cat((torch.randn(1, 3, 32), x), 1)
    positions = torch.tensor([[0, 0, 0, 0, 1, 2, 3]])
    sees = torch.ones(7, 7, dtype=torch.bool).tril() & (torch.arange(7) >= 3)
    with torch.no_grad():
        out = stack(padded, positions=positions, mask=sees[None, None])[:, 3:]
        torch.testing.assert_close(out, stack(x), atol=1e-5, rtol=0)


def test_gradients_reach_input_past_and_weights() -> None:
    stack = make().train()
    prefix = torch.randn(1, 3, 32, requires_grad=True)
    x = torch.randn(1, 4, 32, requires_grad=True)
    stack(x, past=stack.keys_values(prefix)).square().sum().backward()
    assert x.grad is not None and prefix.grad is not None and prefix.grad.abs().sum() > 0
    assert all(p.grad is not None for p in stack.parameters())


def test_fused_stack_still_trains_casts_and_keeps_its_state_dict() -> None:
    stack = make()
    names, x = dict(stack.state_dict()), torch.randn(1, 4, 32)
    before = {k: v.clone() for k, v in names.items()}
    stack.fuse()
    assert list(stack.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in stack.state_dict().items())
    stack(x).sum().backward()
    assert stack.layers[0].self_attn.q_proj.weight.grad is not None
    stack.double()
    with torch.no_grad():
        assert stack(x.double()).dtype == torch.float64
        stack.load_state_dict({k: torch.zeros_like(v) for k, v in before.items()})
        assert torch.equal(stack(x.double()), x.double())  # all weights zero: only the residual


def test_rope_takes_negative_positions_and_survives_a_cast() -> None:
    rope = Rope(8)
    cos, sin = rope.span(-2, 4, torch.float32)
    assert torch.allclose(cos[1], cos[3]) and torch.allclose(sin[1], -sin[3])
    table = rope.span(700, 2, torch.float32)
    angles = rope.angles(torch.tensor([700, 701]), torch.float32)
    assert torch.equal(table[0], angles[0]) and torch.equal(table[1], angles[1])
    assert rope.bfloat16().inv_freq.dtype == torch.float32
    x = torch.randn(2, 8)
    assert torch.allclose(rotate(x, cos[2:3], sin[2:3]), x)  # position 0 rotations nothing


def test_cache_append_grows_by_doubling() -> None:
    cache = KVCache.empty(CONFIG, 1, 4, torch.float32)
    cache.append(torch.ones(3, 1, 2, 3, 8), torch.ones(3, 1, 2, 3, 8))
    cache.append(torch.ones(3, 1, 2, 2, 8), torch.ones(3, 1, 2, 2, 8))
    assert cache.capacity == 8 and cache.length == 5 and cache.keys[:, :, :, :5].min() == 1


def test_a_long_cache_grows_by_pieces_and_keeps_what_it_holds() -> None:
    """Without the bound, a user who is just past 2,048 positions holds memory for 4,096."""
    cache = KVCache.empty(CONFIG, 1, 2 * GROWTH, torch.float32)
    for start in range(0, 2 * GROWTH + 1, GROWTH // 2):
        part = torch.full((3, 1, 2, GROWTH // 2, 8), float(start))
        cache.append(part, -part)
    assert cache.capacity == 3 * GROWTH and cache.length == 5 * GROWTH // 2
    firsts = cache.keys[0, 0, 0, : cache.length : GROWTH // 2, 0]
    assert firsts.tolist() == [float(s) for s in range(0, 2 * GROWTH + 1, GROWTH // 2)]
    assert torch.equal(cache.values[..., : cache.length, :], -cache.keys[..., : cache.length, :])


@pytest.mark.parametrize("weights", ["same", "bf16", "int8"])
def test_packed_stack_is_close_keeps_its_weights_and_still_gives_gradients(weights: str) -> None:
    config = LlamaConfig(dim=128, heads=4, kv_heads=2, head_dim=32, ffn=256, layers=2)
    stack = make(config)
    before = {k: v.clone() for k, v in stack.state_dict().items()}
    x = torch.randn(1, 9, 128)
    with torch.no_grad():
        whole = stack(x)
        stack.fuse().pack(weights)
        cache = stack.init_cache(1, 4)
        got = torch.cat([stack(part, cache=cache) for part in x.split([4, 2, 1, 2], 1)], 1)
    error = (got - whole).norm() / whole.norm()
    assert error < {"same": 1e-5, "bf16": 1e-2, "int8": 1e-2}[weights]
    assert all(torch.equal(v, before[k]) for k, v in stack.state_dict().items())
    stack.requires_grad_(False)
    x.requires_grad_()
    out = stack(x)
    torch.testing.assert_close(out, whole, atol=1e-5, rtol=0)  # under autograd: not packed
    out.sum().backward()
    assert x.grad is not None
