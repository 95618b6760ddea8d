"""Loaders: items of a manifest to padded batches, deterministic and resumable at any batch."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fo_core.data.augment import AugmentConfig, augment, augment_item, check_folders
from fo_core.data.collate import Batch, find_task
from fo_core.data.lazy import LazyItems
from fo_core.data.manifest import Item
from fo_core.data.sampler import Batching, epoch_batches
from fo_core.data.selection import Selection
from fo_core.errors import DataError, FoError
from fo_core.io import audio

log = logging.getLogger(__name__)
Place = tuple[int, int]  # an epoch, a batch of it
CROP_TRIES = 8  # places looked at for a crop that is not silent


class Sounds:
    """Decoded sounds, kept as 16-bit samples up to a limit: a small set is decoded once.

    Args:
        limit_mb: Memory to use at most, MB; what comes after is decoded each time.
    """

    def __init__(self, limit_mb: float = 512.0) -> None:
        self.free = int(limit_mb * 2**20)
        self._held: dict[tuple[Any, ...], np.ndarray] = {}

    def load(self, item: Item, rate: int) -> audio.Wave:
        """The item's sound: float32 [S] at ``rate``.

        Raises:
            AudioError: It cannot be read.
        """
        key = (item.audio, item.start, item.seconds, item.channel, rate)
        held = self._held.get(key)
        if held is not None:
            return audio.from_int16(held)
        wave = item.load_audio(rate)
        size = 2 * len(wave)
        if size <= self.free:
            self._held[key] = audio.to_int16(wave)
            self.free -= size
            return audio.from_int16(self._held[key])
        return wave


@dataclass(frozen=True)
class _Window:
    """Items that are shuffled and batched together."""

    items: Sequence[Item]
    lengths: Sequence[float]  # of what a batch of them pads, s
    batches: list[list[int]]


class Loader:
    """Iterating gives one round of batches; the next iteration gives the next round.

    A round is an epoch where all items are held; of a large manifest it is a window (lazy.py), and
    ``windows`` of them are an epoch.

    Several processes deal out one endless row of batches: process r of W gets every W-th one from
    the r-th on, so that W batches a step are the same ones however many processes share them.

    Attributes:
        epoch: The round that comes next, or is under way.
        batch: Batches of it that were given, to all processes together.
        windows: Rounds of an epoch.
        rejects: {item id: reason} of items that could not be loaded; they are skipped.
        inspect: Called with the items of each window of a large manifest, before its batches.
    """

    def __init__(
        self,
        source: Sequence[Item] | LazyItems,
        selection: Selection,
        batching: Batching,
        *,
        crop_samples: int = 0,
        crop_over: int = 0,
        augmentation: AugmentConfig | None = None,
        sounds: Sounds | None = None,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        endless: bool = True,
    ) -> None:
        self.task, self.selection = find_task(selection.task), selection
        self.rank, self.world_size, self.endless = rank, world_size, endless
        self.crop_samples, self.crop_over = crop_samples, crop_over
        self.augmentation = augmentation
        self.sounds, self.num_workers, self.batching = sounds or Sounds(), num_workers, batching
        self.lazy = source if isinstance(source, LazyItems) else None
        self.windows = self.lazy.windows if self.lazy else 1
        self._held = list(source) if not isinstance(source, LazyItems) else []
        self._lengths = self._lengths_of(self._held)
        self.epoch, self.batch = 0, 0
        self.rejects: dict[str, str] = {}
        self.inspect: Callable[[Sequence[Item]], Any] | None = None
        self._made: dict[int, _Window] = {}

    @property
    def items(self) -> Sequence[Item]:
        """The items of the current round."""
        return self._window(self.epoch).items

    @property
    def lengths(self) -> Sequence[float]:
        """Lengths of what a batch of these pads, s."""
        return self._window(self.epoch).lengths

    def batches(self, epoch: int | None = None) -> list[list[int]]:
        """Indices of the items of every batch of a round (None: the current one)."""
        return self._window(self.epoch if epoch is None else epoch).batches

    def _lengths_of(self, items: Sequence[Item]) -> list[float]:
        seconds = self.crop_samples / self.task.rate if self.crop_samples else 0.0  # cut or padded
        return [seconds or self.task.length(item) for item in items]

    def _window(self, round_: int) -> _Window:
        """A round's items and batches; at most three are held."""
        if round_ not in self._made:
            near = (round_ - 1, round_ + 1)
            self._made = {r: made for r, made in self._made.items() if r in near}
            items, lengths = self._held, self._lengths
            if self.lazy is not None:
                seed, shuffle = self.batching.seed, self.batching.shuffle
                items = self.selection(self.lazy.read(round_, seed, shuffle))
                lengths = self._lengths_of(items)
                if self.inspect is not None and items:
                    self.inspect(items)
            batches = (
                epoch_batches(items, self.batching, round_, lengths)
                if items or self.lazy is None
                else []
            )
            self._made[round_] = _Window(items, lengths, batches)
        return self._made[round_]

    def __len__(self) -> int:
        return len(self.batches())

    def __iter__(self) -> Iterator[Batch]:
        """This process's batches of the current epoch from ``self.batch`` on.

        Raises:
            DataError: No item of the whole epoch could be loaded.
        """
        todo = list(self._share())
        given = self.batch > 0 or not todo
        for place, (made, rejects) in zip(todo, self._loaded(todo), strict=True):
            self._reject(rejects)
            self.batch += self.world_size
            if made is None and self.world_size > 1 and self.endless:
                made = self._replacement_batch(place)  # every process must take its step
            if made is not None:
                given = True
                yield made
        if not given:
            name, reason = next(iter(self.rejects.items()))
            raise DataError(
                f"none of {len(self.items)} items can be loaded; {name}: {reason}",
                do="check that the manifest's sounds are where it says",
            )
        if self.endless:
            self.epoch, self.batch = self._place(self.batch)
        else:
            self.epoch, self.batch = self.epoch + 1, 0

    def _place(self, index: int) -> Place:
        """Epoch and place in it of a batch counted from the current epoch's beginning."""
        epoch, empty = self.epoch, 0
        while index >= len(self.batches(epoch)):
            empty = 0 if self.batches(epoch) else empty + 1
            if empty > self.windows:
                raise self.selection.nothing(self.lazy.items if self.lazy else 0)
            index -= len(self.batches(epoch))
            epoch += 1
        return epoch, index

    def _share(self) -> Iterator[Place]:
        """Places of this process's batches in the rounds that begin in the current epoch."""
        for start in range(self.batch, len(self.batches()), self.world_size):
            if self.endless or start + self.rank < len(self.batches()):
                yield self._place(start + self.rank)

    def _reject(self, rejects: dict[str, str]) -> None:
        for name, reason in rejects.items():
            if name not in self.rejects:
                log.warning("skipped %s: %s", name, reason)
        self.rejects.update(rejects)

    def _replacement_batch(self, place: Place) -> Batch | None:
        """The next batch of the epoch of which something can be loaded."""
        epoch, index = place
        batches = self.batches(epoch)
        for further in range(1, len(batches)):
            made, rejects = self._load((epoch, batches[(index + further) % len(batches)]))
            self._reject(rejects)
            if made is not None:
                return made
        return None

    def infinite_batches(self) -> Iterator[Batch]:
        """Epoch after epoch."""
        while True:
            yield from self

    def _loaded(self, todo: list[Place]) -> Iterable[tuple[Batch | None, dict[str, str]]]:
        jobs = [(epoch, self.batches(epoch)[index]) for epoch, index in todo]
        if not self.num_workers:
            return map(self._load, jobs)
        from torch.utils.data import DataLoader

        return DataLoader(
            _Jobs(self, jobs),  # type: ignore[arg-type]
            batch_size=None,
            shuffle=False,
            num_workers=self.num_workers,
        )

    def _load(self, job: tuple[int, list[int]]) -> tuple[Batch | None, dict[str, str]]:
        """One batch of the items that can be loaded (None if none can), and why others cannot."""
        epoch, indices = job
        loaded, rejects = [], {}
        items = self._window(epoch).items
        for item in (items[i] for i in indices):
            seed = [self.batching.seed, epoch, zlib.crc32(item.id.encode())]
            try:
                loaded.append(self._changed(item, np.random.default_rng(seed)))
            except FoError as error:
                rejects[item.id] = str(error)
        return (self.task.collate(loaded) if loaded else None), rejects

    def _changed(self, item: Item, draw: np.random.Generator) -> tuple[Item, np.ndarray]:
        """An item with its sound [S], both as this epoch's draws have them."""
        if not self.task.rate:
            return item, np.zeros(0, dtype=np.float32)
        wave = self.sounds.load(item, self.task.rate)
        if self.crop_samples:
            wave = crop(wave, self.crop_samples, draw, self.crop_over)
        if self.augmentation is None:
            return item, wave
        if self.crop_samples:  # its length must stay
            return item, augment(wave, self.augmentation, draw, self.task.rate)
        return augment_item(item, wave, self.task.rate, self.augmentation, draw)

    def state_dict(self) -> dict[str, int]:
        """Where all processes are; loading it goes on with the very next batch of each."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to where a state was taken; call it before iterating."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])


class _Jobs:
    """A loader's batches as a map-style dataset, for worker processes."""

    def __init__(self, loader: Loader, jobs: list[tuple[int, list[int]]]) -> None:
        self.loader, self.jobs = loader, jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> tuple[Batch | None, dict[str, str]]:
        return self.loader._load(self.jobs[index])


def crop(wave: np.ndarray, size: int, draw: np.random.Generator, over: int = 0) -> np.ndarray:
    """``size`` samples of a wave [S], not silent ones if it can be helped; short waves are padded.

    The padding is split at random, so that the sound does not always start the crop.

    Args:
        wave: Samples.
        size: Of the crop.
        draw: Where it begins.
        over: Samples by which it may begin before the sound or end behind it, in silence.
    """
    ends = -over, len(wave) - size + over  # where it may begin; the other way round if short
    for _ in range(CROP_TRIES):
        start = int(draw.integers(min(ends), max(ends) + 1))
        piece = wave[max(0, start) : max(0, start + size)]
        if np.abs(piece).max(initial=0.0) > 0.01:
            break
    before = max(0, -start)
    return np.pad(piece, (before, size - before - len(piece)))


def make_loader(
    items: Sequence[Item] | LazyItems,
    task: str,
    *,
    batch_seconds: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    crop_samples: int = 0,
    crop_over: int = 0,
    augmentation: AugmentConfig | None = None,
    max_seconds: float = 30.0,
    tail: float | None = None,
    cache_mb: float = 512.0,
    num_workers: int = 0,
    padding: float = 0.04,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    endless: bool = True,
) -> Loader:
    """A loader of batches for a task (``collate.TASKS`` says what each batch holds).

    Args:
        items: Of a manifest; those that lack what the task needs are skipped. Large ones come as
            ``lazy.LazyItems`` and are held a window at a time.
        task: "speech", "sound", "qa", "states", "tts", "reply" or "codec".
        batch_seconds: Most sound in a batch, s.
        batch_size: Most items in a batch.
        seed: Of the order, the crops and the augmentation.
        shuffle: False keeps the items' order (evaluation).
        crop_samples: Cut or pad every sound to this length (codec).
        crop_over: Samples by which a crop may reach over either end of its sound.
        augmentation: Changes of the sound; None leaves it as it is.
        max_seconds: Longer items are skipped.
        tail: Seconds of sound kept behind the end of speech, where an item says it, in all but a
            fixed quarter of the items; None: all.
        cache_mb: Memory for decoded sounds, MB.
        num_workers: Processes that load; 0 loads here (right for sets that fit the cache).
        padding: Share of a training batch that may be padding, for the sake of mixed lengths.
        drop_last: Leave out batches that are not full.
        rank: This process, of ``world_size``.
        world_size: Processes that train together.
        endless: Training: an epoch's last round takes what it lacks from the next epoch; False:
            every item once (validation).

    Raises:
        DataError: Unknown task, nothing left, no limit for a batch, or a folder of noises or rooms
            without a sound; ``tail`` for a task that reads states, which label that sound.
    """
    needs = find_task(task).needs
    if tail is not None:
        if "states" in needs:
            raise DataError(
                f"train.batch.tail={tail:g} cuts off sound that the items' states label",
                do="leave train.batch.tail out in this stage",
            )
    if augmentation is not None:
        check_folders(augmentation)
    selection = Selection(task, max_seconds, tail)
    source: Sequence[Item] | LazyItems = items
    if not isinstance(items, LazyItems):
        source = selection(items)
        if not source:
            raise selection.nothing(len(items))
    made = Loader(
        source,
        selection,
        Batching(batch_seconds, batch_size, seed, shuffle, padding, drop_last),
        crop_samples=crop_samples,
        crop_over=crop_over,
        augmentation=augmentation,
        sounds=Sounds(cache_mb),
        num_workers=num_workers,
        rank=rank,
        world_size=world_size,
        endless=endless,
    )
    made._place(0)  # the first window with something to train on; an error if there is none
    return made
