"""A headless browser with a sound file for a microphone talks to the page."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

QUIET = ["background-networking", "component-update", "sync", "quic"]


def test_the_page_hears_answers_and_shows(tmp_path: Path, serve: Any, mumbler: Any) -> None:
    """Noise is a question for a state head that always wants to answer."""
    from playwright.sync_api import sync_playwright

    from fo_core.dialogue.settings import DuplexConfig
    from fo_core.dialogue.states import StateRule
    from fo_core.io import audio

    noise = 0.3 * np.random.default_rng(0).standard_normal(48000).astype("f4")
    quiet = np.zeros(3 * 48000, "f4")
    audio.write(tmp_path / "mic.wav", np.concatenate([quiet[:48000], noise, quiet]), 48000)
    eager = {
        "states": StateRule(respond_threshold=0.0, dismiss_threshold=1.0, min_chunks=5),  # one turn
        "duplex": DuplexConfig(vad="energy"),
    }
    troubles: list[str] = []
    with serve(mumbler, talk=eager) as server, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags(tmp_path / "mic.wav"))
        page = browser.new_context(permissions=["microphone"]).new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console",
            lambda said: troubles.append(said.text) if said.type == "error" else None,
        )
        page.on("request", lambda request: outside(request.url, server.port, troubles))
        page.goto(f"http://127.0.0.1:{server.port}/")
        assert page.inner_text("#status") == "Not connected."
        page.click("#talk")
        page.locator("#conversation .assistant small", has_text=" ms").first.wait_for(
            timeout=60_000
        )
        assert page.inner_text("#conversation .user b") == "You"
        words = page.locator("#conversation .assistant span", has_text=re.compile(r"\S"))
        words.first.wait_for(timeout=60_000)
        shown = "canvas => canvas.getContext('2d').getImageData(0, 0, 960, 120).data.some(x => x)"
        assert page.eval_on_selector("#timeline", shown)
        page.fill("#text", "abc")
        page.click("#type button")
        page.locator("#conversation .assistant").nth(1).wait_for(timeout=60_000)
        page.click("#talk")
        page.locator("#status", has_text="Stopped.").wait_for()
        browser.close()
        assert server.empty()
    assert not troubles


def test_a_voice_is_picked_on_the_page_and_the_session_takes_it(
    tmp_path: Path, serve: Any, mumbler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the talk begins, in the middle of it, and no more once it was heard."""
    from playwright.sync_api import expect, sync_playwright

    from fo_core.config import replace
    from fo_core.io import audio
    from fo_core.models.model_config import VoiceConfig

    size = len(mumbler.voice()[0, 0])
    voices = {
        name: VoiceConfig((code,) * size, "own")
        for name, code in (("heart", 3), ("bob", 1), ("eve", 0))
    }
    config = replace(mumbler.config, voice=(3,) * size, voices=voices)
    monkeypatch.setattr(mumbler, "config", config)
    audio.write(tmp_path / "mic.wav", np.zeros(48000, "f4"), 48000)
    troubles: list[str] = []
    with serve(mumbler) as server, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags(tmp_path / "mic.wav"))
        page = browser.new_context(permissions=["microphone"]).new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/")
        voice = page.locator("#voice")
        expect(voice.locator("option")).to_have_text(["heart", "bob", "eve"])
        page.click("summary")
        voice.select_option("bob")
        page.click("#talk")
        expect(page.locator("#status")).to_have_text("Speak whenever you like.", timeout=60_000)
        (talk,) = (slot.duplex for slot in server.pool._slots.values())
        wait_for(lambda: talk.conversation.voice == (1,) * size)
        voice.select_option("eve")
        wait_for(lambda: talk.conversation.voice == (0,) * size)
        page.fill("#text", "abc")
        page.click("#type button")
        expect(voice).to_be_disabled(timeout=60_000)  # it was heard
        page.click("#talk")
        expect(page.locator("#status")).to_have_text("Stopped.")
        expect(voice).to_be_enabled()
        expect(voice).to_have_value("eve")
        browser.close()
        assert server.empty()
    assert not troubles


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until it is so; it fails if it never is."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def flags(microphone: Path) -> list[str]:
    """Of a browser that asks nobody and hears a file."""
    return [
        "--no-sandbox",
        "--disable-gpu",
        *(f"--disable-{name}" for name in QUIET),
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=no-user-gesture-required",
    ]


def outside(url: str, port: int, troubles: list[str]) -> None:
    """Note a request that leaves this machine."""
    if f"127.0.0.1:{port}" not in url and not url.startswith("data:"):
        troubles.append(f"asked for {url}")
