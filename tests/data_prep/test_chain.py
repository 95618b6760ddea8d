"""The whole chain on a few dialogues: an endpoint answers, flite speaks, a tiny codec encodes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep.chain import FOLDERS, ChainConfig, run_chain
from data_prep.report import write_report
from data_prep.runner.run import RunConfig, quiet
from data_prep.steps import encode_turns, label_turns
from data_prep.steps.encode_turns import EncodeConfig
from data_prep.steps.label_turns import TurnStatesConfig
from fo_core.config import load, read_yaml, to_dict
from fo_core.data import manifest
from fo_core.data.dataset import make_loader
from fo_core.errors import ConfigError, DataError, FoError
from fo_core.io.files import only_run, write_json

REPO = Path(__file__).resolve().parents[2]
TINY = {
    "llm": {"spec": "tiny", "dtype": "float32"},
    "codec": {"type": "istft", "encoder_dim": 16, "encoder_blocks": 1, "token_dim": 16,
              "token_blocks": 1, "frame_dim": 16, "frame_blocks": 1,
              "quantizer": {"dim": 8, "codes": 64},
              "global_quantizer": {"dim": 8, "codes": 16, "groups": 2}},
}  # fmt: skip
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="no flite here")


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from fo_core.io.checkpoint import save_tensors
    from fo_core.models import freeze_omni
    from fo_core.models.codec.istft_codec import IstftCodec

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    made = load(freeze_omni.FreezeOmniConfig, TINY)
    write_json(folder / "config.json", to_dict(made))
    save_tensors(folder / "codec.safetensors", IstftCodec(made.codec).state_dict(), {})  # type: ignore[arg-type]
    return folder


@pytest.fixture
def moss(tmp_path: Path) -> Path:
    path = tmp_path / "moss.jsonl"
    with path.open("w") as file:
        for i in range(7):
            turns = [{"human": f"What is thing number {i} of kind {k}?", "assistant": "No."}
                     for k in range(1 + i % 3)]  # fmt: skip
            file.write(json.dumps({"conversation_id": str(i), "conversation": turns}) + "\n")
        file.write("{cut short\n")
    return path


@pytest.fixture
def settings(moss: Path, codec: Path, llm_server: Any, tmp_path: Path) -> dict[str, Any]:
    voice = {"engine": "flite", "voice": "slt"}
    return {
        "source": "moss",
        "sample": {"input": [str(moss)]},
        "regenerate": {"engine": "openai", "llm": "m", "base_url": llm_server.url, "dialogues": 2},
        "synthesize": {"users": [voice, {**voice, "voice": "rms"}], "assistants": [voice]},
        "label_states": {"val": 0.2, "backchannel": 0.5, "hesitation": 0.5},
        "encode": {"model": str(codec), "check": 0, "group": 5},
        "run": {"workers": 2},
    }


def files(out: Path) -> dict[str, bytes]:
    """Everything that the steps leave in their folders, hidden files too; but journals."""
    kept = [p for p in out.glob("*/**/*") if p.is_file() and p.suffix in (".jsonl", ".flac")]
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in kept
        if p.name != "journal.jsonl" and p.parent.name != "answers"
    }


@flite
def test_the_chain_makes_what_training_reads_and_a_report(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "data"
    with pytest.raises(DataError, match="no step has run"):
        write_report(out)
    reports = run_chain(load(ChainConfig, settings), out)
    assert list(reports) == list(FOLDERS)
    user, answers = (manifest.read(out / side / "train.jsonl") for side in ("user", "assistant"))
    asked = [i for i in user if i.kind == "question"]
    assert len(asked) == len(answers) and {i.dialogue for i in asked} == {
        i.dialogue for i in answers
    }
    held = {i.dialogue for i in manifest.read(out / "user" / "val.jsonl")}
    assert len(held) == 1 and held == {
        i.dialogue for i in manifest.read(out / "assistant" / "val.jsonl")
    }
    for item in answers:
        assert len(item.speech_tokens) == -(-round(item.duration * 24000) // 600)
        assert item.messages[-1]["role"] == "user" and item.extra["codec"]
    for items, task in ((user, "speech"), (user, "states"), (answers, "tts"), (answers, "codec")):
        more = {"crop_samples": 6000} if task == "codec" else {}
        assert len(list(make_loader(items, task, batch_size=4, **more))) > 1
    before = files(out)
    again = run_chain(load(ChainConfig, settings), out)
    assert files(out) == before and again["encode"]["counts"] == reports["encode"]["counts"]
    _check_report(out)


def _check_report(out: Path) -> None:
    killed = out / ".rejects.draft-0a_b1c2d.jsonl"  # a report that was being written
    killed.write_text("half")
    paths = write_report(out)
    assert not killed.exists()
    with only_run(out), pytest.raises(FoError, match="another run works in"):
        write_report(out)
    page = paths["html"].read_text()
    for word in ("Steps", "Dropped, by rule", "Voices", "flite/rms", "state 2", "CC BY-NC 4.0",
                 "Ten turns to listen to", "Histograms of lengths", "not JSON"):  # fmt: skip
        assert word in page, word
    assert page.count("<audio") == 20 and "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<h2") == page.count("</section>")
    assert "| regenerate |" in paths["md"].read_text()
    listed = [json.loads(line) for line in (out / "rejects.jsonl").open()]
    assert any(row["step"] == "sample" and "not JSON" in row["reason"] for row in listed)
    data = json.loads(paths["json"].read_text())
    assert data["turns"]["user"] == data["steps"]["synthesize"]["rows"] // 2
    answer = manifest.read(out / "assistant" / "train.jsonl")[0]
    (out / "assistant" / "decoded").mkdir()
    shutil.copy(answer.audio, out / "assistant" / "decoded" / f"{answer.id}.flac")
    page = write_report(out)["html"].read_text()
    assert "Decoded from speech tokens" in page and page.count("<audio") == 22
    shutil.rmtree(out / "user" / "recordings")
    assert "no sound file" in write_report(out)["html"].read_text()


def _noted(out: Path) -> int:
    """Bytes of all journals: how far a run is, however fast this machine is now."""
    return sum(path.stat().st_size for path in out.rglob("journal.jsonl"))


def _kills(settings: dict[str, Any], tmp_path: Path, points: list[float]) -> int:
    """Run whole, alone; then two processes, killed at each share of what a whole run notes; go on
    alone; compare all files."""
    write_json(tmp_path / "run.yaml", settings)
    out = tmp_path / "data"
    command = [sys.executable, "-c", "from fo_cli.main import app; app()", "prepare-data", "all",
               "--config", str(tmp_path / "run.yaml"), "--out", str(out)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    here = load(ChainConfig, {**settings, "run": {"workers": 1}})  # and in this process
    run_chain(here, out)
    whole = _noted(out)
    out.rename(tmp_path / "ref")
    killed = 0
    for point in points:
        child = subprocess.Popen(
            command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while child.poll() is None and _noted(out) < point * whole:
            time.sleep(0.05)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            killed += 1
    run_chain(here, out)
    assert files(out) == files(tmp_path / "ref")
    return killed


@flite
def test_killed_in_the_middle_all_goes_on_to_the_same_files(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert _kills(settings, tmp_path, [0.6]) == 1


def of_source(source: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a run of another source."""
    texts: dict[str, Any] = {}
    if source in ("texts", "questions"):
        path = folder / "list.txt"
        path.write_text("".join(f"Where is thing number {i}?\n" for i in range(16)))
        texts = {"input": [str(path)]}
    if source == "corpus":
        texts = {"input": [str(corpus(folder / "own", 12, speaker="ada"))]}
    domain = {"recordings": 12, "val": 2, "max_a": 1, "max_b": 1, "categories": ["capital"]}
    voices = {**settings["synthesize"], "readers": settings["synthesize"]["users"]}
    return {**settings, "source": source, "texts": texts, "domain": domain, "synthesize": voices}


SOURCED = ["moss", "domain", "questions", "corpus", "texts"]


@flite
@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCED)
def test_killed_at_five_random_points_all_goes_on_to_the_same_files(
    source: str, settings: dict[str, Any], llm_server: Any, tmp_path: Path
) -> None:
    llm_server.slow = 0.2
    draw = random.Random(time.time_ns())
    points = sorted(draw.uniform(0.01, 0.9) for _ in range(5))
    assert _kills(of_source(source, settings, tmp_path), tmp_path, points) >= 3


@flite
@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCED)
def test_a_ray_cluster_of_two_workers_makes_the_same(
    source: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    out, settings = tmp_path / "data", of_source(source, settings, tmp_path)
    run_chain(load(ChainConfig, settings), out)
    out.rename(tmp_path / "local")
    try:
        run_chain(load(ChainConfig, settings, ["run.engine=ray"]), out)
    finally:
        ray.shutdown()
    assert files(out) == files(tmp_path / "local")


def test_steps_in_the_wrong_order_and_unknown_ones(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    cfg = load(ChainConfig, settings)
    with pytest.raises(DataError, match="run regenerate before synthesize"):
        run_chain(cfg, tmp_path / "data", ("synthesize",))
    with pytest.raises(DataError, match="unknown step 'speak'"):
        run_chain(cfg, tmp_path / "data", ("speak",))
    with pytest.raises(FoError, match="no file or folder /no/such"):
        run_chain(load(ChainConfig, settings, ["sample.input=[/no/such]"]), tmp_path / "data")


def test_a_run_that_fails_before_it_did_anything_leaves_the_settings_of_the_one_before(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """A mistyped voice was once what the next run without --config began with."""
    out = tmp_path / "data"
    path = out / "settings.json"
    bad = load(ChainConfig, settings, ["sample.input=[/no/such]"])
    with pytest.raises(FoError, match="no file or folder"):
        run_chain(bad, out)
    assert not any(out.iterdir())
    cfg = load(ChainConfig, settings, ["run.limit=2"])
    run_chain(cfg, out, ("sample",))
    before = path.read_text()
    assert json.loads(before)["run"] == {"workers": 2, "engine": "local", "limit": 0}
    wrong = load(ChainConfig, settings, ["synthesize.users=[{engine: flite, voice: nobody}]"])
    with pytest.raises(FoError, match="nobody"):
        run_chain(wrong, out, ("synthesize",), source=out / "sample" / "manifest.jsonl")
    assert path.read_text() == before
    down = load(ChainConfig, settings, ["sample.number=3", "regenerate.engine=opnai"])
    with pytest.raises(FoError, match="opnai"):
        run_chain(down, out)
    assert json.loads(path.read_text())["sample"]["number"] == 3  # that much was done


@flite
def test_what_is_wrong_is_said_before_hours_of_work(
    settings: dict[str, Any], llm_server: Any, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    voice = ["synthesize.assistants=[{engine: flite, voice: nobody}]"]
    with pytest.raises(FoError, match="flite has no voice 'nobody'"):
        run_chain(load(ChainConfig, settings, voice), out)
    assert (out / "sample" / "manifest.jsonl").is_file() and not llm_server.asked
    with pytest.raises(ConfigError, match="/no/such holds no trained codec"):
        run_chain(load(ChainConfig, settings, ["encode.model=/no/such"]), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="synthesize found nothing to do in .*empty.jsonl"):
        run_chain(
            load(ChainConfig, settings), out, ("synthesize",), source=tmp_path / "empty.jsonl"
        )


def corpus(folder: Path, number: int = 8, **known: Any) -> Path:
    """A manifest of sounds with texts and nobody's role, as ``import`` makes it."""
    import numpy as np

    from fo_core.io import audio

    items = []
    for i in range(number):
        path = folder / "wav" / f"{i}.flac"
        audio.write(path, 0.1 * np.sin(np.arange(9000 + 300 * i) * 0.05), 22050)
        items.append(manifest.describe(path, id=f"u{i}", text=f"Text {i}.", **known))
    manifest.write(folder / "all.jsonl", items)
    return folder / "all.jsonl"


def test_encode_takes_any_manifest_with_texts_and_sounds(codec: Path, tmp_path: Path) -> None:
    """D1: an imported corpus once gave 0 of 0, so own recordings could not reach output-2."""
    source, how = corpus(tmp_path), RunConfig(workers=1)
    cfg = EncodeConfig(str(codec), check=0, val=0.2)
    report = encode_turns.run(cfg, source, tmp_path / "a", how, quiet)
    assert report.counts["turns"] == 8
    train, val = (manifest.read(tmp_path / "a" / f"{s}.jsonl") for s in ("train", "val"))
    assert (len(train), len(val)) == (6, 2) and not {i.text for i in train} & {i.text for i in val}
    assert len(list(make_loader(train, "tts", batch_size=3))) == 2
    split = tmp_path / "split"
    split.mkdir()
    lines = source.read_text().splitlines(keepends=True)
    (split / "train.jsonl").write_text("".join(lines[:5]))
    (split / "val.jsonl").write_text("".join(lines[5:]))
    encode_turns.run(cfg, split, tmp_path / "b", how, quiet)  # parts stay as they are
    assert [len(manifest.read(tmp_path / "b" / f"{s}.jsonl")) for s in ("train", "val")] == [5, 3]
    users = corpus(tmp_path / "u", 3, role="user")
    assert encode_turns.run(cfg, users, tmp_path / "c", how, quiet).rows == 3
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(users.read_text() + corpus(tmp_path / "m", 2, role="assistant").read_text()
                     .replace('"u', '"a'))  # fmt: skip
    assert encode_turns.run(cfg, mixed, tmp_path / "d", how, quiet).rows == 2
    doubled = [json.loads(line) for line in lines] + [
        {**json.loads(line), "id": f"again{i}"} for i, line in enumerate(lines)
    ]
    both = tmp_path / "both.jsonl"
    both.write_text("".join(json.dumps(row) + "\n" for row in doubled))
    once = EncodeConfig(str(codec), check=0, once=True)
    assert encode_turns.run(once, both, tmp_path / "e", how, quiet).rows == 8


def test_nothing_to_encode_or_to_label_says_why(codec: Path, tmp_path: Path) -> None:
    """D1 and its sibling: an error that names the reason, not 0 of 0."""
    how, cfg = RunConfig(workers=1), EncodeConfig(str(codec), check=0)
    silent = corpus(tmp_path)
    rows = [json.loads(line) for line in silent.open()]
    for row in rows:
        row["supervisions"][0]["text"] = ""
    silent.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="could use none of .* no text"):
        encode_turns.run(cfg, silent, tmp_path / "a", how, quiet)
    (tmp_path / "d.jsonl").write_text('{"id": "d", "turns": []}\n')
    with pytest.raises(DataError, match="holds nothing to encode: 1 lines are no cuts"):
        encode_turns.run(cfg, tmp_path / "d.jsonl", tmp_path / "b", how, quiet)
    answers = corpus(tmp_path / "y", role="assistant")
    with pytest.raises(DataError, match="holds no turn of a user"):
        label_turns.run(TurnStatesConfig(), answers, tmp_path / "c", how, quiet)
    labelled = label_turns.run(
        TurnStatesConfig(noise=0.0), corpus(tmp_path / "z"), tmp_path / "d", how, quiet
    )
    assert labelled.rows >= 8


@pytest.mark.parametrize("name", ["moss-smol", "paper"])
def test_shipped_configs_load(name: str) -> None:
    cfg = load(ChainConfig, read_yaml(REPO / "fo_core" / "conf" / "data" / f"{name}.yaml"))
    assert cfg.sample.number in (300, 60_000)
    spoken = {s.language for s in cfg.synthesize.users}
    assert set(cfg.sample.languages) == spoken == {s.language for s in cfg.synthesize.assistants}


class Ears:
    """A recogniser that hears what it is told to."""

    def __init__(self, heard: Iterator[str]) -> None:
        self.heard = heard

    def transcribe(self, wave: object) -> str:
        return next(self.heard)


def test_encode_says_what_is_missing_and_lists_bad_sounds(
    codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from fo_core.io import audio

    rows = []
    for i in range(9):
        path = tmp_path / f"{i}.flac"
        audio.write(path, 0.1 * np.sin(np.arange(9000 + 300 * i) * 0.05), 24000)
        item = manifest.describe(
            path, id=f"d{i}-01", role="assistant", dialogue=f"d{i}", turn=1, text="Well."
        )
        rows.append(manifest.to_cut(item))
    (tmp_path / "0.flac").unlink()
    (tmp_path / "1.flac").write_bytes(b"")
    (tmp_path / "2.flac").write_bytes(b"RIFF")
    rows[3] = {"id": "d3-01"}
    lines = [json.dumps(row) for row in rows] + ["{", '"text"', "{}"]
    source, how = tmp_path / "in.jsonl", RunConfig(workers=1)
    source.write_text("\n".join(lines) + "\n")
    cfg = EncodeConfig(str(codec), check=0, group=4)
    report = encode_turns.run(cfg, source, tmp_path / "a", how, quiet)
    assert report.counts["turns"] == 5 and report.rows == 5
    names = [json.loads(x)["id"] for x in (tmp_path / "a" / "rejects.jsonl").open()]
    assert names[:4] == [f"d{i}-01" for i in range(4)] and len(names) == 7
    found = encode_turns.check(tmp_path / "a" / "manifest.jsonl", EncodeConfig(str(codec), check=3))
    assert found["items"] == 3 and found["mel_distance"] > 0 and "cer_decoded" not in found
    assert len(list((tmp_path / "a" / "decoded").glob("*.flac"))) == 3
    heard = iter(["what it is", "xxxx xx xx"] * 3)
    monkeypatch.setattr(encode_turns.Judge, "_load", lambda *_: Ears(heard))
    for row in (made := [json.loads(x) for x in (tmp_path / "a" / "manifest.jsonl").open()]):
        row["custom"]["spoken"] = "What it is."
    (tmp_path / "a" / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made))
    ears = EncodeConfig(str(codec), check=3, asr_engine="faster-whisper")
    found = encode_turns.check(tmp_path / "a" / "manifest.jsonl", ears)
    assert found["cer_of_the_sounds"] == 0 and found["cer_decoded"] == 1
    with pytest.raises(FoError, match="faster-wisper"):
        encode_turns.ready(EncodeConfig(str(codec), asr_engine="faster-wisper"))
    with pytest.raises(DataError, match="is not what was encoded"):  # the codec is not trained
        encode_turns.run(EncodeConfig(str(codec), check=5), source, tmp_path / "b", how, quiet)
    with pytest.raises(ConfigError, match="--model"):
        encode_turns.run(EncodeConfig(), source, tmp_path / "c", how, quiet)
    with pytest.raises(ConfigError, match="no trained codec"):
        encode_turns.run(EncodeConfig(str(tmp_path)), source, tmp_path / "c", how, quiet)
