"""``fo profile latency --against original --original DIR``: a published checkpoint in turns."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from eval.latency import paired
from eval.latency.original import MACHINE
from eval.latency.talk import LEGS
from fo_cli.main import app


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_published_checkpoint_answers_in_turns_with_the_model(any_checkpoint):
    args = ["--model", "tiny", "--no-steps", "--runs", "2", "--first-chunk", "20"]
    against = ["--against", "original", "--original", str(any_checkpoint)]
    found = CliRunner().invoke(app, ["profile", "latency", *args, *against, "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["machine"]["original"] == MACHINE
    (report,) = told["reports"]
    assert len(report["paired"]) == 5
    assert all(pair["ours"] > 0 and pair["theirs"] > 0 for pair in report["paired"])


def test_a_pair_is_compared_with_itself_and_takes_turns(monkeypatch):
    """The ratio is the median over pairs, not of medians; who begins changes every time."""
    asked = []
    times = {"ours": iter([9.0, 10.0, 20.0, 40.0]), "theirs": iter([9.0, 30.0, 40.0, 120.0])}

    def talk(model, chunks, cfg):
        asked.append(model)
        assert cfg.compat == ("none" if model == "ours" else "official")
        took = next(times[model])
        return SimpleNamespace(legs=dict.fromkeys(LEGS, took))

    monkeypatch.setattr(paired, "talk", talk)
    monkeypatch.setattr(paired, "sound", lambda model, seed: None)
    *_, pcm, total = paired.pairs("ours", "theirs", runs=3)
    assert (pcm.ours, pcm.theirs, pcm.faster) == (20.0, 40.0, 3.0)
    assert (total.ours, total.faster) == (100.0, 3.0)
    assert asked[::2] == ["ours", "theirs", "ours", "theirs"]
