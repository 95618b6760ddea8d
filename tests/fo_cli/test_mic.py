"""A talk with a file in place of the microphone; a microphone that is not there; load."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.devices.sound_card import SoundCard
from fo_core.errors import EngineError
from fo_core.models import freeze_omni

run = CliRunner().invoke
HEAR = [
    "--set", "duplex.vad=energy", "--set", "history_chunks=1",
    "--set", "duplex.turn.detect=server", "--set", "duplex.turn.silence_ms=300",
    "--set", "sampling.top_k=1", "--set", "speaker.sampling.top_k=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def mumbling(monkeypatch):
    """The tiny LLM says letters, so that there is something to speak."""
    load = freeze_omni.load

    def mumble(*args, **options):
        model = load(*args, **options)
        letters = "abcdefghijklmnopqrstuvwxyz ."
        ids = model.llm.tokenizer(letters, add_special_tokens=False)["input_ids"]
        silent = torch.ones(model.llm.vocab_size, dtype=torch.bool)
        silent[ids] = False
        with torch.no_grad():
            model.llm.embedding_table[silent] *= 0.01
        return model

    monkeypatch.setattr(freeze_omni, "load", mumble)


@pytest.fixture
def talk(tmp_path):
    """Two questions; the second begins soon after the first, so that it falls into its answer."""
    draw = np.random.default_rng(0)
    parts = []
    for quiet, loud in ((0.5, 0.6), (0.8, 0.6), (2.5, 0)):
        parts += [np.zeros(int(16000 * quiet)), 0.2 * draw.standard_normal(int(16000 * loud))]
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.concatenate(parts), 16000)
    return path


@pytest.mark.parametrize("pace", [["--fast"], []])
def test_a_talk_from_a_file(tiny_model, talk, tmp_path, pace):
    record = tmp_path / "kept"
    args = ["chat", "mic", "--model", str(tiny_model), "--input", str(talk), "--json", *pace]
    found = run(app, [*args, "--interrupt", "voice", "--record", str(record), *HEAR])
    assert found.exit_code == 0, found.stderr
    talked = json.loads(found.stdout)
    assert json.loads((record / "talk.json").read_text()) == talked
    first, second = talked["turns"]
    assert not talked["errors"] and first["ended_by"] == second["ended_by"] == "silence"
    assert first["answer"].startswith(first["kept"])
    assert first["interrupted"] == (first["played_samples"] < first["made_samples"])
    assert not second["interrupted"] and second["kept"] == second["answer"]
    user, rate = soundfile.read(record / "user.wav")
    bot, bot_rate = soundfile.read(record / "bot.wav")
    assert rate == 16000 and len(bot) / bot_rate == len(user) / rate >= 5
    played = sum(turn["played_samples"] for turn in talked["turns"])
    assert 0 < np.count_nonzero(bot) <= played
    for turn in talked["turns"]:
        if turn["played_samples"]:
            assert turn["response_ms"] >= turn["decision_ms"] > 0


def test_people_read_it_as_it_goes(tiny_model, talk):
    args = ["chat", "mic", "--model", str(tiny_model), "--input", str(talk), "--fast", *HEAR]
    found = run(app, args)
    assert found.exit_code == 0, found.stderr
    assert "you: " in found.stdout and "bot: " in found.stdout and "first audio" in found.stdout
    assert "answered" in found.stderr


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--model", "/no/such"], "does not exist"),
        (["--model", "M", "--fast"], "give --input FILE"),
        (["--model", "M", "--input", "/no/such.wav"], "does not exist"),
        (["--model", "M", "--input", "T", "--record", "/proc/no"], "/proc"),
        (["--model", "M", "--input", "T", "--set", "duplex.turn.detect=x"], "semantic"),
    ],
)
def test_bad_options_are_one_line(args, line, tiny_model, talk):
    args = [{"M": str(tiny_model), "T": str(talk)}.get(arg, arg) for arg in args]
    found = run(app, ["chat", "mic", *args])
    assert found.exit_code == 1, found.exception
    assert line in found.stderr and found.stderr.count("\n") == 1


def test_a_recording_is_not_written_over_while_it_is_heard(tiny_model, talk, tmp_path):
    heard = talk.rename(tmp_path / "user.wav")
    before = heard.read_bytes()
    args = ["chat", "mic", "--model", str(tiny_model), "--fast", "--input", str(heard)]
    found = run(app, [*args, "--record", str(tmp_path)])
    assert found.exit_code == 1 and "user.wav: that is what is read" in found.stderr
    assert heard.read_bytes() == before


@pytest.mark.parametrize(
    ("module", "line"),
    [("raise OSError('PortAudio library not found')", "libportaudio2"),
     ("raise ModuleNotFoundError(name='sounddevice')", "pip install sounddevice")],
)  # fmt: skip
def test_without_portaudio_it_says_what_to_install(module, line, tmp_path, monkeypatch):
    (tmp_path / "sounddevice.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    found = run(app, ["chat", "mic", "--device", "list"])
    assert found.exit_code == 1 and line in found.stderr and "--input FILE" in found.stderr


def card(streams: list) -> types.ModuleType:
    """PortAudio as it looks from here."""
    fake = types.ModuleType("sounddevice")

    class Stream:
        def __init__(self, rate, size, device, channels, kind, callback):
            if device == "none":
                raise ValueError("no such device")
            self.args, self.call, self.open = (rate, size, channels, kind), callback, False
            streams.append(self)

        def start(self):
            self.open = True

        def close(self):
            self.open = False

    fake.InputStream = fake.OutputStream = Stream
    fake.PortAudioError = RuntimeError
    fake.query_devices = lambda: [
        {"name": "desk", "max_input_channels": 1, "max_output_channels": 2}
    ]
    return fake


def test_the_sound_card(monkeypatch):
    streams: list = []
    monkeypatch.setitem(sys.modules, "sounddevice", card(streams))
    with SoundCard(lambda count: np.full(count, 0.5, np.float32), 24000) as sound:
        ear, mouth = streams
        assert ear.args == (16000, 320, 1, "float32") and mouth.args[:2] == (24000, 480)
        ear.call(np.full((320, 1), 0.1, np.float32), 320, None, None)
        out = np.zeros((480, 1), np.float32)
        mouth.call(out, 480, None, "underflow")
        assert out.min() == 0.5 and sound.lost == 1
        assert sound.blocks.get_nowait().shape == (320,)
    assert not ear.open and not mouth.open
    listed = run(app, ["chat", "mic", "--device", "list", "--json"])
    assert json.loads(listed.stdout)[0] == {
        "number": 0, "name": "desk", "inputs": 1, "outputs": 2,
    }  # fmt: skip


def test_a_device_that_does_not_start_is_refused_and_nothing_stays_open(monkeypatch):
    """PortAudio's own error came through, and the microphone stayed on."""
    streams: list = []
    fake = card(streams)

    class Busy(fake.InputStream):
        def start(self):
            raise fake.PortAudioError("device unavailable")

    fake.OutputStream = Busy
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    sound = SoundCard(lambda count: np.zeros(count, np.float32), 24000)
    with pytest.raises(EngineError, match=r"cannot be opened: device unavailable.*0 desk"), sound:
        raise AssertionError("it was entered")
    assert [stream.open for stream in streams] == [False, False]


def test_a_missing_device_is_one_line(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", card([]))
    args = ["chat", "mic", "--model", str(tiny_model), "--device", "none", "--headphones"]
    found = run(app, args)
    assert found.exit_code == 1 and "0 desk" in found.stderr and found.stderr.count("\n") == 1


def test_load(tiny_model, talk, tmp_path):
    wave, rate = soundfile.read(talk)
    soundfile.write(tmp_path / "q.wav", wave[: int(1.2 * rate)], rate)
    args = ["profile", "serve", str(tmp_path / "q.wav"), "--model", str(tiny_model)]
    args += ["--seconds", "6", "--slot", "3", "--sessions", "2", "--workers", "1", *HEAR]
    found = run(app, [*args, "--json"])
    assert found.exit_code == 0, found.stderr
    measured = json.loads(found.stdout)["runs"][0]
    assert measured["sessions"] == 2 and measured["replies"] == 4
    assert measured["missing"] == measured["differing"] == measured["out_of_order"] == 0
    assert measured["first_audio"][0] > 0 and measured["chunk_lag"][2] > 0
    assert len(measured["memory_mib"]) > 5
    refused = run(app, [*args[:5], "--slot", "1", "--seconds", "6"])
    assert refused.exit_code == 1 and "longer --slot" in refused.stderr
