"""Errors meant for the user: what is wrong, what is possible, what to do, on one line."""

from __future__ import annotations


class FoError(Exception):
    """Base of every error that the CLI turns into one line and exit status 1.

    Args:
        what: What is wrong, with the user's own names (file, key, value).
        possible: What would be accepted instead.
        do: What to do next.
    """

    def __init__(self, what: str, possible: str | None = None, do: str | None = None) -> None:
        self.what, self.possible, self.do = what, possible, do
        parts = [what.rstrip(".")]
        if possible:
            parts.append(f"possible: {possible.rstrip('.')}")
        if do:
            parts.append(f"do: {do.rstrip('.')}")
        super().__init__("; ".join(parts).replace("\n", " "))


def first_line(error: BaseException) -> str:
    """What another program's error says, for a line of ours: its first line, or else its kind."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


class ConfigError(FoError):
    """A configuration key or value is wrong."""


class AudioError(FoError):
    """An audio file or signal cannot be used."""


class DataError(FoError):
    """A manifest or an item of one is wrong."""


class CheckpointError(FoError):
    """A model folder or a checkpoint is incomplete, foreign or damaged."""


class EngineError(FoError):
    """A text-to-speech, speech recognition or LLM engine is missing or fails."""


class StageError(FoError):
    """A training stage cannot run as asked."""
