"""What a model refuses when it is built."""

from types import SimpleNamespace

import pytest
import tiny_models
import torch

from fo_core.config import replace
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.errors import ConfigError
from fo_core.models.encoder import whisper_encoder
from fo_core.models.encoder.speech_encoder import SpeechEncoderConfig
from fo_core.models.encoder.whisper_encoder import WhisperEncoderConfig
from fo_core.models.freeze_omni import PARTS, FreezeOmniConfig, build, load
from fo_core.models.prompt import PromptEmbeddings
from fo_core.training.stages.output_2 import Output2
from fo_core.training.stages.output_3 import Output3


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


def test_text_by_the_chunk_is_refused_until_the_speech_decoder_has_learned_it(tmp_path):
    model = tiny_models.tiny_model()
    model.trained |= set(PARTS)
    by_chunk = DialogueConfig(segmenter=SegmenterConfig(chunk=4))
    refused = "chunk is 4: .* not trained on text by the chunk.*possible: 0.*stage.chunks"
    with pytest.raises(ConfigError, match=refused):
        Duplex(model, by_chunk)
    with pytest.raises(ConfigError, match=r"stage.chunks is 0\.5: .*output-2"):
        Output3(chunks=0.5).prepare(model)
    Output2(chunks=0.0).prepare(model)
    assert not model.config.speech_decoder.reads_chunks
    before = {k: v.clone() for k, v in model.speech_decoder.state_dict().items()}
    Output2(chunks=0.5).prepare(model)
    Output3(chunks=0.5).prepare(model)
    after = model.speech_decoder.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    model.save(tmp_path)
    Duplex(load(tmp_path), by_chunk)


def test_a_decoder_with_durations_reads_text_by_the_chunk_without_having_learned_it():
    model = tiny_models.tiny_model(speech_decoder={"type": "durations"})
    model.require_chunks("segmenter.chunk is 4")
    before = model.speech_decoder
    Output2(chunks=0.5).prepare(model)
    assert model.speech_decoder is before
