"""Stock clients on loopback: openai-agents, LiveKit's and Pipecat's Realtime services.

Each goes through two turns with a tool and an interruption in a process of its own, run by the
interpreter of ``.venv-clients`` (``make setup-clients``) or of ``FO_CLIENTS_PYTHON``: they
pin versions that this project has otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fo_core.dialogue.segmenter import SegmenterConfig

ROOT = Path(__file__).parents[3]
PACKAGES = {"agents": "agents", "livekit": "livekit.plugins.openai", "pipecat": "pipecat"}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def interpreter(package: str) -> str:
    """A Python that has a package; skips where none has, but not for `make clients`."""
    found = [os.environ.get("FO_CLIENTS_PYTHON"), str(ROOT / ".venv-clients/bin/python")]
    for python in [*found, sys.executable]:
        if python and Path(python).is_file():
            probe = subprocess.run([python, "-c", f"import {package}"], capture_output=True)
            if probe.returncode == 0:
                return python
    missing = f"no interpreter has {package} (make setup-clients)"
    (pytest.fail if os.environ.get("FO_CLIENTS") == "wanted" else pytest.skip)(missing)


@pytest.mark.parametrize("client", PACKAGES)
def test_two_turns_with_a_tool_and_an_interruption(
    client: str, serve: Any, mumbler: Any, scripted: Any
) -> None:
    python = interpreter(PACKAGES[client])
    more = "The sun has been here all day. " * 8
    scripted("Let me look. " + CALL, "It is sunny in Rome.", more, "Welcome, good bye.")
    room = SegmenterConfig(max_tokens=600, careful=False)
    with serve(mumbler, talk={"segmenter": room}) as server:
        script = str(ROOT / "tests" / "clients" / f"{client}_client.py")
        env = {**os.environ, "OPENAI_API_KEY": "none", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
        found = subprocess.run(
            [python, script, str(server.port)], capture_output=True, text=True, timeout=120, env=env
        )
        assert found.returncode == 0, found.stderr[-2000:]
        story = json.loads(found.stdout.splitlines()[-1])
        assert server.empty()
    assert story["asked"] == ["Rome"] and not story["errors"]
    assert story["audio"] > 10_000
    said = " | ".join(story["said"])
    assert "It is sunny in Rome." in said and "Welcome, good bye." in said
