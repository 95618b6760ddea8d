"""The plug-in for UltraEval-Audio asks a running server; its own classes are stood in for."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi")
pytest.importorskip("websockets.sync.client")

PLUGIN = Path(__file__).parents[3] / "docs/plugins/ultraeval_audio.py"


@pytest.fixture
def plugin(monkeypatch: Any) -> Any:
    base, model = types.ModuleType("audio_evals.base"), types.ModuleType("audio_evals.models.model")
    base.PromptStruct = list  # type: ignore[attr-defined]

    class APIModel:
        def __init__(self, is_chat: bool, sample_params: Any = None) -> None:
            self.is_chat = is_chat

    model.APIModel = APIModel  # type: ignore[attr-defined]
    for name in ("audio_evals", "audio_evals.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "audio_evals.base", base)
    monkeypatch.setitem(sys.modules, "audio_evals.models.model", model)
    spec = importlib.util.spec_from_file_location("ultraeval_plugin", PLUGIN)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_spoken_question_gets_text_and_a_sound_file(
    plugin: Any, server: Any, scripted: Any, tmp_path: Path
) -> None:
    wave = 0.2 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(tmp_path / "q.wav", wave, 16000)
    prompt = [{"role": "user", "contents": [{"type": "audio", "value": str(tmp_path / "q.wav")}]}]
    url = f"ws://127.0.0.1:{server.port}/v1/realtime"
    scripted("it is blue.", "it is blue.")
    made = json.loads(plugin.FreezeOmni(url, folder=tmp_path / "made")._inference(prompt))
    assert made["text"] == "it is blue."
    assert soundfile.info(made["audio"]).samplerate == 24000
    assert soundfile.info(made["audio"]).frames > 0
    assert plugin.FreezeOmni(url, speak=False)._inference(prompt) == "it is blue."
    assert server.empty()


def test_its_registry_file_names_its_class() -> None:
    import yaml

    listed = yaml.safe_load(PLUGIN.with_name("freeze_omni.yaml").read_text())
    assert {entry["class"] for entry in listed.values()} == {
        "audio_evals.models.freeze_omni.FreezeOmni"
    }
    assert [entry["args"]["speak"] for entry in listed.values()] == [True, False]
