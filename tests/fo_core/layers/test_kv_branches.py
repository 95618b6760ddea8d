"""Branches of a cache: what each holds is what an independent copy would hold."""

import random

import pytest
import torch

from fo_core.layers.kv_cache import KVCache, LayerKind, LlamaConfig

PLAIN = LlamaConfig(dim=8, heads=2, kv_heads=2, head_dim=4, ffn=8, layers=2)
WINDOWED = LlamaConfig(8, 2, 2, 4, 8, 2, kinds=(LayerKind(window=3), LayerKind()))


def rows(draw: torch.Generator, count: int) -> torch.Tensor:
    return torch.randn(2, 2, 1, 2, count, 4, generator=draw)


def same(cache: KVCache, copy: KVCache) -> None:
    cache.claim()
    assert cache.length == copy.length
    used = slice(0, cache.length)
    assert torch.equal(cache.keys[:, :, :, used], copy.keys[:, :, :, used])
    assert torch.equal(cache.values[:, :, :, used], copy.values[:, :, :, used])
    if cache.places is not None and copy.places is not None:
        assert torch.equal(cache.places[:, used], copy.places[:, used])


@pytest.mark.parametrize("config", [PLAIN, WINDOWED], ids=["plain", "windowed"])
@pytest.mark.parametrize("capacity", [16, 400], ids=["growing", "roomy"])
def test_branches_hold_what_copies_would(config: LlamaConfig, capacity: int) -> None:
    """Steps, crops below the common beginning, further branches and ends, in any order."""
    pick, draw = random.Random(0), torch.Generator().manual_seed(0)
    first = KVCache.empty(config, 1, capacity, torch.float32)
    first.append(*rows(draw, 8))
    pairs = [(first, first.fork())]
    for _ in range(300):
        cache, copy = pick.choice(pairs)
        what = pick.random()
        if what < 0.5:
            new = rows(draw, pick.randint(1, 3))
            cache.append(*new)
            copy.append(*new)
        elif what < 0.75:
            length = pick.randint(max(0, cache.length - 9), cache.length)
            cache.crop(length)
            copy.crop(length)
        elif what < 0.9 and len(pairs) < 4:
            pairs.append((cache.branch(), copy.fork()))
        elif len(pairs) > 1:
            pairs.remove((cache, copy))
        del cache, copy
        same(*pick.choice(pairs))
    for pair in pairs:
        same(*pair)


def test_a_branch_copies_what_differs_and_nothing_of_the_common_beginning() -> None:
    """A copy of 4,000 positions held up the first chunk of every barge-in."""
    draw = torch.Generator().manual_seed(0)
    cache = KVCache.empty(PLAIN, 1, 100, torch.float32)
    cache.append(*rows(draw, 50))
    twin = cache.branch()
    assert twin.keys.data_ptr() == cache.keys.data_ptr()
    twin.append(*rows(draw, 2))
    assert not cache._aside, "nothing of the first one lay in the way"
    cache.append(*rows(draw, 3))
    assert [piece.keys.shape[3] for piece in twin._aside] == [2]
    twin.claim()
    assert not twin._aside and [piece.keys.shape[3] for piece in cache._aside] == [3]
    cache.claim()
    del twin
    cache.claim()
    assert cache._branches is None, "who is alone looks for nobody"
