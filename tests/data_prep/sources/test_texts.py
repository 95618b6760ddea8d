"""Sources that are lists: texts to speak, questions to answer, recorded questions."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import chain
from data_prep.chain import ChainConfig, run_chain
from data_prep.report import voices_of, write_report
from data_prep.runner.run import RunConfig, quiet
from data_prep.sources import texts
from data_prep.sources.texts import TextsConfig
from fo_core.config import load
from fo_core.data import manifest
from fo_core.data.dataset import make_loader
from fo_core.errors import DataError, FoError
from fo_core.io import audio

flite = pytest.mark.skipif(shutil.which("flite") is None, reason="no flite here")
ONE = RunConfig(workers=1)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open()]


def test_every_form_of_a_list_gives_the_same_texts(tmp_path: Path) -> None:
    said = ["The cat sat down.", "A dog, and a bird.", "It rains in May."]
    (tmp_path / "a.txt").write_text("\ufeff" + "\n\n".join(said) + "\n", encoding="utf-8")
    (tmp_path / "a.tsv").write_text(
        "n\twords\n" + "".join(f"{i}\t{t}\n" for i, t in enumerate(said))
    )
    quoted = "".join(f'{i},"{t}"\n' for i, t in enumerate(said))
    (tmp_path / "a.csv").write_text("n,words\n" + quoted)
    lines = [json.dumps({"words": text, "part": "val"}) for text in said]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    for name, more in (("a.txt", {}), ("a.tsv", {"id": "n"}), ("a.csv", {}),
                       ("a.jsonl", {"split": "part"})):  # fmt: skip
        cfg = TextsConfig((str(tmp_path / name),), text="words", **more)
        out = tmp_path / f"{name}.out"
        texts.run(cfg, "texts", out, ONE, quiet)
        made = rows(out / "manifest.jsonl")
        assert [row["text"] for row in made] == said, name
        assert len({row["id"] for row in made}) == 3
        assert ("extra" in made[0]) == (name == "a.jsonl")


def test_rows_without_a_text_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(
        b'{"text": "Good."}\n{"text": "..."}\n{"text": null}\nnot json\n[]\n{"text": "\xff"}\n'
        b'{"text": "Good, too.", "id": "a/b c"}\n'
    )
    report = texts.run(TextsConfig((str(path),)), "texts", tmp_path / "o", ONE, quiet)
    assert (report.items, report.made) == (7, 2) and report.rejected["no text"] == 2
    named = TextsConfig((str(path),), id="id")
    with pytest.raises(DataError, match="no column 'id'.*possible: text"):
        texts.check(named, "texts")


@pytest.mark.parametrize(
    ("name", "data", "cfg", "line"),
    [
        ("e.txt", "", {}, "e.txt holds no text"),
        ("e.tsv", "text\n", {}, "e.tsv holds no text"),
        ("e.tsv", "txt\nHello.\n", {}, "no column 'text'; possible: txt"),
        ("e.pdf", "x", {}, "is no list of texts; possible: .txt"),
        ("e.jsonl", '{"text": "x"}\n', {"answers": "a"}, "no column 'a'"),
        ("none.txt", None, {}, "no file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    name: str, data: str | None, cfg: dict[str, Any], line: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_text(data)
    settings = {"source": "texts", "texts": {"input": [str(path)], **cfg},
                "synthesize": {"readers": [{"engine": "flite", "voice": "slt"}]}}  # fmt: skip
    with pytest.raises(DataError, match=line) as found:
        run_chain(load(ChainConfig, settings), tmp_path / "out")
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()


@flite
def test_texts_are_read_by_voices_in_their_shares(tmp_path: Path) -> None:
    """There was once no way from a list of texts to a spoken corpus."""
    path = tmp_path / "t.txt"
    path.write_text("".join(f"This is number {i}.\n" for i in range(60)))
    settings = {
        "source": "texts",
        "texts": {"input": [str(path)]},
        "synthesize": {"readers": [{"engine": "flite", "voice": "slt", "share": 3},
                                   {"engine": "flite", "voice": "rms"}]},
        "label_states": {"val": 0.1},
    }  # fmt: skip
    out = tmp_path / "d"
    done = run_chain(load(ChainConfig, settings), out)
    assert list(done) == ["sample", "synthesize"]
    found = voices_of(out / "synthesize")
    assert found["flite/slt"]["items"] + found["flite/rms"]["items"] == 60
    assert 36 <= found["flite/slt"]["items"] <= 54  # 45 wanted
    train, val = (manifest.read(out / "synthesize" / f"{s}.jsonl") for s in ("train", "val"))
    assert (len(train), len(val)) == (54, 6)
    item = train[0]
    assert (item.role, item.rate, item.text[:14]) == ("", 24000, "This is number")
    assert item.extra["spoken"].startswith("This is number ") and item.extra["source"]
    assert len(list(make_loader(train, "speech", batch_size=9))) == 6
    before = (out / "synthesize" / "manifest.jsonl").read_bytes()
    again = run_chain(load(ChainConfig, settings), out)
    assert again["synthesize"]["counts"] == done["synthesize"]["counts"]
    assert (out / "synthesize" / "manifest.jsonl").read_bytes() == before
    assert "flite/rms" in write_report(out)["md"].read_text()
    wrong = load(ChainConfig, settings, ["synthesize.readers=[{engine: flite, voice: nobody}]"])
    with pytest.raises(FoError, match="flite has no voice 'nobody'"):
        run_chain(wrong, tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())


@flite
def test_questions_of_a_table_are_answered_and_carry_their_right_answers(
    llm_server: Any, tmp_path: Path
) -> None:
    path = tmp_path / "q.tsv"
    path.write_text("question\tgood\tpart\n" + "".join(
        f"What is thing {i}?\tyes|sure\t{'val' if i == 2 else 'train'}\n" for i in range(4)
    ))  # fmt: skip
    voice = [{"engine": "flite", "voice": "slt"}]
    settings = {
        "source": "questions",
        "texts": {"input": [str(path)], "text": "question", "answers": "good", "split": "part"},
        "regenerate": {"engine": "openai", "llm": "m", "base_url": llm_server.url},
        "synthesize": {"users": voice, "assistants": voice},
    }
    out = tmp_path / "d"
    assert list(run_chain(load(ChainConfig, settings), out)) == list(chain.FOLDERS)[:4]
    asked = [i for i in manifest.read(out / "user" / "train.jsonl") if i.kind == "question"]
    assert len(asked) == 3 and all(i.answers == ("yes", "sure") and i.answer for i in asked)
    assert {i.extra["split"] for i in manifest.read(out / "user" / "val.jsonl")} == {"val"}
    spoken = manifest.read(out / "synthesize" / "train.jsonl")
    assert {i.role for i in spoken} == {"assistant"} and len(spoken) == 3


@flite
def test_recorded_questions_are_answered_and_not_spoken_again(
    llm_server: Any, tmp_path: Path
) -> None:
    """Own recordings go through the same chain; half of these cannot be read."""
    cuts = []
    for i in range(6):
        file = tmp_path / "wav" / f"{i}.wav"
        audio.write(file, np.random.default_rng(i).normal(0, 0.1, 24000).astype("f4"), 16000)
        item = manifest.describe(file, id=f"rec {i}", text=f"Who is {i}?", speaker="ada")
        cuts.append(manifest.to_cut(item))
        cuts[-1]["recording"]["sources"][0]["source"] = f"wav/{i}.wav"  # relative to the manifest
        if i % 2:
            file.write_bytes(b"nothing")
    more = {"role": "assistant"}, {"turn": 2, "dialogue": "d"}, {"kind": "noise"}
    for number, custom in enumerate(more):
        cuts.append({**cuts[0], "id": f"x{number}", "custom": custom})
    source = tmp_path / "all.jsonl"
    source.write_text("".join(json.dumps(cut) + "\n" for cut in cuts) + "{\n")
    voice = [{"engine": "flite", "voice": "slt"}]
    settings = {
        "source": "corpus",
        "texts": {"input": [str(source)]},
        "regenerate": {"engine": "openai", "llm": "m", "base_url": llm_server.url},
        "synthesize": {"assistants": voice, "users": voice},
        "label_states": {"backchannel": 1.0, "hesitation": 1.0, "val": 0.0},
    }
    out = tmp_path / "d"
    done = run_chain(load(ChainConfig, settings), out)
    assert done["sample"]["made"] == 6 and sum(done["sample"]["rejected"].values()) == 4
    assert done["synthesize"]["made"] == 3 and done["synthesize"]["rejected"]
    made = manifest.read(out / "user" / "train.jsonl")
    asked = [i for i in made if i.kind == "question"]
    assert {i.text for i in asked} == {"Who is 0?", "Who is 2?", "Who is 4?"}
    assert all(i.speaker == "ada" and i.answer and "hesitation" not in i.extra for i in asked)
    others = [i for i in made if i.kind == "backchannel"]
    assert {i.speaker for i in others} == {"flite/slt"} and others[0].messages[-1]["content"]
    spoken = manifest.read(out / "synthesize" / "manifest.jsonl")
    assert {i.audio for i in spoken if i.role == "user"} <= {str(tmp_path / "wav" / f"{i}.wav")
                                                             for i in range(6)}  # fmt: skip
