"""A few positions of several sequences through a stack, in shapes that never change.

The keys and values of all sequences lie in one block of memory, a row each; where a sequence stands
is a number in a tensor. So a step does not depend on how old its sequences are, reads and writes
the same addresses every time, and can be captured (:mod:`fo_core.layers.graphs`). Its shapes are
those of a bucket: rows 1, 2, 4, .., positions that attention reads 256, 512, ... What a row has not
written yet is masked; rows without work write to a place that nobody reads.

A row is an ordinary :class:`KVCache` to everybody else: text is read into it, it is cropped and
branched as ever. A sequence takes its row with its first short step, and gives it back when its
cache is gone; one for which there is no row, or whose row is full, has memory of its own and runs
as it would without all this.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from fo_core.errors import FoError
from fo_core.layers.attention_mask import make_mask
from fo_core.layers.graphs import CapturedStep, upload
from fo_core.layers.kv_cache import KVCache
from fo_core.layers.transformer import LlamaStack

log = logging.getLogger(__name__)
SHORT = 4  # positions of a step at most: a token, the two vectors of a chunk, a token and guesses
REACH = 256  # positions that the smallest bucket's attention reads


class _Row:
    """Holds a row until nobody does."""

    def __init__(self, owner: StaticSteps, number: int) -> None:
        self.owner, self.number = owner, number
        weakref.finalize(self, owner.free.add, number)


class StaticSteps:
    """The static steps of one stack, which uses them once it has them as ``static``.

    Args:
        stack: Where it is, in its dtype, and packed if it is to be; moved or cast afterwards it
            drops these steps.
        rows: Sequences at most.
        positions: Of one sequence at most; rounded up to a bucket.
    """

    def __init__(self, stack: LlamaStack, rows: int, positions: int) -> None:
        self.stack, self.rows = stack, rows
        self.positions = _bucket(positions, REACH)
        self.free = set(range(rows))
        self._lock, self._told = threading.Lock(), False
        with torch.inference_mode(False), torch.no_grad():
            block = stack.init_cache(rows, self.positions + 1)  # the last position: for nobody
            self.keys, self.values = block.keys.zero_(), block.values.zero_()
            self.idle = self.keys.new_zeros(1, SHORT, stack.config.dim)
            self._angles = {
                kind: stack.angles(kind, range(self.positions), stack.dtype)
                for kind in dict.fromkeys(layer.kind for layer in stack.blocks)
            }
        self._step = CapturedStep(self._layers)

    def takes(self, cache: KVCache, count: int) -> bool:
        """Whether a step of ``count`` positions can run here; a cache that has no row gets one."""
        if count > SHORT or cache.keys.shape[1] != 1 or torch.is_grad_enabled():
            return False
        if cache.length + count > self.positions:
            return self._refuse(f"a sequence is longer than {self.positions} positions")
        if isinstance(cache.home, _Row) and cache.home.owner is self:
            return True
        with self._lock:
            if not self.free:
                return self._refuse(f"more than {self.rows} sequences at a time")
            number = min(self.free)
            self.free.remove(number)
        keys, values = (
            block[:, number : number + 1, :, : self.positions] for block in (self.keys, self.values)
        )
        cache.move(keys, values, _Row(self, number))
        return True

    def alone(self, x: Tensor, positions: Tensor | int | None, cache: KVCache) -> Tensor | None:
        """:meth:`run` of one sequence, as ``LlamaStack.forward`` is asked; None: not here."""
        if isinstance(positions, Tensor) or not self.takes(cache, x.shape[1]):
            return None
        shift = 0 if positions is None else cache.length - positions
        return self.run([x], [cache], [shift])[0]

    def _refuse(self, why: str) -> bool:
        if not self._told:
            log.warning("some steps run without static shapes, and slower: %s", why)
        self._told = True
        return False

    def run(
        self, vectors: Sequence[Tensor], caches: Sequence[KVCache], shifts: Sequence[int]
    ) -> list[Tensor]:
        """One causal step of several sequences, all of the same number of positions.

        Args:
            vectors: New vectors of each [1, T, D], T <= ``SHORT``.
            caches: Its cache, which :meth:`takes` took; extended in place.
            shifts: Its first new position is ``cache.length - shift``.

        Returns:
            [1, T, D] each, not normed.

        Raises:
            FoError: A cache is full, or in no row.
        """
        T = vectors[0].shape[1]
        numbers, places, back = [], {}, {}
        for cache, shift in zip(caches, shifts, strict=True):
            row = cache.home
            if not isinstance(row, _Row) or row.owner is not self:
                raise FoError("a sequence without a row takes no static step")
            if cache.length + T > self.positions:
                raise FoError(
                    f"the static cache is full: {cache.length} positions of {self.positions}, "
                    f"and {T} more to come",
                    do="make it for more positions, or crop the sequence",
                )
            cache.claim()
            cache.note(cache.length - shift, T)
            numbers.append(row.number)
            places[row.number], back[row.number] = cache.length, shift
        batch = min(_bucket(max(numbers) + 1, 1), self.rows)
        reach = _bucket(max(places.values()) + T, REACH)
        given = dict(zip(numbers, vectors, strict=True))
        x = torch.cat([given.get(row, self.idle[:, :T]) for row in range(batch)]).to(self.keys)
        at = [[places.get(row, self.positions), back.get(row, 0)] for row in range(batch)]
        (out,) = self._step(x, upload(at, x.device), key=reach)
        for cache in caches:
            cache.length += T
        return [out[row : row + 1] for row in numbers]

    def _layers(self, x: Tensor, at: Tensor, key: int) -> list[Tensor]:
        """[B, T, D] at places [B, 2] (and shifts) → [B, T, D]; attention reads ``key`` places."""
        (B, T, _), c = x.shape, self.stack.config
        steps = torch.arange(T, device=x.device)
        place = (at[:, :1] + steps).clamp(max=self.positions)  # [B, T]
        turned = (place - at[:, 1:]).clamp(0, self.positions - 1)
        keys_at = torch.arange(key, device=x.device)
        behind = place.unsqueeze(-1) - keys_at  # [B, T, K]
        views = {}
        for kind, angles in self._angles.items():
            near = behind >= 0
            if kind.window:
                near = near & (behind < kind.window)
            mask = make_mask(near.unsqueeze(1), False, T, key, self.stack.group, x.device)
            rotation = None if angles is None else tuple(a[turned].unsqueeze(1) for a in angles)
            views[kind] = rotation, mask
        where = place.view(B, 1, T, 1).expand(B, c.kv_heads, T, c.head_dim)
        for index, layer in enumerate(self.stack.blocks):
            rotation, seen = views[layer.kind]
            query, keys, values = layer.project(x, rotation)  # type: ignore[arg-type]
            all_keys, all_values = self.keys[index, :B], self.values[index, :B]
            all_keys.scatter_(2, where, keys)
            all_values.scatter_(2, where, values)
            kept = all_keys[:, :, :key], all_values[:, :, :key]
            x = layer.finish(x, layer.attend(query, *kept, seen))
        return [x]


def _bucket(count: int, smallest: int) -> int:
    """The smallest bucket, doubled until it holds so many."""
    while smallest < count:
        smallest *= 2
    return smallest
