"""Files that are written whole or not at all, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fo_core.io.files import draft_folder, replacing, write_json

WRITER = """
import sys, time
from pathlib import Path
from fo_core.io.files import draft_folder, replacing
folder = Path(sys.argv[1])
with replacing(folder / "settings.json") as file, draft_folder(folder / "model") as made:
    file.write_text("half")
    (made / "half").write_text("")
    print("writes", flush=True)
    time.sleep(60)
"""


def write_both(folder: Path) -> None:
    write_json(folder / "settings.json", {})
    with draft_folder(folder / "model") as made:
        os.replace(made, folder / "model")


@pytest.mark.skipif(os.name == "nt", reason="no locks on files that are written there")
def test_what_a_killed_write_left_goes_with_the_next_and_a_living_ones_stays(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "writes\n"
        drafts = sorted(path.name for path in tmp_path.iterdir())
        assert len(drafts) == 2 and all(".draft-" in name for name in drafts)
        write_both(tmp_path)
        names = ["model", "settings.json"]
        assert sorted(path.name for path in tmp_path.iterdir()) == [*drafts, *names]
        os.rmdir(tmp_path / "model")
        writer.send_signal(signal.SIGKILL)
    (tmp_path / ".settings.original.json").write_text("the user's own")
    (tmp_path / ".others.draft-0a_b1c2d.json").write_text("of another file")
    write_both(tmp_path)
    mine = [".others.draft-0a_b1c2d.json", ".settings.original.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*mine, *names]


@pytest.mark.parametrize("draft", [replacing, draft_folder])
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, draft: Callable[[Path], object]) -> None:
    with pytest.raises(KeyboardInterrupt), draft(tmp_path / "a.json"):  # type: ignore[attr-defined]
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
