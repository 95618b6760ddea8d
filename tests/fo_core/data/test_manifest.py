import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.io import audio


def items(folder: Path, count: int = 3) -> list[Item]:
    made = []
    for i in range(count):
        path = folder / "sounds" / f"{i}.flac"
        audio.write(path, np.full(16000 + 1600 * i, 0.1 * i), 16000)
        made.append(
            manifest.describe(
                path,
                id=f"item-{i}",
                text=f"words {i}",
                speaker="flite/slt",
                role="user",
                answer="yes",
                answers=("yes", "sure"),
                messages=({"role": "user", "content": "é"},),
                states=(0, 0, 1),
                speech_end=0.5,
                extra={"category": "x"},
            )
        )
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = items(tmp_path)
    assert manifest.write(tmp_path / "m.jsonl", made) == 3
    assert manifest.read(tmp_path / "m.jsonl") == made


def test_lhotse_reads_it_with_its_sound(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    made = items(tmp_path)
    manifest.write(tmp_path / "m.jsonl", made)
    cuts = list(lhotse.CutSet.from_jsonl(tmp_path / "m.jsonl"))
    assert [c.id for c in cuts] == [i.id for i in made]
    assert cuts[1].supervisions[0].text == "words 1"
    assert cuts[1].custom["states"] == [0, 0, 1]
    assert np.allclose(cuts[2].load_audio()[0], made[2].load_audio(16000), atol=1e-4)
    lhotse.validate(cuts[1])


def test_a_cut_that_lhotse_made_is_read(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    audio.write(tmp_path / "a.wav", np.arange(16000) / 32768, 16000)
    cut = (
        lhotse.Recording.from_file(tmp_path / "a.wav").to_cut().truncate(offset=0.25, duration=0.5)
    )
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    (item,) = manifest.read(tmp_path / "cuts.jsonl")
    assert item.duration == pytest.approx(0.5) and item.text == ""
    assert np.array_equal(audio.to_int16(item.load_audio(16000)), np.arange(4000, 12000))


def test_a_folder_that_moved_still_finds_its_sounds(tmp_path: Path) -> None:
    manifest.write(tmp_path / "old" / "m.jsonl", items(tmp_path / "old"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    for item in manifest.read(tmp_path / "new" / "m.jsonl"):
        assert len(item.load_audio(16000)) >= 16000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{cut", "line 2"),
        ('{"id": "x"}', "line 2.*not a cut with a recording"),
        ("[1]", "line 2"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    good = json.dumps(manifest.to_cut(items(tmp_path, 1)[0]))
    (tmp_path / "m.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=said):
        manifest.read(tmp_path / "m.jsonl")


def test_missing_and_empty_manifests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no manifest"):
        manifest.read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        manifest.read(tmp_path / "empty.jsonl")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    made = items(tmp_path)
    manifest.write(tmp_path / "m.jsonl", made)

    def broken():  # type: ignore[no-untyped-def]
        yield made[0]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        manifest.write(tmp_path / "m.jsonl", broken())
    assert len(manifest.read(tmp_path / "m.jsonl")) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.jsonl", "sounds"]
