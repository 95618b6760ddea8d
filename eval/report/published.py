"""What the paper measured (arXiv 2411.00774, tables 1 to 3), to stand beside our own rows."""

from __future__ import annotations

SOURCE = "arXiv 2411.00774"

ASR_COLUMNS = (
    "aishell-1", "test_net", "test_meeting", "dev-clean", "dev-other", "test-clean", "test-other",
)  # fmt: skip
ASR = {  # table 1: CER % for the first three, WER % for LibriSpeech; read through the LLM
    "Freeze-Omni, chunk = inf": (2.15, 8.57, 10.09, 3.29, 7.4, 3.24, 7.68),
    "Freeze-Omni, chunk = 4": (2.79, 12.6, 14.2, 4.16, 10.21, 4.05, 10.48),
    "Freeze-Omni, chunk = 4, no dynamic chunk": (2.48, 11.8, 13.46, 4.03, 9.45, 3.82, 9.79),
}

TTS_COLUMNS = (1, 2, 3, 4, 5)  # top-k
TTS = {  # table 2: CER % on 1,000 utterances, judged by paraformer-zh; each row trained anew
    "bare": (5.27, 4.64, 4.76, 4.66, 5.03),
    "no-prefix": (3.11, 2.75, 2.77, 2.84, 2.94),
    "no-pre-network": (3.9, 3.65, 3.53, 3.62, 3.71),
    "full": (2.19, 1.69, 1.85, 1.9, 1.99),
}

QA_COLUMNS = ("Web Q.", "LlaMA Q.", "Trivia QA")
QA: dict[str, tuple[float | None, ...]] = {  # table 3: accuracy %
    "SpeechGPT 7B": (6.5, 21.6, 14.8),
    "Spectron 1B": (6.1, 22.9, None),
    "Moshi 7B": (26.6, 62.3, 22.8),
    "GLM-4-Voice 9B": (32.2, 64.7, 39.1),
    "Freeze-Omni 7B": (44.73, 72.0, 53.88),
    "Qwen2-7B-Instruct, text only": (45.13, 77.67, 63.93),
}


def qa_rows(column: str) -> dict[str, float]:
    """The published accuracies of a set, % by system; empty for a set that is not in the table."""
    if column not in QA_COLUMNS:
        return {}
    place = QA_COLUMNS.index(column)
    return {system: value for system, row in QA.items() if (value := row[place]) is not None}
