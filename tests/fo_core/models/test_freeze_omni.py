"""What a model refuses when it is built."""

from types import SimpleNamespace

import pytest
import tiny_models
import torch

from fo_core.config import replace
from fo_core.errors import ConfigError
from fo_core.models.encoder import whisper_encoder
from fo_core.models.encoder.speech_encoder import SpeechEncoderConfig
from fo_core.models.encoder.whisper_encoder import WhisperEncoderConfig
from fo_core.models.freeze_omni import PARTS, FreezeOmniConfig, build, load
from fo_core.models.prompt import PromptEmbeddings


@pytest.mark.parametrize("encoder", [SpeechEncoderConfig, WhisperEncoderConfig])
@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_d15_a_chunk_of_another_length_than_160_ms_is_refused_by_name(encoder, chunk):
    asked = FreezeOmniConfig(speech_encoder=encoder(chunk=chunk))
    with pytest.raises(ConfigError, match=rf"speech_encoder\.chunk is {chunk} .*possible: 4"):
        build(asked, llm=SimpleNamespace())  # type: ignore[arg-type]


def test_t4_what_a_part_starts_from_is_read_only_where_the_folder_lacks_the_part(
    tmp_path, monkeypatch
):
    """Whisper's weights and the embedding's mean; the parts behind start as ever."""
    read = []

    def whisper(path):
        read.append("whisper")
        return start

    mean = PromptEmbeddings.start_from
    monkeypatch.setattr(whisper_encoder, "read_whisper", whisper)
    monkeypatch.setattr(
        PromptEmbeddings, "start_from", lambda *a: read.append("embedding") or mean(*a)
    )
    small = WhisperEncoderConfig(path=None, dim=16, heads=2, layers=1)
    start = whisper_encoder.WhisperEncoder(small).state_dict()
    start = {name: part for name, part in start.items() if not name.startswith("merge.")}
    config = replace(
        tiny_models.tiny_model().config, speech_encoder=replace(small, path="anywhere")
    )
    model = build(config)
    assert sorted(set(read)) == ["embedding", "whisper"]
    model.save(tmp_path, ("speech_encoder", "task", "prompt"))
    read.clear()
    again = load(tmp_path)
    assert read == []
    for part in PARTS:
        for name, values in getattr(model, part).state_dict().items():
            assert torch.equal(values, getattr(again, part).state_dict()[name]), (part, name)
    (tmp_path / "speech_encoder.safetensors").unlink()
    load(tmp_path)
    assert read == ["whisper"]
