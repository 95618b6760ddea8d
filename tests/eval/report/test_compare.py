import json

import pytest

from eval.harness import Evaluation, Pass, run
from eval.report.compare import compare, table, write
from fo_core.errors import DataError


def make(folder, hits, model="m", first=0):
    def work(rows):
        return [{"hit": hits[row["id"]]} for row in rows]

    steps = [Pass("model", {"fingerprint": model}, lambda: work, model=True)]
    about = {"model": {"fingerprint": model}, "seed": 0}
    items = [{"id": name} for name in list(hits)[first:]]
    run(Evaluation("e", steps, lambda r: {"accuracy": (r["hit"], 1)}, about), items, folder)
    return folder


def test_paired_differences_on_shared_items(tmp_path):
    a = {f"q{n}": int(n < 50) for n in range(100)}
    b = a | {f"q{n}": 1 for n in range(50, 70)}
    found = compare(make(tmp_path / "a", a), make(tmp_path / "b", b, "m2", first=10))
    score = found["metrics"]["accuracy"]
    assert found["shared"] == 90 and score["items"] == 90
    assert score["a"] == pytest.approx(40 / 90) and score["b"] == pytest.approx(60 / 90)
    assert score["difference"] == pytest.approx(20 / 90) and score["low"] > 0
    assert found["differ"] == [{"what": "model.fingerprint", "a": "m", "b": "m2"}]
    assert table(found).rows[0][3].endswith("*")
    write(found, tmp_path / "out")
    assert json.loads((tmp_path / "out/compare.json").read_text()) == found
    assert "| accuracy |" in (tmp_path / "out/compare.md").read_text()


def test_a_run_and_itself_do_not_differ(tmp_path):
    a = make(tmp_path / "a", {f"q{n}": n % 2 for n in range(20)})
    score = compare(a, a)["metrics"]["accuracy"]
    assert (score["difference"], score["low"], score["high"]) == (0, 0, 0)
    assert not table(compare(a, a)).rows[0][3].endswith("*")


def test_runs_that_have_nothing_in_common(tmp_path):
    a, b = make(tmp_path / "a", {"x": 1}), make(tmp_path / "b", {"y": 1})
    with pytest.raises(DataError, match="no item in common"):
        compare(a, b)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no results"):
        compare(a, tmp_path / "c")
