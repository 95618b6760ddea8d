"""The page's player stands still, speaks low and goes on, sample by sample; run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from typing import Any

import numpy as np
import pytest

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine")
RUN = """
const made = {}, told = [];
globalThis.sampleRate = 24000;
globalThis.AudioWorkletProcessor = class {
  constructor() { this.port = { postMessage: (data) => told.push(data) }; }
};
globalThis.registerProcessor = (name, kind) => { made[name] = kind; };
eval(require("fs").readFileSync(process.argv[1], "utf8"));
const player = new made.playback(), heard = [];
for (const step of JSON.parse(process.argv[2])) {
  if (typeof step !== "number") {
    if (step.samples) step.samples = Float32Array.from(step.samples);
    player.port.onmessage({ data: step });
    continue;
  }
  for (let block = 0; block < step; block++) {
    const out = new Float32Array(128);
    player.process([], [[out]]);
    heard.push(...out);
  }
}
console.log(JSON.stringify({ heard, last: told.at(-1) }));
"""


def play(*steps: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What is heard, and what the player told last; numbers are blocks of 128 samples."""
    path = resources.files("fo_core") / "server" / "web" / "worklets.js"
    args = [str(NODE), "-e", RUN, str(path), json.dumps(steps)]
    told = json.loads(subprocess.run(args, check=True, capture_output=True, text=True).stdout)
    return np.array(told["heard"], np.float32), told["last"]


def answer() -> tuple[np.ndarray, list[dict[str, Any]]]:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 2000).astype(np.float32)
    return wave, [{"item": "a", "samples": part.tolist()} for part in (wave[:700], wave[700:])]


def test_a_pause_loses_and_repeats_no_sample() -> None:
    wave, pieces = answer()
    heard, last = play(*pieces, 5, {"yield": "pause"}, 4, {"yield": None}, 20)
    assert np.array_equal(heard[:640], wave[:640]) and not heard[640:1152].any()
    assert np.array_equal(heard[1152 : 1152 + 1360], wave[640:]) and not heard[2512:].any()
    assert (last["item"], last["played"], last["rest"]) == ("a", 2000, 0)


def test_a_ducked_voice_is_low_and_comes_back() -> None:
    wave, pieces = answer()
    heard, last = play(*pieces, 3, {"yield": "duck"}, 6, {"yield": None}, 20)
    assert np.array_equal(heard[:384], wave[:384])
    assert np.allclose(heard[384 + 240 : 1152], 0.2 * wave[384 + 240 : 1152], atol=1e-6)
    assert np.array_equal(heard[1152 + 240 : 2000], wave[1152 + 240 :]) and last["played"] == 2000


def test_what_is_cleared_in_a_pause_is_gone_and_the_next_answer_is_heard() -> None:
    wave, pieces = answer()
    after = [{**piece, "item": "b"} for piece in pieces]
    heard, last = play(*pieces, 2, {"yield": "pause"}, 1, {"clear": True}, *after, 20)
    assert np.array_equal(heard[384 : 384 + 2000], wave) and last["item"] == "b"
