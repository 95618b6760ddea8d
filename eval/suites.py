"""What ``fo eval all`` runs: the parts of a suite, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """One evaluation of a suite."""

    name: str  # its folder; also what it is called on the page
    command: str  # a question set's name, ``asr`` or ``tts``
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""  # folder or file of $FO_DATA without which it is left out


LLAMA = Part("llama-questions", "llama-questions", {"tts": "recordings"})
QUICK = (
    LLAMA,
    Part("web-questions", "web-questions", {"limit": 100}),
    Part("trivia-qa", "trivia-qa", {"limit": 100}),
)
PAPER = (
    Part("librispeech", "asr", {"corpus_set": "librispeech", "chunk": ["4", "inf"]},
         "LibriSpeech"),
    Part("aishell-1", "asr", {"corpus_set": "aishell-1", "chunk": ["4", "inf"]}, "aishell-1"),
    Part("wenetspeech", "asr", {"corpus_set": "wenetspeech", "chunk": ["4", "inf"]},
         "WenetSpeech"),
    Part("tts", "tts", {"variant": ["full", "no-prefix", "no-pre-network", "bare"]},
         "answers.jsonl"),
    Part("llama-questions", "llama-questions"),
    Part("web-questions", "web-questions"),
    Part("trivia-qa", "trivia-qa"),
)  # fmt: skip
SUITES = {"quick": QUICK, "paper": PAPER}
