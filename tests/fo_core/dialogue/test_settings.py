"""Settings of ``dialogue.json`` that nothing can obey are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fo_core.dialogue.settings import read_dialogue
from fo_core.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("states.smoothing=0", "states.smoothing is 0; possible: 1 or more"),
        ("states.min_chunks=-2", "states.min_chunks is -2; possible: 0 or more"),
        ("states.respond_threshold=-1", "states.respond_threshold is -1.0; possible: 0 or more"),
        ("states.dismiss_threshold=-1", "states.dismiss_threshold is -1.0; possible: 0 or more"),
        ("sampling.top_k=-2", "sampling.top_k is -2; possible: 0 or more"),
        ("sampling.penalty=0", "sampling.penalty is 0.0; possible: above 0; 1 is off"),
        ("segmenter.max_tokens=0", "segmenter.max_tokens is 0; possible: 1 or more"),
        ("segmenter.min_tokens=-4", "segmenter.min_tokens is -4; possible: 0 or more"),
        ("segmenter.chunk_growth=0.5", "segmenter.chunk_growth is 0.5; possible: 1 or more"),
        ("speaker.max_tokens=0", "speaker.max_tokens is 0; possible: 1 or more"),
        ("speaker.vocoder.onset=-1", "vocoder.onset is -1.0; possible: 0 or more"),
        ("history_chunks=-1", "dialogue.history_chunks is -1; possible: 0 or more"),
        ("duplex.context=255", "duplex.context is 255; possible: 256 or more"),
        ("duplex.turn.yield_ms=-1", "turn.yield_ms is -1.0; possible: 0 to 600000"),
    ],
)
def test_a_number_out_of_range_is_refused(tmp_path: Path, setting: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_dialogue(tmp_path, [setting])
    assert str(refused.value) == says
    (name, _, _) = setting.rpartition("=")
    assert read_dialogue(tmp_path, [f"{name}=300"])  # else it is in range
