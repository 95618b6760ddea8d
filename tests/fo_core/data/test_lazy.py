"""Large manifests: items of a window at a time, the same whatever stops in between."""

import gzip
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fo_core.data import lazy, manifest
from fo_core.data.collate import Batch
from fo_core.data.dataset import Loader, make_loader
from fo_core.data.lazy import LazyItems, LineBlocks, ShardBlocks, open_items
from fo_core.data.manifest import Item
from fo_core.errors import DataError

COUNT = 1003


def item(number: int) -> Item:
    size = 8000 + 160 * (number * 37 % 100)
    return Item(f"i{number}", f"/x/{number}.flac", 16000, size, text=f"Text {number}.",
                speech_tokens=(number % 50,) * (1 + number % 7), global_tokens=(1,))  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("m") / "all.jsonl"
    manifest.write(place, map(item, range(COUNT)))
    return place


def loader(path: Path, window: int = 200, **more: object) -> Loader:
    return make_loader(LazyItems(LineBlocks(path), window), "tts", batch_size=6, **more)  # type: ignore[arg-type]


def ids(batch: Batch) -> list[str]:
    return [each.id for each in batch["items"]]


def epoch(made: Loader) -> list[list[str]]:
    return [ids(batch) for _ in range(made.windows) for batch in made]


@pytest.mark.parametrize("size", [1, 7, 32, 2000])
@pytest.mark.parametrize("end", ["\n", ""])
def test_blocks_hold_every_line_once(path: Path, tmp_path: Path, size: int, end: str) -> None:
    other = tmp_path / "m.jsonl"
    other.write_text(path.read_text().rstrip("\n") + end)
    blocks = LineBlocks(other, size)
    assert sum(blocks.sizes) == COUNT and len(blocks.sizes) == -(-COUNT // size)
    found = [each for block in range(len(blocks.sizes)) for each in blocks.read(block)]
    assert [each.id for each in found] == [f"i{n}" for n in range(COUNT)]


def test_chunk_boundaries_do_not_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LineBlocks(path)
    monkeypatch.setattr(lazy, "CHUNK", 1009)
    pieces = LineBlocks(path)
    assert pieces.starts.tolist() == whole.starts.tolist() and pieces.mark == whole.mark


def test_an_epoch_gives_every_item_once_in_another_order_each_time(path: Path) -> None:
    made = loader(path)
    assert made.windows == 6 and made.lazy is not None and made.lazy.items == COUNT
    first, second = epoch(made), epoch(made)
    everything = sorted(f"i{n}" for n in range(COUNT))
    assert sorted(sum(first, [])) == everything == sorted(sum(second, []))
    assert first != second and epoch(loader(path)) == first
    assert epoch(loader(path, seed=1)) != first
    early = {int(name[1:]) for name in sum(first, [])[:190]}
    assert max(early) > 800 and min(early) < 200  # a window is not a piece of the file


@pytest.mark.parametrize("stop", [0, 5, 33, 34, 170, 200])
def test_resume_is_exact_in_every_window(path: Path, stop: int) -> None:
    whole = [ids(b) for b in itertools.islice(loader(path).infinite_batches(), 210)]
    first = loader(path)
    taken = list(itertools.islice(first.infinite_batches(), stop))
    again = loader(path)
    again.load_state_dict(first.state_dict())
    rest = [ids(b) for b in itertools.islice(again.infinite_batches(), 210 - stop)]
    assert [ids(b) for b in taken] + rest == whole


@pytest.mark.parametrize("world", [2, 3])
def test_processes_deal_out_the_batches_of_one(path: Path, world: int) -> None:
    def stream(rank: int, of: int) -> Iterator[Batch]:
        return loader(path, rank=rank, world_size=of).infinite_batches()

    alone, several = stream(0, 1), [stream(rank, world) for rank in range(world)]
    for _ in range(80):  # over the ends of windows
        assert [ids(next(part)) for part in several] == [ids(next(alone)) for _ in several]


def test_worker_processes_give_the_same_batches(path: Path) -> None:
    here = [ids(b) for b in itertools.islice(loader(path).infinite_batches(), 60)]
    there = [ids(b) for b in itertools.islice(loader(path, num_workers=1).infinite_batches(), 60)]
    assert here == there


def test_no_more_than_three_windows_are_held(path: Path) -> None:
    made = loader(path)
    for _ in itertools.islice(made.infinite_batches(), 150):
        assert sum(len(window.items) for window in made._made.values()) <= 3 * 200
        assert not made._held


def test_small_manifests_are_held_whole_and_batched_as_before(path: Path) -> None:
    found = open_items(path)
    assert isinstance(found, list) and len(found) == COUNT
    assert isinstance(open_items(path, 200), LazyItems)


def test_packed_manifests_are_unpacked_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "cache"))
    packed = tmp_path / "all.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    plain, made = loader(path), make_loader(open_items(packed, 200), "tts", batch_size=6)
    assert epoch(made) == epoch(plain)
    (kept,) = (tmp_path / "cache" / "manifests").iterdir()
    before = kept.stat().st_mtime_ns
    open_items(packed, 200)
    assert kept.stat().st_mtime_ns == before
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot read manifest"):
        open_items(packed, 200)
    assert len(list((tmp_path / "cache" / "manifests").iterdir())) == 1


def test_bad_lines_and_windows_of_nothing_do_not_end_a_run(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = path.read_text().splitlines()
    lines[70] = "{not json"
    lines[71] = '{"id": 1}'
    for n in range(400, 700):
        lines[n] = lines[n].replace("speech_tokens", "other")
    mixed = tmp_path / "m.jsonl"
    mixed.write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING):
        found = sum(epoch(loader(mixed, shuffle=False)), [])
    assert len(found) == COUNT - 302 and "i70" not in found and "i500" not in found
    assert f"{mixed} line 71: " in caplog.text and f"{mixed} line 72: " in caplog.text
    mixed.write_text("\n".join(line.replace("speech_tokens", "other") for line in lines))
    with pytest.raises(DataError, match="no item of 1003 can be used for 'tts'.*encode"):
        loader(mixed)


def test_each_window_is_looked_at_before_it_trains(path: Path) -> None:
    made = loader(path)
    seen: list[int] = []
    made.inspect = lambda items: seen.append(len(items))
    epoch(made)
    assert len(seen) >= 5 and all(0 < count <= 200 for count in seen)


def test_shards_are_the_blocks_of_a_set(tmp_path: Path) -> None:
    import numpy as np

    from data_prep.runner.run import RunConfig
    from data_prep.steps.shard import ShardConfig, run
    from fo_core.io import audio

    items = []
    for n in range(20):
        sound = tmp_path / "wav" / f"{n}.flac"
        audio.write(sound, 0.1 * np.sin(np.arange(3000 + 100 * n) * 0.05), 16000)
        items.append(manifest.describe(sound, id=f"i{n}", text=f"Text {n}."))
    manifest.write(tmp_path / "m.jsonl", items)
    run(ShardConfig(4), tmp_path / "m.jsonl", tmp_path / "shards", RunConfig(1))
    lazily = LazyItems(ShardBlocks(tmp_path / "shards"), 8)
    made = make_loader(lazily, "speech", batch_size=4)
    assert made.windows == 3 and lazily.items == 20
    first = epoch(made)
    assert sorted(sum(first, [])) == sorted(f"i{n}" for n in range(20))
    assert isinstance(open_items(tmp_path / "shards"), list)
    assert next(iter(made))["wave"].shape[0] == 4
