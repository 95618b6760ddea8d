"""The shape of a stack of Llama-like layers, and the preallocated cache of its keys and values.

All keys and values are kept, also those that a layer with a sliding window no longer sees: so a
cache can be cropped to any length, and the window is a matter of the mask alone.

A branch of a cache (:meth:`KVCache.branch`) writes into the same memory behind what both have in
common. Whoever takes a step has its rows there; those of the others that lie in its way are put
aside and come back with their own next step. So a branch copies nothing when it begins, and a
change of turns copies what the two do not share, however long the common beginning is.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

GROWTH = 1024  # positions that a full cache grows by at most: what it does not use is bounded


@dataclass(frozen=True)
class LayerKind:
    """How one layer attends."""

    window: int = 0  # newest positions that it sees, its own among them; 0 = all
    rope: Literal["main", "local", "none"] = "main"  # which rotary positions its heads get


PLAIN = LayerKind()


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of a stack of Llama-like layers; the defaults from ``qkv_bias`` on are Llama's own."""

    dim: int  # D, width of the residual stream
    heads: int  # attention heads
    kv_heads: int  # heads of keys and values; heads is a multiple of it
    head_dim: int  # dh, width of a head
    ffn: int  # inner width of the gated feed-forward
    layers: int  # L
    rms_eps: float = 1e-6  # epsilon of the norms
    rope_theta: float = 10000.0  # base of the rotary wave lengths
    qkv_bias: bool = False  # biases on queries, keys and values (Qwen2)
    qk_norm: bool = False  # RMS norms on the queries and keys of each head (Qwen3, Gemma 3)
    norm_offset: bool = False  # norms multiply by 1 + weight (Gemma)
    post_norms: bool = False  # norms also behind attention and feed-forward (Gemma 2 and 3)
    activation: Literal["silu", "gelu_tanh"] = "silu"  # of the gate
    scale: float | None = None  # of the attention's scores; None = head_dim ** -0.5
    softcap: float = 0.0  # bound of the attention's scores, by tanh (Gemma 2); 0 = none
    kinds: tuple[LayerKind, ...] = ()  # how each layer attends; () = all plainly

    def kind(self, layer: int) -> LayerKind:
        """How a layer attends."""
        return self.kinds[layer] if self.kinds else PLAIN

    @property
    def windowed(self) -> bool:
        """Whether some layer sees only the newest positions."""
        return any(kind.window for kind in self.kinds)


@dataclass
class _Aside:
    """Rows of a branch that another one has written over."""

    start: int
    keys: Tensor  # [L, B, Hkv, n, dh]
    values: Tensor  # [L, B, Hkv, n, dh]
    places: Tensor | None  # [B, n]

    def upto(self, stop: int) -> _Aside:
        """Without the rows from position ``stop`` on."""
        n = stop - self.start
        places = None if self.places is None else self.places[:, :n]
        return _Aside(self.start, self.keys[:, :, :, :n], self.values[:, :, :, :n], places)


@dataclass(eq=False)
class KVCache:
    """Keys and values of all layers; what lies beyond ``length`` is scratch.

    The tensors may be read after :meth:`claim` (a step claims by itself).
    """

    keys: Tensor  # [L, B, Hkv, Tmax, dh]
    values: Tensor  # [L, B, Hkv, Tmax, dh]
    length: int = 0  # positions in use
    places: Tensor | None = None  # [B, Tmax] rotary position of each, where windows ask for it
    home: object = field(default=None, repr=False)  # keeps the memory, where that is lent
    # branches that write into the same memory, this one among them; None: there are no others
    _branches: weakref.WeakSet[KVCache] | None = field(default=None, repr=False)
    _claimed: bool = field(default=True, repr=False)  # all rows up to ``length`` are in place
    _intact: int = field(default=0, repr=False)  # else: so many of the first ones
    _aside: list[_Aside] = field(default_factory=list, repr=False)  # the others, in any order

    @classmethod
    def empty(
        cls,
        config: LlamaConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> KVCache:
        """A cache without content and with room for ``capacity`` positions."""
        room = max(capacity, 1)
        shape = (config.layers, batch, config.kv_heads, room, config.head_dim)
        places = torch.empty(batch, room, dtype=torch.long, device=device)
        return cls(
            torch.empty(shape, dtype=dtype, device=device),
            torch.empty(shape, dtype=dtype, device=device),
            places=places if config.windowed else None,
        )

    @property
    def capacity(self) -> int:
        """Positions that fit without growing."""
        return self.keys.shape[3]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more positions; a full cache doubles, up to ``GROWTH`` more."""
        self.claim()
        need = self.length + count
        if need <= self.capacity:
            return
        wider = self._copy(max(need, self.capacity + min(self.capacity, GROWTH)))
        self.keys, self.values, self.places = wider.keys, wider.values, wider.places
        self.home = None
        self._leave()

    def move(self, keys: Tensor, values: Tensor, home: object) -> None:
        """Into other memory [L, B, Hkv, Tmax', dh], which ``home`` keeps; branches stay behind."""
        self.claim()
        used = slice(0, self.length)
        keys[:, :, :, used] = self.keys[:, :, :, used]
        values[:, :, :, used] = self.values[:, :, :, used]
        if self.places is not None:
            kept = self.places
            self.places = kept.new_empty(kept.shape[0], keys.shape[3])
            self.places[:, used] = kept[:, used]
        self.keys, self.values, self.home = keys, values, home
        self._leave()

    def branch(self) -> KVCache:
        """Another cache with the same content in the same memory; nothing is copied.

        The two are independent of each other, but only one of them may be in a step at a time: for
        two strands of one user's talk, not for two users.
        """
        self.claim()
        self._branches = self._branches or weakref.WeakSet((self,))
        twin = copy.copy(self)
        twin._claimed, twin._intact, twin._aside = False, self.length, []
        self._branches.add(twin)
        return twin

    def claim(self) -> None:
        """Have all rows in place; the step that follows may write behind them."""
        if self._branches is not None:
            with torch.inference_mode():
                self._swap_in(self._branches)

    def _swap_in(self, branches: Iterable[KVCache]) -> None:
        start = self.length if self._claimed else self._intact
        others = [branch for branch in branches if branch is not self]
        for other in others:
            other._put_aside(start)
        for piece in self._aside:
            rows = slice(piece.start, piece.start + piece.keys.shape[3])
            self.keys[:, :, :, rows], self.values[:, :, :, rows] = piece.keys, piece.values
            if self.places is not None and piece.places is not None:
                self.places[:, rows] = piece.places
        self._claimed, self._aside = True, []
        if not others:
            self._leave()

    def _put_aside(self, start: int) -> None:
        """Another branch writes from position ``start`` on."""
        stop = self.length if self._claimed else self._intact
        self._claimed, self._intact = False, min(start, stop)
        if start < stop:
            rows = slice(start, stop)
            places = None if self.places is None else self.places[:, rows].clone()
            keys, values = self.keys[:, :, :, rows].clone(), self.values[:, :, :, rows].clone()
            self._aside.append(_Aside(start, keys, values, places))

    def _leave(self) -> None:
        """Have no branches any more; all rows are in place."""
        if self._branches is not None:
            self._branches.discard(self)
            self._branches = None

    def note(self, positions: Tensor | int, count: int) -> Tensor | None:
        """Keep the positions of the next ``count`` entries (room is reserved), where windows ask.

        Args:
            positions: [count], [B, count], or the first of consecutive ones.
            count: How many.

        Returns:
            Those of all entries [B, length + count]; None where no layer has a window.
        """
        if self.places is None:
            return None
        end = self.length + count
        if isinstance(positions, int):
            positions = torch.arange(positions, positions + count, device=self.places.device)
        self.places[:, self.length : end] = positions
        return self.places[:, :end]

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, Hkv, T, dh] behind ``length`` (room is reserved); views of all [.., K, dh]."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add the keys and values [L, B, Hkv, T, dh] of all layers."""
        count = keys.shape[3]
        self.reserve(count)
        self.note(self.length, count)
        self.keys[:, :, :, self.length : self.length + count] = keys
        self.values[:, :, :, self.length : self.length + count] = values
        self.length += count

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on; nothing is copied."""
        assert 0 <= length <= self.length, "a cache is cropped to a part of itself"
        self.length = length
        if not self._claimed:
            self._intact = min(self._intact, length)
            kept = [piece for piece in self._aside if piece.start < length]
            self._aside = [piece.upto(length) for piece in kept]

    def expand(self, batch: int, capacity: int) -> KVCache:
        """A copy of a one-row cache for ``batch`` rows, with room for ``capacity`` positions."""
        self.claim()
        keys, values = (part.expand(-1, batch, -1, -1, -1) for part in (self.keys, self.values))
        places = None if self.places is None else self.places.expand(batch, -1)
        return KVCache(keys, values, self.length, places)._copy(capacity)

    def select(self, rows: Tensor, capacity: int = 0) -> KVCache:
        """A copy of some rows [B'] of the batch, with room for ``capacity`` positions."""
        self.claim()
        used = slice(0, self.length)
        keys, values = self.keys[:, rows, :, used], self.values[:, rows, :, used]
        places = None if self.places is None else self.places[rows, used]
        return KVCache(keys, values, self.length, places)._copy(capacity)

    def fork(self, room: int = 64) -> KVCache:
        """A copy of the used part with ``room`` free positions, which shares nothing with this."""
        self.claim()
        return self._copy(self.length + room)

    def _copy(self, capacity: int) -> KVCache:
        """A copy with room for ``capacity`` positions; memory is touched for the used ones only."""
        layers, batch, heads, _, dim = self.keys.shape
        shape = (layers, batch, heads, max(capacity, self.length), dim)
        out = KVCache(self.keys.new_empty(shape), self.values.new_empty(shape), self.length)
        out.keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        out.values[:, :, :, : self.length] = self.values[:, :, :, : self.length]
        if self.places is not None:
            out.places = self.places.new_empty(batch, shape[3])
            out.places[:, : self.length] = self.places[:, : self.length]
        return out
