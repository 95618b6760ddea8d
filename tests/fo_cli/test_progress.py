"""Plain lines of progress: rate, time to go, and not too many of them."""

import pytest

from fo_cli import progress, render


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(render, "note", lines.append)
    monkeypatch.setattr(render, "is_terminal", lambda: False)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(now[0]))
    now = [1000]
    return lines, now


def test_rate_and_time_to_go_come_now_and_then(said):
    lines, now = said
    with progress.Bars() as bars:
        for done in range(0, 101, 5):
            bars("speak", done, 100)
            now[0] += 4
    assert lines[0] == "speak 0/100"
    assert lines[1] == "speak 20/100, 1.25/s, 64 s to go"
    assert lines[-1] == "speak 100/100, 1.25/s" and len(lines) == 6


def test_what_was_done_before_does_not_count_into_the_rate(said):
    lines, now = said
    with progress.Bars() as bars:
        bars("speak", 90, 100)
        now[0] += 20
        bars("speak", 92, 100)
    assert lines[-1] == "speak 92/100, 0.1/s, 80 s to go"
