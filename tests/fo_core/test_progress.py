"""Plain lines of progress: rate, time to go, and not too many of them."""

import sys
import types

import pytest
import tqdm.auto

from fo_core.progress import Bars


@pytest.fixture
def now(monkeypatch):
    clock = [1000]
    monkeypatch.setattr(tqdm.std, "time", lambda: float(clock[0]))
    return clock


def test_rate_and_time_to_go_come_now_and_then(now, capsys):
    with Bars() as bars:
        for done in range(0, 101, 5):
            bars("speak", done, 100, "loss 2")
            now[0] += 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "speak 0/100 [00:00<?, ?it/s]"
    assert lines[1] == "speak 20/100 [00:16<01:04,  1.25it/s, loss 2]"
    assert lines[-1] == "speak 100/100 [01:20<00:00,  1.25it/s, loss 2]" and len(lines) == 6


def test_what_was_done_before_does_not_count_into_the_rate(now, capsys):
    with Bars() as bars:
        bars("speak", 90, 100)
        now[0] += 20
        bars("speak", 92, 100)
        bars("speak", 100, 100)
        bars("speak", 3, 5)  # another piece of work of that name
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "speak 92/100 [00:20<01:20, 10.00s/it]"
    assert lines[2].startswith("speak 100/100") and lines[3].startswith("speak 3/5")


def test_lines_of_two_steps_hold_nothing_but_words(now, capsys):
    with Bars() as bars:
        for done in (0, 1, 2):
            bars("listen", done, 2)
            bars("speak", done, 2)
    said = capsys.readouterr().err
    assert said.replace("\n", "").isprintable()
    assert len(said.splitlines()) == 4


def test_nothing_is_said_where_nobody_asked(capsys):
    with Bars(show=False) as bars:
        bars("speak", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_tqdms_own_bars(monkeypatch):
    made = []
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda **how: made.append(how) or tqdm.tqdm(**how))
    with Bars() as bars:
        bars("speak", 1, 2)
    assert made == [{"desc": "speak", "total": 2, "initial": 1, "smoothing": 0}]


def test_a_terminal_gets_bars_of_rich(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Bars() as bars:
        bars("speak", 1, 2, "loss 2")
        bars("speak", 2, 2)
    assert "speak" in capsys.readouterr().err
