"""What a model refuses when it is built."""

from types import SimpleNamespace

import pytest

from fo_core.errors import ConfigError
from fo_core.models.freeze_omni import FreezeOmniConfig, build
from fo_core.models.speech_encoder import SpeechEncoderConfig
from fo_core.models.whisper_encoder import WhisperEncoderConfig


@pytest.mark.parametrize("encoder", [SpeechEncoderConfig, WhisperEncoderConfig])
@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_d15_a_chunk_of_another_length_than_160_ms_is_refused_by_name(encoder, chunk):
    asked = FreezeOmniConfig(speech_encoder=encoder(chunk=chunk))
    with pytest.raises(ConfigError, match=rf"speech_encoder\.chunk is {chunk} .*possible: 4"):
        build(asked, llm=SimpleNamespace())  # type: ignore[arg-type]
