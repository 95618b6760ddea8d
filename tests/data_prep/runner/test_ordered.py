import os
import time

from data_prep.runner.ordered import ordered_map
from data_prep.runner.run import RunConfig


def work(what, rows):
    """Module-level, as processes need it."""
    made = []
    for row in rows:
        if row == "kill":
            os._exit(9)
        time.sleep(0.01 * (len(row) % 3))  # later rows are done first
        made.append(what + row)
    return made


def died(row):
    return f"{row} died"


ROWS = [f"r{'x' * (i % 5)}{i}" for i in range(50)]


def test_results_are_in_order_whatever_the_workers():
    one = list(ordered_map(work, "a", ROWS, RunConfig(workers=1), died, batch=3))
    two = list(ordered_map(work, "a", iter(ROWS), RunConfig(workers=2), died, batch=3))
    assert one == two == ["a" + row for row in ROWS]
    assert list(ordered_map(work, "a", [], RunConfig(workers=1), died)) == []


def test_a_row_that_kills_its_process_costs_only_itself():
    rows = [*ROWS[:7], "kill", *ROWS[7:20]]
    found = list(ordered_map(work, "", rows, RunConfig(workers=2), died, batch=4))
    assert found == [*ROWS[:7], "kill died", *ROWS[7:20]]
