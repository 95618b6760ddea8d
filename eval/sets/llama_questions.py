"""LLaMA Questions: 300 short general questions with one answer and a recording each.

Published as ``llama_questions_300.tsv`` (columns Questions, Answer, Wav Filename) with the
recordings in ``wav/`` beside it (google-research-datasets/LLAMA1-Test-Set, no licence stated), and
with the sound in parquet as TwinkStart/llama-questions on the hub.
"""

from __future__ import annotations

from pathlib import Path

from eval.sets import Question
from eval.source import embedded_audio, first, need, records, strings

KIND = "questions"
TITLE = "LLaMA Questions"
COLUMN = "LlaMA Q."
LANGUAGE = "en"
HUB = "TwinkStart/llama-questions"
PATTERNS = ("llama_questions*.tsv", "*llama*question*.jsonl", "test*.parquet", "*.parquet")


def read(path: Path) -> list[Question]:
    """The questions; those without a recording on disk have none."""
    found = []
    for number, row in enumerate(records(path), 1):
        text = str(need(row, ("Questions", "question"), path, number)).strip()
        answers = strings(need(row, ("Answer", "answers"), path, number))
        name = first(row, ("Wav Filename", "wav", "audio_path"))
        places = [path.parent / "wav" / str(name), path.parent / str(name)] if name else []
        audio = next((str(place) for place in places if place.is_file()), "")
        name = f"llama-{number:03d}"
        audio = audio or embedded_audio(row.get("audio"), f"llama-questions/{name}")
        found.append(Question(name, text, answers, audio))
    return found
