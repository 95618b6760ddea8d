"""A whole model with tiny random parts, saved as a folder; a recorded question."""

import numpy as np
import pytest
import soundfile

TINY = {
    "llm": {"spec": "tiny", "dtype": "float32"},
    "speech_encoder": {"type": "paper", "dim": 16, "heads": 2, "ffn": 32, "layers": 1, "left": 2},
    "ctc": {"tokens": list(range(97, 123))},
    "adapter": {"type": "conv"},
    "task": {"num": 2},
    "prompt": {"num": 3},
    "speech_decoder": {"dim": 32, "codes": 64, "heads": 2, "ffn": 48, "layers": 2},
    "codec": {
        "type": "istft",
        "encoder_dim": 16,
        "encoder_blocks": 1,
        "token_dim": 16,
        "token_blocks": 1,
        "frame_dim": 16,
        "frame_blocks": 1,
        "quantizer": {"dim": 8, "codes": 64},
        "global_quantizer": {"dim": 8, "codes": 16, "groups": 2},
    },
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    import torch

    from fo_core.config import load
    from fo_core.dialogue.settings import DialogueConfig, DuplexConfig, write_dialogue
    from fo_core.dialogue.speech.segmenter import SegmenterConfig
    from fo_core.dialogue.speech.speaker import SpeakerConfig
    from fo_core.dialogue.states import StateRule
    from fo_core.models import freeze_omni

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model = freeze_omni.build(load(freeze_omni.FreezeOmniConfig, TINY))
    model.save(folder, freeze_omni.PARTS)
    short = DialogueConfig(
        states=StateRule(
            respond_threshold=1.0, dismiss_threshold=1.0
        ),  # the file's end ends a turn
        duplex=DuplexConfig(vad="energy"),  # noise is speech to these tests
        speaker=SpeakerConfig(max_tokens=30),
        segmenter=SegmenterConfig(max_tokens=40, careful=False),
    )
    write_dialogue(folder, short)
    return folder


@pytest.fixture
def question(tmp_path):
    path = tmp_path / "question.wav"
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((8000, 2)), 8000)  # 1 s, stereo, 8 kHz
    return path
