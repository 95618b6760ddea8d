"""The runner: same bytes however it is run, nothing lost, bad rows listed, clear ends."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_prep.runner.journal import Journal, read_outcomes
from data_prep.runner.run import Made, Reject, RunConfig, StopRun, run_step
from fo_core.errors import DataError, FoError
from fo_core.io.files import only_run

WORK = """
import os, time
from data_prep.runner.run import Made, Reject

class Squares:
    def __init__(self, slow=0.0):
        self.slow = slow

    def __call__(self, row):
        time.sleep(self.slow)
        n = row["n"]
        if n % 10 == 3:
            raise Reject(f"three (n = {n})", n=n)
        if n % 10 == 4:
            return row["no such field"]
        if row.get("deadly"):
            os.kill(os.getpid(), 9)
        parts = [{"id": f"{row['id']}-half", "reason": "half"}] if n % 10 == 5 else []
        return Made([{"id": row["id"], "sq": n * n}] * (1 + n % 2), parts, {"n": n})

class NoStart:
    def start(self):
        from fo_core.errors import EngineError
        raise EngineError("no such voice", do="name another")

    def __call__(self, row):
        raise AssertionError
"""
ROWS = [{"id": f"r{i:03d}", "n": i, "text": "ü"} for i in range(60)]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that worker processes find too."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "work_of_test.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    sys.modules.pop("work_of_test", None)
    import work_of_test

    return work_of_test


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "twice": 2 * row["n"]}


def files(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("manifest.jsonl", "rejects.jsonl")}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_and_two_processes_write_the_same_in_the_input_s_order(
    work: Any, tmp_path: Path
) -> None:
    one = run_step("sq", ROWS, work.Squares(), tmp_path / "1", how=RunConfig(workers=1))
    two = run_step("sq", ROWS, work.Squares(), tmp_path / "2", how=RunConfig(workers=2))
    assert files(tmp_path / "1") == files(tmp_path / "2")
    made = lines(tmp_path / "1" / "manifest.jsonl")
    assert [row["id"] for row in made] == sorted(row["id"] for row in made)
    rejects = lines(tmp_path / "1" / "rejects.jsonl")
    assert rejects[0] == {"id": "r003", "step": "sq", "reason": "three (n = 3)", "n": 3}
    assert one.rejected == two.rejected == {"three": 6, "KeyError": 6, "half": 6}
    [said] = {row["reason"] for row in rejects if row["id"] in ("r004", "r054")}
    assert re.fullmatch(r"KeyError: 'no such field' \(work_of_test\.py:\d+\)", said)
    assert (one.items, one.made, one.rows) == (60, 48, len(made))
    assert one.counts["n"] == sum(i for i in range(60) if i % 10 not in (3, 4))


def test_a_row_that_kills_its_worker_costs_only_itself(work: Any, tmp_path: Path) -> None:
    rows = [{**row, "deadly": row["n"] in (20, 41)} for row in ROWS]
    report = run_step("sq", rows, work.Squares(), tmp_path, how=RunConfig(workers=2))
    assert report.rejected["a worker process died on it"] == 2 and report.made == 46


def test_rows_of_one_batch_are_told_at_once(tmp_path: Path) -> None:
    """Told one by one, the first of a batch of minutes gave "172,415 s to go"."""
    told: list[tuple[str, int, int]] = []
    run_step("x", ROWS, lambda rows: [double(row) for row in rows], tmp_path, batch=25,
             how=RunConfig(workers=1), progress=lambda *said: told.append(said))  # fmt: skip
    assert told == [("x", done, 60) for done in (0, 25, 50, 60)]


def test_what_is_done_is_kept_and_what_changed_is_done_again(tmp_path: Path) -> None:
    called: list[str] = []

    def work(row: dict[str, Any]) -> dict[str, Any]:
        called.append(row["id"])
        return double(row)

    how = RunConfig(workers=1, limit=10)
    run_step("x", ROWS, work, tmp_path, how=how)
    assert len(called) == 10
    run_step("x", ROWS, work, tmp_path, how=RunConfig(workers=1))
    assert len(called) == 60
    other = [*ROWS[:30], {**ROWS[30], "n": 99}, *ROWS[31:]]
    run_step("x", other, work, tmp_path, how=RunConfig(workers=1))
    assert called[60:] == ["r030"]
    assert lines(tmp_path / "manifest.jsonl")[30]["twice"] == 198
    run_step("x", ROWS, work, tmp_path, how=RunConfig(workers=1), settings={"a": 1})
    assert len(called) == 121


def test_a_journal_that_was_cut_or_spoilt_only_costs_its_lines(tmp_path: Path) -> None:
    run_step("x", ROWS, double, tmp_path, how=RunConfig(workers=1))
    whole, path = files(tmp_path), tmp_path / "journal.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    kept[3] = b"\xff\xfe rubbish\n"
    kept[4] = b"[1, 2]\n"
    kept[5] = b'{"key": 5, "wall": 1}\n'
    path.write_bytes(b"".join(kept[:20])[:-25])
    called: list[str] = []

    def work(row: dict[str, Any]) -> dict[str, Any]:
        called.append(row["id"])
        return double(row)

    run_step("x", ROWS, work, tmp_path, how=RunConfig(workers=1))
    assert files(tmp_path) == whole
    assert called[:4] == ["r003", "r004", "r005", "r019"] and len(called) == 4 + 40


def test_rows_that_are_none_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    bad = ["{cut", "7", "[]", "{}", '{"id": 3}', '{"id": ""}', '{"id": "a", "n": 1}', "null",
           '{"id": "a", "n": 2}', "[" * 100_000]  # fmt: skip
    source.write_bytes(("\n".join(bad) + "\n\n").encode() + b'{"id": "\xff", "n": 4}\n')
    report = run_step("x", source, double, tmp_path / "out", how=RunConfig(workers=1))
    assert report.made == 2 and sum(report.rejected.values()) == 9
    names = [row["id"] for row in lines(tmp_path / "out" / "rejects.jsonl")]
    assert names == [f"line {i}" for i in (1, 2, 3, 4, 5, 6, 8)] + ["a", "line 10"]


def test_clear_ends(work: Any, tmp_path: Path) -> None:
    with pytest.raises(StopRun, match="no such voice; do: name another"):
        run_step("x", ROWS, work.NoStart(), tmp_path / "a", how=RunConfig(workers=2))
    with pytest.raises(DataError, match="no manifest"):
        run_step("x", tmp_path / "none.jsonl", double, tmp_path / "b")

    def refuse(row: dict[str, Any]) -> Made:
        raise Reject("not this one")

    with pytest.raises(DataError, match="none of 60 items; r000: not this one"):
        run_step("x", ROWS, refuse, tmp_path / "c", how=RunConfig(workers=1))
    with only_run(tmp_path / "d"), pytest.raises(FoError, match="another run works in"):
        run_step("x", ROWS, double, tmp_path / "d")
    assert run_step("x", [], double, tmp_path / "e").items == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        run_step("x", ROWS, double, tmp_path / "file" / "out")


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    def full(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 30:
            try:
                raise OSError(errno.ENOSPC, "No space left on device", "a.flac")
            except OSError as error:
                raise DataError("cannot write a.flac") from error
        return double(row)

    with pytest.raises(StopRun, match="No space left.*all that was done is kept"):
        run_step("x", ROWS, full, tmp_path, how=RunConfig(workers=1))
    assert len(list(read_outcomes(tmp_path / "journal.jsonl"))) == 30
    called: list[str] = []
    report = run_step("x", ROWS, lambda row: called.append(row["id"]) or double(row), tmp_path,
                      how=RunConfig(workers=1))  # fmt: skip
    assert len(called) == 30 and report.made == 60


def test_what_a_kill_left_half_written_goes_and_the_rest_stays(tmp_path: Path) -> None:
    """A kill inside fo_core.io.files.replacing leaves its temporary file; the lock stays a file."""
    (tmp_path / ".lock").write_text("")
    (tmp_path / "speech" / "ab").mkdir(parents=True)
    half = [".manifest.draft-0a_b1c2d.jsonl", ".report.draft-xyzxyzxy.json"]
    kept = ["speech/ab/ab12.flac", "speech/.hidden.flac", ".mine", ".mine.json", "notes.jsonl"]
    for name in (*half, *kept):
        (tmp_path / name).write_text("half")
    run_step("x", ROWS, double, tmp_path, how=RunConfig(workers=1))
    assert not [name for name in half if (tmp_path / name).exists()]
    assert all((tmp_path / name).read_text() == "half" for name in kept)


def test_a_journal_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that comes out short leaves half a line; the next run mends it."""
    done = Journal(tmp_path / "journal.jsonl")
    with done:
        done.add(b"1" * 16, {"rows": []})
        file = done._file

        class Full:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def write(self, data: bytes) -> int:
                return file.write(data[:7])  # type: ignore[union-attr]

        monkeypatch.setattr(done, "_file", Full())
        with pytest.raises(DataError, match="No space left on device; all that was done is kept"):
            done.add(b"2" * 16, {"rows": []})
    with Journal(tmp_path / "journal.jsonl") as again:
        assert b"1" * 16 in again and b"2" * 16 not in again
        again.add(b"3" * 16, {"rows": [1]})
        assert again.get(b"3" * 16)["rows"] == [1]


def test_killed_at_any_point_it_goes_on_to_the_same_bytes(work: Any, tmp_path: Path) -> None:
    """kill -9 of the whole run, four times; a lost or doubled row would change the bytes."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run_step("sq", source, work.Squares(), tmp_path / "whole", how=RunConfig(workers=1))
    code = (
        "from pathlib import Path; from work_of_test import Squares\n"
        "from data_prep.runner.run import *\n"
        f"if __name__ == '__main__': run_step('sq', Path({str(source)!r}), Squares(0.02),"
        f" Path({str(tmp_path / 'killed')!r}), how=RunConfig(workers=2))"
    )
    (tmp_path / "go.py").write_text(code)
    paths = os.pathsep.join([str(tmp_path / "lib"), *filter(None, sys.path)])
    path = tmp_path / "killed" / "journal.jsonl"
    held = 0
    for more in (1, 9, 17, 26):
        environment = {**os.environ, "PYTHONPATH": paths}
        command = [sys.executable, str(tmp_path / "go.py")]
        child = subprocess.Popen(command, env=environment, start_new_session=True)
        while child.poll() is None:
            if path.exists() and path.read_bytes().count(b"\n") >= more:
                break
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        held = max(held, path.read_bytes().count(b"\n"))
    assert not (tmp_path / "killed" / "manifest.jsonl").exists() and held < 60
    run_step("sq", source, work.Squares(), tmp_path / "killed", how=RunConfig(workers=2))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_writes_the_same(work: Any, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    try:
        rows = [{**row, "deadly": row["n"] == 20} for row in ROWS]
        run_step("sq", rows, work.Squares(), tmp_path / "1", how=RunConfig(workers=2))
        run_step("sq", rows, work.Squares(), tmp_path / "2", how=RunConfig(2, "ray"))
    finally:
        ray.shutdown()
    assert files(tmp_path / "1") == files(tmp_path / "2")
