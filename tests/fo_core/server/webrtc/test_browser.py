"""Chromium over WebRTC: our page with its switch, and a page as one would write it for OpenAI."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiortc")
pytest.importorskip("playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium; its microphone is silence, 1 s of noise and silence, again and again."""
    from playwright.sync_api import sync_playwright

    from fo_core.io import audio

    noise = 0.3 * np.random.default_rng(0).standard_normal(48000).astype("f4")
    quiet = np.zeros(3 * 48000, "f4")
    path = tmp_path_factory.mktemp("microphone") / "mic.wav"
    audio.write(path, np.concatenate([quiet[:48000], noise, quiet]), 48000)
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={path}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture(scope="module")
def eager(serve: Any, mumbler: Any) -> Iterator[Any]:
    from fo_core.dialogue.settings import DuplexConfig
    from fo_core.dialogue.states import StateRule

    rule = StateRule(respond_threshold=0.0, dismiss_threshold=1.0, min_chunks=5)
    with serve(mumbler, talk={"states": rule, "duplex": DuplexConfig(vad="energy")}) as found:
        yield found


def opened(browser: Any, server: Any, troubles: list[str], **context: Any) -> Any:
    page = browser.new_context(permissions=["microphone"], **context).new_page()
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(f"http://127.0.0.1:{server.port}/")
    return page


def test_the_page_talks_over_webrtc(browser: Any, eager: Any) -> None:
    troubles: list[str] = []
    page = opened(browser, eager, troubles)
    page.locator("summary").click()
    page.select_option("#transport", "webrtc")
    page.click("#talk")
    page.locator("#conversation .assistant small", has_text=" ms").first.wait_for(timeout=60_000)
    page.locator("#conversation .assistant span", has_text=re.compile(r"\S")).first.wait_for()
    assert page.inner_text("#status") != "" and "WebSocket" not in page.inner_text("#status")
    page.fill("#text", "abc")
    page.click("#type button")
    page.locator("#conversation .user span", has_text="abc").wait_for()
    page.locator("#conversation .assistant").nth(1).wait_for(timeout=60_000)
    page.click("#talk")
    page.locator("#status", has_text="Stopped.").wait_for()
    page.context.close()
    assert not troubles and eager.empty()


def test_the_page_says_why_it_fell_back_to_websocket(browser: Any, eager: Any) -> None:
    page = opened(browser, eager, [], bypass_csp=True)  # the test itself evaluates strings
    page.route(
        "**/v1/realtime/calls*",
        lambda route: route.fulfill(status=501, json={"error": {"message": "no aiortc here"}}),
    )
    page.locator("summary").click()
    page.select_option("#transport", "webrtc")
    # what is said first: before the model's own news
    page.evaluate(
        """() => { window.said = [];
        new MutationObserver(() => said.push(document.getElementById("status").textContent))
          .observe(document.getElementById("status"), { childList: true }); }"""
    )
    page.click("#talk")
    page.wait_for_function("said.some(t => t === 'WebSocket in place of WebRTC: no aiortc here')")
    page.locator("#conversation .assistant").first.wait_for(timeout=60_000)
    page.context.close()
    assert eager.empty()


def test_the_example_of_the_documentation_runs_and_is_interrupted(browser: Any, eager: Any) -> None:
    """The function of docs/webrtc.md, word for word, in Chromium; its sound is measured."""
    (example,) = re.findall(
        r"```js\n(// webrtc.*?)```", (ROOT / "docs/webrtc.md").read_text(), re.S
    )
    page = opened(browser, eager, [], bypass_csp=True)
    loud = """async () => {
        const { peer, events } = await call();
        Object.assign(window, { peer, told: [] });
        events.addEventListener("message", ({ data }) => told.push(JSON.parse(data).type));
        const level = () => peer.getReceivers()[0].getStats().then((stats) =>
            [...stats.values()].find((s) => s.type === "inbound-rtp")?.totalAudioEnergy ?? 0);
        window.level = level;
        window.before = await level();
    }"""
    page.evaluate(example.replace("KEY", "none") + "\n; window.call = call; undefined")
    page.evaluate(loud)
    page.wait_for_function("told.includes('output_audio_buffer.started')", timeout=60_000)
    page.wait_for_function("level().then((now) => now > before)", timeout=60_000)
    # the microphone's noise comes again while an answer is played
    page.wait_for_function("told.includes('output_audio_buffer.cleared')", timeout=60_000)
    assert "response.output_audio.delta" not in page.evaluate("told")
    page.evaluate("peer.close()")
    page.context.close()
    assert eager.empty()
