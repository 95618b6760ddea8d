"""The golden tests notice mistakes of the code, whatever they allow for rounding."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mistake_is_noticed_in_every_variant(mutation, golden_dir):
    name = mutation.__name__
    script = Path(sys.modules["mutations"].__file__)
    done = subprocess.run(
        [sys.executable, script, "--golden-dir", golden_dir, name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    noticed = json.loads(done.stdout)[name]
    assert noticed.keys() == {p.parent.name for p in golden_dir.glob("*/spec.json")}
    assert all(noticed.values()), noticed
