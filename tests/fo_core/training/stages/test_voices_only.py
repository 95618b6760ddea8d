"""Stage output-1 on voices alone: tokens stay, voices are learned and named."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

from fo_core.api.training import train_stage
from fo_core.config import replace
from fo_core.data import manifest
from fo_core.data.collate import codec as collate
from fo_core.errors import ConfigError, DataError
from fo_core.io import audio
from fo_core.models.codec.ticodec import TiCodec, TiCodecConfig
from fo_core.models.freeze_omni import PARTS, load_codec, read_config
from fo_core.models.model_config import VoiceConfig
from fo_core.training.freeze import freeze_all_but, select
from fo_core.training.losses.voices import stretches
from fo_core.training.stages.output_1 import Output1, name_voices

PITCHES = {"own": 1.0, "low": 0.6, "high": 1.6}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """The same letters at the same time in three voices, with the tokens of the own one."""
    folder, codec, found = tmp_path_factory.mktemp("parallel"), tiny_models.tiny_model().codec, []
    for number in range(8):
        text = "abcdefgh"[number:] + "abcdefgh"[:number]
        own = torch.from_numpy(tiny_models.say(text, 24000))[None]
        tokens = codec.encode(own)[0][0, :, 0].tolist()
        for speaker, pitch in PITCHES.items():
            path = folder / f"{number}-{speaker}.wav"
            audio.write(path, tiny_models.say(text, 24000, pitch), 24000)
            item = manifest.describe(path, id=path.stem, text=text, speaker=speaker)
            found.append(item.with_tokens(tokens, ()))
    return found


SETS = ("stage.voices_only=true", "stage.own_voice=own", "stage.gan_from=null",
        "train.max_steps=20", "train.curves=false", "train.validate_every=20", "train.samples=0",
        "train.device=cpu", "train.batch.crop_seconds=0", "train.batch.size=6",
        "train.val_batch.crop_seconds=0", "stage.dnsmos=false")  # fmt: skip


def test_tokens_stay_and_every_speaker_gets_a_voice(items, tmp_path):
    start = tmp_path / "start"
    tiny_models.tiny_model().save(start, PARTS)
    manifest.write(tmp_path / "train.jsonl", items)
    data = tmp_path / "train.jsonl"
    result = train_stage("output-1", start, data, data, tmp_path / "run", recipe="tiny",
                         settings=SETS, progress=False)  # fmt: skip
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
    before, after = load_codec(start), load_codec(tmp_path / "run" / "model")
    wave = torch.from_numpy(items[0].load_audio(24000))[None]
    tokens = before.encode(wave)[0]
    assert torch.equal(tokens, after.encode(wave)[0])  # the speech decoder's tokens say the same
    config = read_config(tmp_path / "run" / "model")
    assert set(config.voices) == set(PITCHES)
    assert config.voice == config.voices["own"].global_tokens
    assert config.voices["low"].source == "8 recordings of low in the training data"
    low, high = (torch.tensor([[config.voices[n].global_tokens]]) for n in ("low", "high"))
    assert not torch.allclose(after.decode(tokens, low), after.decode(tokens, high), atol=1e-4)


def test_what_is_frozen_in_the_published_codec():
    codec = TiCodec(TiCodecConfig())
    holder = torch.nn.ModuleDict({"codec": codec})
    (objective,) = Output1(voices_only=True, gan_from=None).build().objectives
    chosen = select(holder, objective.trainable)
    freeze_all_but(holder, chosen)
    trained = {name.split(".")[1] for name in chosen}
    assert trained == {"encoder", "global_quantizer", "generator"}
    assert {n.split(".")[2] for n in chosen if ".encoder." in n} == {"global_encoder"}
    assert not codec.quantizer.training and codec.global_quantizer.training


def test_discriminators_are_refused_with_it():
    with pytest.raises(ConfigError, match="possible: stage.gan_from: null"):
        Output1(voices_only=True).build()


def test_cropped_sound_does_not_fit_its_tokens(items):
    """A recipe's crop would train every voice on other words than it says."""
    item = items[0]
    batch = collate([(item, item.load_audio(24000)[:6000])])
    with pytest.raises(DataError, match="crop_seconds"):
        stretches(batch, 600, 40, lambda most: 0)
    tokens, wave, heard = stretches(
        collate([(i, i.load_audio(24000)) for i in items[:2]]), 600, 10, lambda most: most
    )
    assert tokens.shape == (2, 10, 1) and wave.shape == (2, 6000)
    assert tokens[0, :, 0].tolist() == list(item.speech_tokens[-10:])
    end = 600 * len(item.speech_tokens)
    np.testing.assert_array_equal(wave[0].numpy(), item.load_audio(24000)[end - 6000 : end])
    assert heard.shape[1] == 600 * len(item.speech_tokens)


def test_a_codec_that_is_trained_anew_gives_its_voice_anew(items, caplog):
    """The global tokens of before mean nothing in it."""
    model = tiny_models.tiny_model()
    name_voices(model, items)
    assert model.config.voice == ()  # a new model gets its voice from its answers, in output-2
    groups = model.codec.cfg.global_quantizer.groups
    old = {name: VoiceConfig((255,) * groups) for name in ("low", "gone")}
    model.config = replace(model.config, voice=(255,) * groups, voices=old)
    name_voices(model, items, own="nobody")
    assert "gone" in caplog.text and "nobody" in caplog.text
    assert set(model.config.voices) == {"own", "low"} and max(model.config.voice) < 256
    waves = [torch.from_numpy(i.load_audio(24000)) for i in items if i.speaker == "own"]
    assert model.config.voice == model.codec.voice_of(waves)
