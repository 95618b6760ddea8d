from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fo_core.config import load
from fo_core.data import manifest
from fo_core.data.augment import AugmentConfig, augment
from fo_core.data.collate import PAD, Batch
from fo_core.data.dataset import Loader, Sounds, crop, make_loader
from fo_core.data.manifest import Item
from fo_core.data.sampler import Batching, epoch_batches
from fo_core.errors import ConfigError, DataError
from fo_core.io import audio

COUNT = 40


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder, draw, made = tmp_path_factory.mktemp("set"), np.random.default_rng(0), []
    for i in range(COUNT):
        path = folder / f"{i}.flac"
        chunks = int(draw.integers(3, 12))
        audio.write(path, 0.1 * draw.standard_normal(2560 * chunks), 16000)
        made.append(
            manifest.describe(
                path,
                id=f"item-{i}",
                text=f"words {i}",
                answer=f"answer {i}",
                states=(0,) * (chunks - 1) + (1,),
                speech_tokens=tuple(range(chunks)),
                global_tokens=(1, 2),
            )
        )
    return made


def ids(batch: Batch) -> list[str]:
    return [item.id for item in batch["items"]]


def test_an_epoch_gives_every_item_once_and_epochs_differ(items: list[Item]) -> None:
    loader = make_loader(items, "speech", batch_seconds=6, seed=1)
    first, second = [ids(b) for b in loader], [ids(b) for b in loader]
    assert sorted(sum(first, [])) == sorted(i.id for i in items) == sorted(sum(second, []))
    assert first != second and loader.epoch == 2
    again = make_loader(items, "speech", batch_seconds=6, seed=1)
    assert [ids(b) for b in again] == first
    assert [ids(b) for b in make_loader(items, "speech", batch_seconds=6, seed=2)] != first


def padding(batches: list[list[int]], lengths: list[float]) -> float:
    whole = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - sum(lengths) / whole


def test_batches_keep_their_limits_and_hold_similar_lengths(items: list[Item]) -> None:
    batches = epoch_batches(items, Batching(batch_seconds=8.0), 0)
    lengths = [item.duration for item in items]
    assert all(sum(lengths[i] for i in batch) <= 8.0 + 1e-6 for batch in batches)
    plain = epoch_batches(items, Batching(batch_seconds=8.0, shuffle=False), 0)
    assert padding(batches, lengths) < 0.5 * padding(plain, lengths)
    assert all(len(batch) <= 4 for batch in epoch_batches(items, Batching(batch_size=4), 0))


@pytest.mark.parametrize("limit", [0.04, 0.06, 0.1])
def test_batches_are_as_mixed_as_the_padding_allows(items: list[Item], limit: float) -> None:
    """Full batches, other ones each epoch, and padding close under its limit."""
    draw = np.random.default_rng(1)
    many = [replace(items[0], id=str(i)) for i in range(2000)]
    lengths = draw.gamma(6.0, 0.5, len(many)).tolist()  # mean 3 s
    found = [
        epoch_batches(many, Batching(batch_size=16, padding=limit), epoch, lengths)
        for epoch in range(2)
    ]
    for batches in found:
        assert len(batches) == 125 and all(len(batch) == 16 for batch in batches)
        assert 0.4 * limit < padding(batches, lengths) <= 1.1 * limit
    again = {frozenset(b) for b in found[0]} & {frozenset(b) for b in found[1]}
    assert len(again) <= 6  # the longest and the shortest have few of their length


def test_answers_are_batched_by_their_speech_tokens(items: list[Item]) -> None:
    """``reply`` reads questions, but what its batches pad is the answers' tokens."""
    sizes = np.random.default_rng(2).integers(10, 200, len(items))
    odd = [replace(i, speech_tokens=(1,) * n) for i, n in zip(items, sizes.tolist(), strict=True)]
    batches = make_loader(odd, "reply", batch_size=4).batches()
    assert padding(batches, sizes.tolist()) < 0.15
    assert (
        padding(epoch_batches(odd, Batching(batch_size=4), 0), sizes.tolist()) > 0.25
    )  # by the sounds


def test_crops_are_of_one_length_so_any_go_together(items: list[Item]) -> None:
    batches = make_loader(items, "codec", batch_size=8, crop_samples=6000).batches()
    spread = [np.ptp([items[i].duration for i in batch]) for batch in batches]
    assert len(batches) == 5 and min(spread) > 0.3


def test_one_item_longer_than_a_batch_is_still_given(items: list[Item]) -> None:
    assert sum(len(b) for b in epoch_batches(items, Batching(batch_seconds=0.2), 0)) == COUNT


def test_order_is_kept_without_shuffling(items: list[Item]) -> None:
    batches = epoch_batches(items, Batching(batch_size=7, shuffle=False), 0)
    assert sum(batches, []) == list(range(COUNT))


@pytest.mark.parametrize("world", [2, 3, 16])
def test_processes_deal_out_the_batches_of_one(items: list[Item], world: int) -> None:
    """Nothing twice, nothing left out, the same batches a round, also over an epoch's end."""

    def stream(rank: int, of: int) -> Iterator[Batch]:
        return make_loader(items, "tts", batch_size=4, rank=rank, world_size=of).infinite_batches()

    alone = stream(0, 1)
    several = [stream(rank, world) for rank in range(world)]
    for _ in range(24 // world + 2):
        assert [ids(next(part)) for part in several] == [ids(next(alone)) for _ in several]


def test_another_number_of_processes_goes_on_at_the_same_batch(items: list[Item]) -> None:
    before = make_loader(items, "tts", batch_size=4, rank=1, world_size=2)
    stream = before.infinite_batches()
    for _ in range(7):  # 14 of 10 batches an epoch
        next(stream)
    alone, after = (make_loader(items, "tts", batch_size=4) for _ in range(2))
    whole = alone.infinite_batches()
    for _ in range(14):
        next(whole)
    after.load_state_dict(before.state_dict())
    assert ids(next(after.infinite_batches())) == ids(next(whole))


def test_validation_is_shared_without_repeats(items: list[Item]) -> None:
    parts = [
        make_loader(items, "tts", batch_size=6, shuffle=False, rank=r, world_size=3, endless=False)
        for r in range(3)
    ]
    seen = [name for part in parts for batch in part for name in ids(batch)]
    assert sorted(seen) == sorted(item.id for item in items)


def test_a_batch_of_bad_items_does_not_put_a_process_out_of_step(items: list[Item]) -> None:
    broken = [replace(i, audio="/gone.flac") if n < 4 else i for n, i in enumerate(items)]
    parts = [
        make_loader(broken, "speech", batch_size=4, shuffle=False, rank=r, world_size=2)
        for r in range(2)
    ]
    assert [len(list(part)) for part in parts] == [5, 5]
    assert len(parts[0].rejects) == 4 and not parts[1].rejects


@pytest.mark.parametrize("stop", [0, 3, 7])
def test_resume_in_the_middle_of_an_epoch_is_exact(items: list[Item], stop: int) -> None:
    def fresh() -> Loader:
        return make_loader(
            items, "speech", batch_size=5, seed=3, augmentation=AugmentConfig(noise_share=1.0)
        )

    def take(stream: Iterator[Batch], count: int) -> list[Batch]:
        return [next(stream) for _ in range(count)]

    whole = take(fresh().infinite_batches(), 14)
    first = fresh()
    take(first.infinite_batches(), stop)
    second = fresh()
    second.load_state_dict(first.state_dict())
    rest = take(second.infinite_batches(), 14 - stop)
    for a, b in zip(whole[stop:], rest, strict=True):
        assert ids(a) == ids(b) and torch.equal(a["wave"], b["wave"])


def test_speech_and_qa_batches(items: list[Item]) -> None:
    batch = next(iter(make_loader(items, "qa", batch_size=6, shuffle=False)))
    size, length = batch["wave"].shape
    assert size == 6 == len(batch["answer"]) and length == int(batch["wave_lens"].max())
    for row, item in enumerate(batch["items"]):
        assert tuple(batch["states"][row, : batch["state_lens"][row]]) == item.states
        assert batch["state_lens"][row] * 2560 == batch["wave_lens"][row]
        assert (batch["wave"][row, batch["wave_lens"][row] :] == 0).all()
        assert (batch["states"][row, batch["state_lens"][row] :] == -1).all()
        wave = item.load_audio(16000)
        assert np.allclose(batch["wave"][row, : len(wave)], wave, atol=1e-6)


def test_tts_batches_read_no_sound(items: list[Item]) -> None:
    gone = [replace(item, audio="/nowhere.flac") for item in items]
    batch = next(iter(make_loader(gone, "tts", batch_size=4, shuffle=False)))
    longest = int(batch["token_lens"].max())
    assert batch["speech_tokens"].shape == (4, longest) and batch["global_tokens"].shape == (4, 2)
    for row, item in enumerate(batch["items"]):
        assert batch["speech_tokens"][row].tolist() == [*item.speech_tokens] + [PAD] * (
            longest - len(item.speech_tokens)
        )


def test_codec_crops_have_one_length_and_change_each_epoch(items: list[Item]) -> None:
    loader = make_loader(items, "codec", batch_size=8, crop_samples=6000)
    first, second = list(loader), list(loader)
    assert all(batch["wave"].shape[1] == 6000 for batch in first + second)
    a = {i.id: w for b in first for i, w in zip(b["items"], b["wave"], strict=True)}
    b = {i.id: w for b in second for i, w in zip(b["items"], b["wave"], strict=True)}
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_crop_avoids_silence_and_pads_short_sounds() -> None:
    wave = np.concatenate([np.zeros(40000, "f4"), np.full(10000, 0.5, "f4")])
    draws = np.random.default_rng(0)
    assert sum(np.abs(crop(wave, 9000, draws)).max() > 0 for _ in range(20)) >= 12
    assert len(crop(wave[-10:], 50, draws)) == 50


def test_training_crops_reach_into_the_silence_around_a_sound() -> None:
    """Codecs hear it when they speak: a pause is digital silence, and held-out crops are padded."""
    wave, draws = np.full(10000, 0.5, "f4"), np.random.default_rng(0)
    crops = [crop(wave, 4000, draws, over=1000) for _ in range(200)]
    silent = [int((piece == 0).sum()) for piece in crops]
    assert all(len(piece) == 4000 for piece in crops) and max(silent) <= 1000
    assert any(piece[0] == 0 for piece in crops) and any(piece[-1] == 0 for piece in crops)
    assert sum(count == 0 for count in silent) > 100
    assert not any((crop(wave, 4000, draws) == 0).any() for _ in range(50))


def test_a_tail_cuts_off_the_silence_behind_speech(items: list[Item]) -> None:
    """In three of four: an encoder that never hears a long silence hears words in it."""
    many = [replace(items[n % COUNT], id=f"q{n}", speech_end=0.2) for n in range(400)]
    loader = make_loader(many, "speech", batch_size=4, tail=0.1)
    cut = [length == pytest.approx(0.3) for length in loader.lengths]
    assert 0.7 < sum(cut) / len(cut) < 0.8
    whole = [length for length, short in zip(loader.lengths, cut, strict=True) if not short]
    assert set(whole) <= {item.duration for item in items}
    for batch in loader:
        seconds = [loader.lengths[int(item.id[1:])] for item in batch["items"]]
        assert batch["wave_lens"].tolist() == pytest.approx([16000 * s for s in seconds], abs=1)
    assert replace(many[0], states=(0, 1)).trimmed(0.1).states == ()  # they label what is gone
    unknown = replace(items[0], speech_end=0.0)
    assert unknown.trimmed(0.1) is unknown and many[0].trimmed(9.0) is many[0]


def test_a_tail_is_refused_where_states_label_the_silence(items: list[Item]) -> None:
    with pytest.raises(DataError, match=r"train\.batch\.tail=0\.1"):
        make_loader([replace(i, states=(0,)) for i in items], "states", batch_size=4, tail=0.1)


def test_items_that_cannot_be_read_are_left_out_and_listed(items: list[Item]) -> None:
    broken = [replace(i, audio="/gone.flac") if n % 10 == 0 else i for n, i in enumerate(items)]
    loader = make_loader(broken, "speech", batch_size=4)
    seen = [name for batch in loader for name in ids(batch)]
    assert len(seen) == COUNT - 4 and set(loader.rejects) == {f"item-{n}" for n in (0, 10, 20, 30)}
    assert "no sound file /gone.flac" in loader.rejects["item-0"]
    nothing = make_loader([replace(i, audio="/gone.flac") for i in items], "speech", batch_size=4)
    with pytest.raises(DataError, match="none of 40 items can be loaded"):
        list(nothing)


def test_worker_processes_give_the_same_batches(items: list[Item]) -> None:
    here = list(make_loader(items[:12], "speech", batch_size=3, seed=5))
    there = list(make_loader(items[:12], "speech", batch_size=3, seed=5, num_workers=1))
    for a, b in zip(here, there, strict=True):
        assert ids(a) == ids(b) and torch.equal(a["wave"], b["wave"])


def test_sounds_are_decoded_once_within_the_limit(items: list[Item], tmp_path: Path) -> None:
    copy = tmp_path / "a.flac"
    copy.write_bytes(Path(items[0].audio).read_bytes())
    sounds, item = Sounds(limit_mb=1), replace(items[0], audio=str(copy))
    first = sounds.load(item, 16000)
    copy.unlink()
    assert np.array_equal(first, sounds.load(item, 16000))
    assert Sounds(limit_mb=0).load(items[0], 16000).shape == first.shape


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "sing"}, "unknown data task 'sing'.*speech"),
        ({"batch_size": None}, "no limit"),
        ({"max_seconds": 0.1}, "no item of 40 can be used"),
    ],
)
def test_wrong_requests(items: list[Item], change: dict[str, object], said: str) -> None:
    settings = {"task": "speech", "batch_size": 4, **change}
    task = str(settings.pop("task"))
    with pytest.raises(DataError, match=said):
        list(make_loader(items, task, **settings))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="same id"):
        list(make_loader([items[0], items[0]], "speech", batch_size=2))


def test_augmentation_keeps_the_length_and_the_range() -> None:
    draw = np.random.default_rng(0)
    wave = np.sin(np.arange(8000) / 20).astype(np.float32)
    cfg = AugmentConfig(noise_share=1.0, tilt_share=1.0)
    changed = augment(wave, cfg, draw)
    assert changed.shape == wave.shape and np.abs(changed).max() <= 1.0
    assert not np.array_equal(changed, wave)
    same = augment(wave, cfg, np.random.default_rng(0))
    assert np.array_equal(changed, same)


def test_speeds_change_the_length(items: list[Item]) -> None:
    tape = AugmentConfig(speed_share=1.0, speeds=(0.8,))
    items = [replace(item, states=()) for item in items]  # with labels a sound ends with a chunk
    slow = make_loader(items, "speech", batch_size=4, shuffle=False, augmentation=tape)
    plain = make_loader(items, "speech", batch_size=4, shuffle=False)
    for one, two in zip(slow, plain, strict=True):
        assert torch.allclose(one["wave_lens"] * 0.8, two["wave_lens"].float(), atol=2)
    with pytest.raises(ConfigError, match="speeds.1: .* less than or equal to 2"):
        load(AugmentConfig, {"speeds": [0.9, 11]})
    with pytest.raises(ConfigError, match="speeds.0: .* greater than or equal to 0.5"):
        load(AugmentConfig, {"speeds": [0]})


def test_a_noise_is_speech_without_words(items: list[Item]) -> None:
    noise = replace(items[0], id="noise", text="", kind="noise")
    silent = replace(items[1], id="lacking", text="")
    loader = make_loader([items[2], noise, silent], "speech", batch_size=4, shuffle=False)
    (batch,) = list(loader)
    assert ids(batch) == ["item-2", "noise"] and batch["text"] == ["words 2", ""]
