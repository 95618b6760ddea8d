"""Options and folders that every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tiny models are quickest on one thread, and their numbers are then the same on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test waits for a hub that is out of reach

REPO = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        default=None,
        metavar="DIR",
        help="folder of golden variants to compare with (default: ../shared/golden/dev)",
    )


def find_shared() -> Path | None:
    """The folder with data and reference tensors that is not part of the repository."""
    shared = Path(os.environ.get("FO_SHARED", REPO.parent / "shared"))
    return shared if shared.is_dir() else None


def find_golden(config: pytest.Config) -> Path | None:
    """``--golden-dir`` (a wrong one is an error), or the default folder, or None."""
    asked = config.getoption("--golden-dir")
    if asked is not None:
        path = Path(asked).expanduser().resolve()
        if not path.is_dir():
            raise pytest.UsageError(f"--golden-dir: {path} is not a folder")
        if not list(path.glob("*/spec.json")):
            raise pytest.UsageError(f"--golden-dir: no variant (a folder with spec.json) in {path}")
        return path
    shared = find_shared()
    path = shared / "golden" / "dev" if shared else None
    return path if path and path.is_dir() else None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    shared = find_shared()
    if shared is None:
        pytest.skip("no shared data folder (set FO_SHARED)")
    return shared


@pytest.fixture(scope="session")
def golden_dir(pytestconfig: pytest.Config) -> Path:
    path = find_golden(pytestconfig)
    if path is None:
        pytest.skip("no golden tensors (use --golden-dir)")
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``golden_variant`` runs once for every variant in the golden folder."""
    if "golden_variant" not in metafunc.fixturenames:
        return
    path = find_golden(metafunc.config)
    names = sorted(p.parent.name for p in path.glob("*/spec.json")) if path else []
    params = names or [pytest.param(None, marks=pytest.mark.skip(reason="no golden tensors"))]
    metafunc.parametrize("golden_variant", params, indirect=True, scope="session", ids=str)
