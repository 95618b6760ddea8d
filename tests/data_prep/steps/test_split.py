"""Held-out parts of an imported corpus."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_prep.held_out import speaker_of, text_of
from data_prep.runner.cuts import cuts_of, manifests
from data_prep.steps.split import SplitConfig, run
from fo_cli.main import app
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import ConfigError, DataError, FoError


def corpus(path: Path, speakers: int = 5, texts: int = 40, each: int = 4) -> Path:
    items = [
        Item(f"u{i}", "/x.flac", 16000, 16000, text=f"Text {i % texts}.",
             speaker=f"s{i // texts % speakers}")
        for i in range(texts * each)
    ]  # fmt: skip
    manifest.write(path, items)
    return path


def parts(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.stem: [json.loads(x) for x in p.open()] for p in out.glob("*.jsonl")}


def test_no_text_is_on_both_sides_and_the_seed_decides(tmp_path: Path) -> None:
    source = corpus(tmp_path / "all.jsonl")
    report = run([source], tmp_path / "a", SplitConfig(val=0.1, test=0.2))
    found = parts(tmp_path / "a")
    assert {n: len(rows) for n, rows in found.items()} == {"train": 112, "val": 16, "test": 32}
    assert report["splits"]["val"]["items"] == 16 and not report["left_out"]
    said = {name: set(map(text_of, rows)) for name, rows in found.items()}
    assert not said["train"] & said["val"] and not said["val"] & said["test"]
    assert all(row["custom"]["split"] == name for name, rows in found.items() for row in rows)
    run([source], tmp_path / "b", SplitConfig(val=0.1, test=0.2))
    run([source], tmp_path / "c", SplitConfig(val=0.1, test=0.2, seed=1))
    assert parts(tmp_path / "b") == found != parts(tmp_path / "c")


def test_speakers_are_kept_apart_and_with_texts_what_crosses_is_left_out(tmp_path: Path) -> None:
    source = corpus(tmp_path / "all.jsonl", texts=10, each=5)  # everybody reads the same
    run([source], tmp_path / "a", SplitConfig(val=0.2, by=("speaker",)))
    found = parts(tmp_path / "a")
    assert {n: {speaker_of(r) for r in rows} for n, rows in found.items()}["val"] == {
        speaker_of(found["val"][0])
    }
    assert not {speaker_of(r) for r in found["train"]} & {speaker_of(r) for r in found["val"]}
    with pytest.raises(DataError, match="nothing is left for train.*split by speaker alone"):
        run([source], tmp_path / "b", SplitConfig(val=0.2, by=("speaker", "text")))
    assert not list((tmp_path / "b").glob("*.jsonl"))
    rows = [json.loads(line) for line in source.open()]
    for i, row in enumerate(rows):
        if i % 2:
            row["supervisions"][0]["text"] = f"Only {i}."
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run([source], tmp_path / "b", SplitConfig(val=0.2, by=("speaker", "text")))
    found = parts(tmp_path / "b")
    assert not {text_of(r) for r in found["train"]} & {text_of(r) for r in found["val"]}
    assert sum(report["left_out"].values()) == 20 and len(found["train"]) == 20


@pytest.mark.parametrize(
    ("made", "cfg", "line"),
    [
        ({"speakers": 1}, {"by": ("speaker",)}, "1 speaker.*split by text"),
        ({"texts": 1, "each": 3}, {}, "nothing is left to train on"),
        ({}, {"val": 0.0}, "val 0"),
        ({}, {"val": 0.6, "test": 0.4}, "leave some for training"),
    ],
)
def test_what_leaves_nothing_is_one_line(
    made: dict[str, int], cfg: dict[str, Any], line: str, tmp_path: Path
) -> None:
    source = corpus(tmp_path / "all.jsonl", **made)
    with pytest.raises((DataError, ConfigError), match=line) as found:
        run([source], tmp_path / "out", SplitConfig(**cfg))
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="validate --fix"):
        run([tmp_path / "bad.jsonl"], tmp_path / "out")
    nameless = tmp_path / "n.jsonl"
    manifest.write(nameless, [Item("u", "/x.flac", 16000, 16000, text="a")])
    with pytest.raises(DataError, match="u names no speaker"):
        run([nameless], tmp_path / "out", SplitConfig(by=("speaker",)))


def test_a_folder_of_parts_is_one_manifest_whose_rows_name_their_split(tmp_path: Path) -> None:
    run([corpus(tmp_path / "all.jsonl")], tmp_path / "lj", SplitConfig(val=0.25))
    rows = list(cuts_of(tmp_path / "lj"))
    assert [p.name for p in manifests(tmp_path / "lj")] == ["train.jsonl", "val.jsonl"]
    assert {row["custom"]["split"] for row in rows if isinstance(row, dict)} == {"train", "val"}
    with pytest.raises(DataError, match=r"holds no train.jsonl.*possible: all.jsonl"):
        manifests(tmp_path)


def test_the_command_and_a_share_on_import(tmp_path: Path, wavs: Path) -> None:
    invoke = CliRunner().invoke
    found = invoke(app, ["prepare-data", "import", "table", str(wavs), "--out",
                         str(tmp_path / "c"), "--val", "0.3", "--set", "text=words"])  # fmt: skip
    assert found.exit_code == 0, found.output
    assert [len(v) for k, v in sorted(parts(tmp_path / "c").items())] == [10, 0, 7, 3]
    found = invoke(app, ["prepare-data", "split", str(tmp_path / "c" / "all.jsonl"), "--out",
                         str(tmp_path / "s"), "--by", "speaker"])  # fmt: skip
    assert found.exit_code == 1 and "names no speaker" in found.stderr
    found = invoke(app, ["prepare-data", "split", str(tmp_path / "c" / "all.jsonl"), "--out",
                         str(tmp_path / "s"), "--val", "0.2", "--json"])  # fmt: skip
    assert json.loads(found.stdout)["splits"]["val"]["items"] == 2


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    import numpy as np

    from fo_core.io import audio

    for i in range(10):
        audio.write(tmp_path / f"{i}.wav", 0.1 * np.sin(np.arange(9000) * 0.05), 16000)
    table = tmp_path / "t.tsv"
    table.write_text("audio\twords\n" + "".join(f"{i}.wav\tWord {i}.\n" for i in range(10)))
    return table


def test_a_corpus_with_parts_of_its_own_keeps_them(tmp_path: Path) -> None:
    from data_prep.steps.split import one_part

    with pytest.raises(FoError, match="has the parts dev, test of its own"):
        one_part(tmp_path, SplitConfig(), ["dev", "test"])
