"""The report says what the dict says, misses nothing in silence, and needs nothing from outside."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from fo_cli.demo.report import document
from fo_core.errors import FoError
from fo_core.report.document import ANSWER, ASKED, Sample, Sound
from fo_core.report.writer import write_document

RESULTS_A = {
    "items": 40,
    "input1_wer": 0.1,
    "input2_wer": 0.2,
    "answer_agreement": 0.5,
    "wer_original": 0.02,
    "wer_codec": 0.1,
    "wer_reply": 0.3,
    "state_f1": {
        "continue": {"precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 90},
        "macro": 0.85,
    },
    "first_audio_ms": 412.4,
    "first_audio_ms_p90": 800.0,
    "rtf": 0.42,
}


def write_report(folder, report, curves=None, samples=()):
    return write_document(folder, document(report, curves or {}, samples), report)


@pytest.fixture(scope="module")
def report():
    return {
        **RESULTS_A,
        "unseen_facts": {"items": 20, "input1_wer": 0.31, "wer_reply": float("nan")},
        "parts": {"speech encoder": "whisper", "adapter": "ctc"},
        "stages": {
            "input-1": {"trainable_parameters": 8_208_384, "frozen_parameters": 134_515_008}
        },
        "steps": [{"name": "synthesize", "seconds": 61.25, "peak_memory_mb": 812}],
        "llm_fingerprint_before": "sha256:aa",
        "llm_fingerprint_after": "sha256:aa",
        "machine": {"cpu": "2 <cores>"},
        "seed": 7,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory, report):
    tmp_path = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for name, rate in (("q.wav", 16000), ("r.wav", 24000)):
        soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(rate // 4), rate)
    curves = {"input-1": [{"step": i, "loss": 5.0 / (i + 1)} for i in range(5)]}
    curves["input-1"].append({"step": 5, "val_loss": 1.5})
    texts = {ASKED: "how many legs <b>does</b> a spider have", ANSWER: "Eight | 8"}
    sounds = (Sound("Question", tmp_path / "q.wav"), Sound("Spoken reply", tmp_path / "r.wav"))
    sample = Sample("How many legs?", texts, sounds)
    paths = write_report(tmp_path / "run", report, curves, [sample])
    return {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}


def test_json_keeps_the_values_and_is_strict(written):
    found = json.loads(written["json"], parse_constant=pytest.fail)
    assert found["input1_wer"] == 0.1
    assert found["unseen_facts"] == {"items": 20, "input1_wer": 0.31, "wer_reply": None}


def test_both_sets_stand_side_by_side_under_their_names(written):
    results = written["md"].split("## Results")[1]
    row = next(line for line in results.splitlines() if line.startswith("| input-1 WER"))
    assert row.split("|")[2:4] == [" 0.100 ", " 0.310 "]
    assert "(a) unseen wordings of known facts | (b) unseen facts" in written["md"]
    for kind in ("md", "html"):
        assert "(b) unseen facts" in written[kind]


def test_aims_are_judged_and_missing_values_are_said(written):
    rows = {
        line.split("|")[1].strip(): line
        for line in written["md"].split("## Aims")[1].split("##")[0].splitlines()
        if line.startswith("|")
    }
    assert "✔ met" in rows["input-1 WER"]
    assert "✘ missed by 0.100" in rows["answer agreement"]
    assert "0.280" in rows["reply − original"]
    assert "✔ met" in rows["state F1, macro"]
    accuracy = next(r for r in written["md"].splitlines() if r.startswith("| text accuracy"))
    assert accuracy.count("not measured") == 2


def test_empty_report_is_all_not_measured(tmp_path):
    text = write_report(tmp_path, {})["md"].read_text()
    assert text.count("– not measured") == 4 and "✔" not in text


def test_a_moved_llm_is_shouted_about(tmp_path, report):
    moved = report | {"llm_fingerprint_after": "sha256:bb"}
    assert "CHANGED" in write_report(tmp_path, moved)["html"].read_text()


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_self_contained_well_formed_and_labelled(written):
    page = Page()
    page.feed(written["html"])
    assert not page.open
    sources = [a.get("src") or a.get("href") for _, a in page.tags]
    assert all(s.startswith(("data:", "#")) for s in sources if s)
    assert not re.search(r"https?://", re.sub(r"base64,[^\"]*", "", written["html"]))
    assert [t for t, _ in page.tags].count("audio") == 2
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert all(a.get("aria-label") for t, a in page.tags if t == "audio")
    assert sum(t == "img" for t, _ in page.tags) == 2  # curves, spectrogram
    assert "<b>does" not in written["html"] and "2 &lt;cores&gt;" in written["html"]


def test_pipes_do_not_break_markdown_tables(written):
    assert "Eight \\| 8" in written["md"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, report):
    (tmp_path / "file").write_text("")
    with pytest.raises(FoError, match="cannot write"):
        write_report(tmp_path / "file" / "run", report)
