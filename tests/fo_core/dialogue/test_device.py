"""A talk with a model that is not on the CPU."""

import copy

import numpy as np
import pytest
import torch
from pretended_device import DEVICE, PretendedDevice

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig, TurnConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.speech.vocoder import VocoderConfig
from fo_core.models.packing import pack_for_inference
from fo_core.sampling import SamplingConfig

SAMPLED = SamplingConfig(temperature=0.8, top_k=4)
CFG = DialogueConfig(
    sampling=SAMPLED,
    segmenter=SegmenterConfig(stops="aeiou.", min_tokens=3, max_tokens=16, careful=False),
    speaker=SpeakerConfig(
        sampling=SAMPLED,
        max_tokens=20,
        vocoder=VocoderConfig(first_chunk=4, chunk=6, overlap=3, cut_window=201, onset=0.0),
    ),
    duplex=DuplexConfig(turn=TurnConfig(detect="server", silence_ms=300, interrupt="state")),
    history_chunks=1,
)


def questions(count: int) -> np.ndarray:
    """A chunk of silence, three of noise, three of silence; several times."""
    noise = 0.1 * torch.randn(count, 3 * 2560, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.pad(noise, (2560, 3 * 2560)).flatten().numpy()


def talk(model, vad) -> list[ev.DuplexEvent]:
    duplex = Duplex(model, CFG, vad=vad, eager=True)
    duplex.push(questions(3))
    events = list(duplex.run())
    duplex.send(do.HearText("And a typed one."))
    return events + list(duplex.run())


def test_a_talk_never_mixes_devices(tiny_model, vad, monkeypatch):
    """The same talk as on the CPU, every tensor where the model is or brought back on purpose."""
    wanted = talk(pack_for_inference(copy.deepcopy(tiny_model)), vad)
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: generator())
    with PretendedDevice():
        model = pack_for_inference(copy.deepcopy(tiny_model).to("cuda"))
        assert {p.device for p in model.parameters()} == {DEVICE}
        found = talk(model, vad)
    assert not [event for event in found if isinstance(event, ev.Error)]
    assert [type(event) for event in found] == [type(event) for event in wanted]
    assert sum(isinstance(event, ev.ReplyDone) for event in found) >= 3
    for one, other in zip(found, wanted, strict=True):
        if isinstance(one, ev.AudioDelta):
            np.testing.assert_allclose(one.audio, other.audio, atol=1e-4)


def test_a_mixed_operation_raises():
    with PretendedDevice():
        on, off = torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
        assert (on.device, (2 * on[0]).device, off.to(on).device) == (DEVICE, DEVICE, DEVICE)
        assert on.cpu().device.type == "cpu" and (on + torch.tensor(1.0)).device == DEVICE
        for wrong in (
            lambda: on + off,
            lambda: torch.cat([on, off]),
            lambda: torch.nn.functional.linear(on, off),
            lambda: off[torch.zeros(1, dtype=torch.long, device="cuda")],
        ):
            with pytest.raises(RuntimeError, match="two devices"):
                wrong()
        with pytest.raises(TypeError, match="on a device"):
            on.numpy()
