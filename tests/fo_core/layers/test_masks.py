"""Masks of chunk attention, and the draw of chunk sizes."""

from __future__ import annotations

import torch

from fo_core.layers.masks import attention_mask, chunk_mask, draw_chunk, filled_mask, padding_mask


def test_chunk_mask_says_what_its_docstring_says() -> None:
    for chunk, left in [(4, 2), (3, 0), (5, -1), (1, 7), (-1, -1)]:
        mask = chunk_mask(17, chunk, left)
        for i in range(17):
            first = 0 if chunk <= 0 or left < 0 else max(0, (i // chunk - left) * chunk)
            last = 17 if chunk <= 0 else (i // chunk + 1) * chunk
            seen = [j for j in range(17) if mask[i, j]]
            assert seen == list(range(first, min(last, 17)))


def test_padding_is_hidden_from_real_frames_and_no_row_is_empty() -> None:
    mask = attention_mask(8, 2, 1, torch.tensor([8, 3]), torch.device("cpu"))
    assert mask is not None and mask.shape == (2, 1, 8, 8)
    assert not mask[1, 0, :3, 3:].any()
    assert mask.any(-1).all()
    assert attention_mask(8, -1, -1, None, torch.device("cpu")) is None
    assert padding_mask(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True] * 3]


def test_filled_mask_hides_unused_places() -> None:
    mask = filled_mask(torch.tensor([0, 3]), 4, 2, torch.device("cpu"))
    assert mask is not None
    assert mask[:, 0, 0].int().tolist() == [[0, 0, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1]]
    assert filled_mask(torch.tensor([4, 4]), 4, 2, torch.device("cpu")) is None


def test_draws_are_half_full_context_and_reproducible() -> None:
    def draws() -> list[tuple[int, int]]:
        generator = torch.Generator().manual_seed(3)
        return [draw_chunk(60, generator) for _ in range(400)]

    drawn = draws()
    assert drawn == draws()
    full = [d for d in drawn if d == (-1, -1)]
    assert 150 < len(full) < 250
    chunks = {c for c, _ in drawn if c > 0}
    assert min(chunks) == 1 and max(chunks) == 25
    assert all(0 <= left <= 59 // c for c, left in drawn if c > 0)
    assert draw_chunk(1, torch.Generator().manual_seed(0)) in [(-1, -1), (1, 0)]
