"""Registries: names are file stems, errors say what exists."""

import pytest

from fo_core.errors import EngineError
from fo_core.registry import Registry, did_you_mean


def test_the_nearest_name_is_offered() -> None:
    assert "did you mean 'piper'" in did_you_mean("pipr", ["flite", "piper"])
    assert "did you mean" not in did_you_mean("zzz", ["flite", "piper"])


def test_unknown_entries_list_what_exists() -> None:
    registry = Registry("text-to-speech engine", "fo_core.engines.tts")
    with pytest.raises(EngineError, match="unknown text-to-speech engine 'nope'"):
        registry.load("nope")
