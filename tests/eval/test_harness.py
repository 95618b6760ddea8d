"""The loop of all evaluations, on passes that are scripted: what stops, goes on, is skipped."""

import json

import pytest

from eval.harness import Evaluation, Pass, asked_before, run
from fo_core.errors import AudioError, CheckpointError, DataError, EngineError

ITEMS = [{"id": f"i{n}", "text": "x" * n} for n in range(1, 9)]


class Script:
    """A model pass and a judge pass; both count what they do and may fail at an item."""

    def __init__(self, fail=None, error=None, key="m1", judge="j1"):
        self.fail, self.error, self.key, self.judge = fail or {}, error, key, judge
        self.opened, self.done = [], []

    def work(self, name, field, value):
        def work(rows):
            found = []
            for row in rows:
                if (name, row["id"]) in self.fail:
                    raise self.fail[name, row["id"]]
                self.done.append((name, row["id"]))
                found.append({field: value(row)})
            return found

        def opened():
            self.opened.append(name)
            return work

        return opened

    def evaluation(self):
        said = self.work("model", "said", lambda row: row["text"].upper())
        heard = self.work("judge", "heard", lambda row: row["said"] + self.judge)
        return Evaluation(
            "scripted",
            [
                Pass("model", {"fingerprint": self.key}, said, model=True),
                Pass("judge", {"judge": self.judge}, heard),
            ],
            lambda row: {"length": (len(row["heard"]), 1), "even": (len(row["said"]) % 2, 1)},
            {"who": "script"},
        )

    def run(self, out, items=ITEMS, **how):
        return run(self.evaluation(), items, out, **how)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_and_files(tmp_path):
    found = Script().run(tmp_path)
    assert found["metrics"]["even"]["value"] == 0.5 and found["metrics"]["even"]["items"] == 8
    assert found["metrics"]["length"]["value"] == 6.5  # mean of 1..8, and "j1"
    assert found["complete"] and found["skipped"] == [] and found["about"] == {"who": "script"}
    assert json.loads((tmp_path / "overview.json").read_text()) == found
    assert lines(tmp_path / "items.jsonl")[2]["scores"] == {"length": [5, 1], "even": [1, 1]}


@pytest.mark.parametrize("stop", [("model", "i5"), ("judge", "i3"), ("model", "i1")])
def test_an_interrupted_run_that_goes_on_ends_as_one_that_was_not(tmp_path, stop):
    whole = Script().run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        Script({stop: KeyboardInterrupt()}).run(tmp_path / "cut")
    second = Script()
    assert second.run(tmp_path / "cut") == whole
    kept = int(stop[1][1]) - 1
    assert len([one for one in second.done if one[0] == stop[0]]) == 8 - kept
    assert (tmp_path / "cut/items.jsonl").read_bytes() == (
        tmp_path / "whole/items.jsonl"
    ).read_bytes()


def test_what_was_finished_before_a_stop_is_scored(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Script({("judge", "i4"): KeyboardInterrupt()}).run(tmp_path)
    found = json.loads((tmp_path / "overview.json").read_text())
    assert (found["items"], found["asked"], found["complete"]) == (3, 8, False)


def test_a_journal_line_that_a_kill_has_cut_is_done_again(tmp_path):
    whole = Script().run(tmp_path)
    journal = tmp_path / "model.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    again = Script()
    assert again.run(tmp_path) == whole
    assert again.done == [("model", "i8")]


def test_rescore_runs_no_model(tmp_path):
    Script().run(tmp_path)
    other = Script({("model", i["id"]): AssertionError("the model ran") for i in ITEMS}, judge="J")
    before = asked_before(tmp_path, "scripted")
    found = other.run(tmp_path, before["items"], rescore=True)
    assert other.opened == ["judge"] and found["metrics"]["length"]["value"] == 5.5
    other.judge = "j1"  # the first judge's rows are still there
    other.opened.clear()
    assert other.run(tmp_path, rescore=True)["metrics"]["length"]["value"] == 6.5
    assert other.opened == []


def test_rescore_of_a_part_scores_that_part(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Script({("model", "i4"): KeyboardInterrupt()}).run(tmp_path)
    found = Script().run(tmp_path, rescore=True)
    assert found["items"] == 3 and not found["complete"]


def test_rescore_of_nothing(tmp_path):
    with pytest.raises(DataError, match="nothing to rescore"):
        Script().run(tmp_path, rescore=True)
    with pytest.raises(DataError, match="no run to rescore"):
        asked_before(tmp_path / "none", "scripted")
    Script().run(tmp_path)
    with pytest.raises(DataError, match="a run of scripted, not of asr"):
        asked_before(tmp_path, "asr")


def test_results_of_two_models_do_not_mix(tmp_path):
    Script().run(tmp_path)
    with pytest.raises(DataError, match="fingerprint differ.*--no-resume"):
        Script(key="m2").run(tmp_path)
    fresh = Script(key="m2")
    fresh.run(tmp_path, resume=False)
    assert len(fresh.done) == 16


def test_an_item_that_changed_is_measured_again(tmp_path):
    Script().run(tmp_path)
    items = [*ITEMS[:-1], {"id": "i8", "text": "other"}]
    again = Script()
    again.run(tmp_path, items)
    assert again.done == [("model", "i8"), ("judge", "i8")]


def test_more_items_go_on_where_fewer_ended(tmp_path):
    Script().run(tmp_path, ITEMS[:3])
    more = Script()
    assert more.run(tmp_path)["items"] == 8
    assert ("model", "i3") not in more.done and ("model", "i4") in more.done


def test_bad_items_are_listed_and_tried_again(tmp_path):
    bad = {
        ("model", "i2"): AudioError("no sound file i2.wav"),
        ("judge", "i6"): EngineError("the judge stumbled"),
    }
    found = Script(bad).run(tmp_path, left_out={"i0": "no recording"})
    assert found["items"] == 6 and not found["complete"]
    assert found["skipped"] == [
        {"id": "i0", "why": "no recording"},
        {"id": "i2", "why": "model: no sound file i2.wav"},
        {"id": "i6", "why": "judge: the judge stumbled"},
    ]
    assert Script().run(tmp_path)["complete"]


def test_an_engine_that_is_gone_stops_the_run_and_keeps_what_there_is(tmp_path):
    gone = {("judge", f"i{n}"): EngineError("no answer", do="check the server") for n in (4, 5, 6)}
    with pytest.raises(EngineError, match="judge stopped after 3 of 8.*check the server.*goes on"):
        Script(gone).run(tmp_path)
    assert json.loads((tmp_path / "overview.json").read_text())["items"] == 3
    assert Script().run(tmp_path)["complete"]


def test_a_model_that_cannot_do_it_says_so(tmp_path):
    def cannot():
        raise CheckpointError("this model has no trained speech_decoder")

    broken = Evaluation("e", [Pass("model", {}, cannot, model=True)], lambda row: {})
    with pytest.raises(CheckpointError, match="no trained speech_decoder"):
        run(broken, ITEMS, tmp_path)


def test_nothing_to_measure(tmp_path):
    with pytest.raises(DataError, match=r"no item to measure \(1 skipped, such as a: no sound\)"):
        Script().run(tmp_path / "out", [], left_out={"a": "no sound"})
    assert not (tmp_path / "out").exists()
    bad = {("model", i["id"]): AudioError("no sound") for i in ITEMS}
    with pytest.raises(DataError, match="not one of 8 items"):
        Script(bad).run(tmp_path)


def test_two_items_of_one_name(tmp_path):
    found = Script().run(tmp_path, [*ITEMS, {"id": "i1", "text": "twin"}])
    assert found["items"] == 8 and found["skipped"][0]["id"] == "i1 (again)"
