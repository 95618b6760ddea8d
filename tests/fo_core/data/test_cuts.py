"""Every field of a lhotse cut is honoured or refused by name, everywhere alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from data_prep.checks import CheckConfig, check
from data_prep.runner.lines import Line
from data_prep.runner.run import RunConfig
from data_prep.steps.shard import ShardConfig
from data_prep.steps.shard import run as shard
from eval.speech_data import as_rows, from_file
from fo_core.data import manifest
from fo_core.data.dataset import Sounds
from fo_core.errors import DataError

RATE = 16000


def channels(folder: Path, count: int = 2, seconds: float = 2.0) -> np.ndarray:
    """A file whose channels are constants of their own: 0.1, 0.2 ..; [S, C]."""
    samples = np.ones((round(RATE * seconds), 1)) * 0.1 * np.arange(1, count + 1)
    soundfile.write(folder / "many.wav", samples, RATE)
    return samples


def cut(folder: Path, **changes: Any) -> dict[str, Any]:
    """A cut as lhotse writes it, of a file with two channels."""
    recording = {
        "id": "r", "sampling_rate": RATE, "num_samples": 2 * RATE, "duration": 2.0,
        "channel_ids": [0, 1],
        "sources": [{"type": "file", "channels": [0, 1], "source": str(folder / "many.wav")}],
    }  # fmt: skip
    said = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 2.0, "channel": 0,
            "text": "some words", "speaker": "anna", "language": "en"}  # fmt: skip
    made = {"id": "c", "start": 0.0, "duration": 2.0, "channel": 0, "supervisions": [said],
            "recording": recording, "type": "MonoCut"}  # fmt: skip
    return {**made, **changes}


def supervisions(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    base = {"id": "s", "recording_id": "r", "channel": 0, "speaker": "anna", "language": "en"}
    return [{**base, **row} for row in rows]


def level(wave: np.ndarray) -> float:
    return round(float(wave[8000]), 3)


@pytest.mark.parametrize(("channel", "kind", "wanted"), [
    (0, "MonoCut", 0.1), (1, "MonoCut", 0.2), ([0, 1], "MultiCut", 0.15), ([1], "MultiCut", 0.2),
])  # fmt: skip
def test_d3_the_channel_is_honoured_by_training_checks_shards_and_evaluation(
    tmp_path: Path, channel: Any, kind: str, wanted: float
) -> None:
    channels(tmp_path)
    said = supervisions({"start": 0.0, "duration": 2.0, "text": "a b c", "channel": channel})
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(cut(tmp_path, channel=channel, type=kind, supervisions=said)))
    (item,) = manifest.read(path)
    assert level(item.load_audio(RATE)) == wanted
    assert level(Sounds().load(item, RATE)) == wanted
    manifest.write(tmp_path / "again.jsonl", [item])
    assert manifest.read(tmp_path / "again.jsonl") == [item]
    found = check(Line(1, path.read_bytes()), tmp_path, CheckConfig())
    assert not found.faults
    shard(ShardConfig(1), path, tmp_path / "out", RunConfig(workers=1))
    (packed,) = manifest.read(tmp_path / "out")
    assert level(packed.load_audio(RATE)) == wanted
    (row,), _ = as_rows({"all": [item]})
    from eval.tts import original

    assert level(original({**row, "seconds": item.duration}, RATE)) == wanted


def test_d3_two_channels_of_one_file_are_two_sounds_in_the_cache(tmp_path: Path) -> None:
    channels(tmp_path)
    held = Sounds()
    left, right = (manifest.from_cut(cut(tmp_path, channel=c)) for c in (0, 1))
    assert [level(held.load(i, RATE)) for i in (left, right, left)] == [0.1, 0.2, 0.1]


def test_d3_a_channel_in_a_file_of_its_own(tmp_path: Path) -> None:
    channels(tmp_path)
    soundfile.write(tmp_path / "b.wav", np.full(2 * RATE, 0.7), RATE)
    made = cut(tmp_path, channel=4)
    made["recording"]["sources"].append(
        {"type": "file", "channels": [4], "source": str(tmp_path / "b.wav")}
    )
    assert level(manifest.from_cut(made).load_audio(RATE)) == 0.7
    made["channel"], made["type"] = [0, 1, 4], "MultiCut"
    made["supervisions"] = []
    with pytest.raises(DataError, match="channels 0, 1, 4 lie in 2 files"):
        manifest.from_cut(made)


@pytest.mark.parametrize(("channel", "said"), [
    (7, "channel"), ([0, 1], ""), ([0, 7], "channel 0, 7 of a file with 0, 1"),
])  # fmt: skip
def test_d3_a_channel_that_is_not_there(tmp_path: Path, channel: Any, said: str) -> None:
    channels(tmp_path)
    made = cut(tmp_path, channel=channel, supervisions=[])
    if not said:
        assert manifest.from_cut(made).channel is None
        return
    with pytest.raises(DataError, match=said):
        manifest.from_cut(made)
    found = check(Line(1, json.dumps(made).encode()), tmp_path, CheckConfig())
    assert [kind for kind, _ in found.faults] == ["channel"] and not found.repaired


def test_d3_words_said_on_one_channel_of_a_multicut_are_heard_there(tmp_path: Path) -> None:
    channels(tmp_path)
    said = supervisions({"start": 0, "duration": 2, "text": "a b", "channel": [1]})
    made = cut(tmp_path, channel=[0, 1], type="MultiCut", supervisions=said)
    assert level(manifest.from_cut(made).load_audio(RATE)) == 0.2


@pytest.mark.parametrize("name", ["Speed", "Volume", "Tempo", "Resample"])
def test_d4_transforms_are_refused_by_name_and_not_mended_away(tmp_path: Path, name: str) -> None:
    channels(tmp_path)
    made = cut(tmp_path)
    made["recording"]["transforms"] = [{"name": name, "kwargs": {"factor": 0.9}}]
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(made) + "\n")
    with pytest.raises(DataError, match=rf"line 1: .*transforms \({name}\).*save_audios"):
        manifest.read(path)
    found = check(Line(1, path.read_bytes()), tmp_path, CheckConfig())
    assert [kind for kind, _ in found.faults] == ["transforms"] and not found.repaired
    with pytest.raises(DataError, match="none of 1 items"):
        shard(ShardConfig(1), path, tmp_path / "out", RunConfig(workers=1))
    assert name in (tmp_path / "out" / "rejects.jsonl").read_text()


def test_supervisions_that_follow_each_other_are_one_text(tmp_path: Path) -> None:
    channels(tmp_path)
    said = supervisions(
        {"start": 1.1, "duration": 0.5, "text": "and then these"},
        {"start": 0.2, "duration": 0.8, "text": "first words"},
    )
    item = manifest.from_cut(cut(tmp_path, supervisions=said))
    assert item.text == "first words and then these" and item.speaker == "anna"
    assert (item.speech_start, item.speech_end) == (0.2, 1.6)


@pytest.mark.parametrize(("rows", "said"), [
    ([{"speaker": "anna", "start": 0, "duration": 1}, {"speaker": "bert", "start": 1,
      "duration": 1}], "2 supervisions of 2 speakers.*trim_to_supervisions"),
    ([{"start": 0, "duration": 1.5}, {"start": 1, "duration": 1}], "2 supervisions that overlap"),
])  # fmt: skip
def test_supervisions_of_several_speakers_are_refused_by_name(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    channels(tmp_path)
    made = cut(tmp_path, supervisions=supervisions(*({"text": "words", **row} for row in rows)))
    with pytest.raises(DataError, match=said):
        manifest.from_cut(made)
    found = check(Line(1, json.dumps(made).encode()), tmp_path, CheckConfig())
    assert [kind for kind, _ in found.faults] == ["supervisions"]


def test_a_cut_within_its_file_is_that_part(tmp_path: Path) -> None:
    rising = np.arange(2 * RATE) / 40000
    soundfile.write(tmp_path / "many.wav", np.stack([rising, -rising], axis=1), RATE)
    item = manifest.from_cut(cut(tmp_path, start=0.5, duration=1.0, channel=1, supervisions=[]))
    wave = item.load_audio(RATE)
    assert len(wave) == RATE and wave[0] == pytest.approx(-0.2, abs=1e-3)


def test_custom_recordings_are_said_and_not_put_into_shards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channels(tmp_path)
    made = cut(tmp_path)
    made["custom"] = {"target_recording": made["recording"], "snr": 3}
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(made) + "\n")
    manifest.read(path)
    assert "custom recording 'target_recording'" in caplog.text
    found = check(Line(1, path.read_bytes()), tmp_path, CheckConfig())
    assert [kind for kind, _ in found.faults] == ["custom-recording"]
    with pytest.raises(DataError, match="none of 1 items"):
        shard(ShardConfig(1), path, tmp_path / "out", RunConfig(workers=1))


@pytest.mark.parametrize(("changes", "said"), [
    ({"type": "MixedCut"}, "a MixedCut is not one recording"),
    ({"type": "PaddingCut"}, "a PaddingCut is not one recording"),
])  # fmt: skip
def test_other_kinds_of_cuts_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    made = cut(tmp_path, **changes)
    del made["recording"]  # as lhotse writes them: its parts have recordings
    with pytest.raises(DataError, match=f"{said}.*save_audios"):
        manifest.from_cut(made)


def test_a_source_that_is_no_file_is_named(tmp_path: Path) -> None:
    made = cut(tmp_path)
    made["recording"]["sources"][0]["type"] = "command"
    with pytest.raises(DataError, match="its source is a command, not a file.*save_audios"):
        manifest.from_cut(made)


def test_d5_a_nemo_manifest_is_recognised_where_a_manifest_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"audio_filepath": "a.wav", "duration": 1.0, "text": "words"}\n')
    with pytest.raises(DataError, match="line 1: .*fo prepare-data import nemo"):
        manifest.read(path)


def test_d3_fix_writes_the_path_of_the_channel_s_own_file(tmp_path: Path) -> None:
    channels(tmp_path)
    soundfile.write(tmp_path / "b.wav", np.full(2 * RATE, 0.7), RATE)
    made = cut(tmp_path, channel=4)
    made["recording"]["sources"].append({"type": "file", "channels": [4], "source": "b.wav"})
    found = check(Line(1, json.dumps(made).encode()), tmp_path, CheckConfig())
    assert not found.faults
    repaired = json.loads(found.repaired)["recording"]["sources"]
    assert [each["source"] for each in repaired] == [
        str(tmp_path / n) for n in ("many.wav", "b.wav")
    ]


def test_d5_offset_and_duration_of_a_table_are_honoured_in_evaluation(tmp_path: Path) -> None:
    channels(tmp_path)
    table = tmp_path / "t.tsv"
    table.write_text("path\tsentence\toffset\tduration\n"
                     "many.wav\tone\t0.5\t1.0\nmany.wav\ttwo\t\t\nmany.wav\tx\t9\t1\n"
                     "many.wav\ty\tten\t1\n")  # fmt: skip
    items, left = from_file(table)
    assert [(i.start, i.duration) for i in items] == [(0.5, 1.0), (0.0, 2.0)]
    assert "no sound from 9 s" in str(left) or "number of seconds" in str(left)


def test_lhotse_reads_what_we_write_of_several_channels(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    channels(tmp_path)
    whole = manifest.describe(tmp_path / "many.wav", id="mean", text="x")
    assert whole.channel is None and whole.num_channels == 2
    manifest.write(tmp_path / "m.jsonl", [whole])
    (read,) = lhotse.CutSet.from_jsonl(tmp_path / "m.jsonl")
    assert read.load_audio().mean(axis=0)[0] == pytest.approx(0.15, abs=1e-4)
    assert manifest.read(tmp_path / "m.jsonl") == [whole]
