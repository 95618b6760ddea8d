"""Whole recorded runs of the original, reproduced through the streaming engine."""

from __future__ import annotations

import wave as wave_file
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fo_core.config import replace
from fo_core.dialogue.answer import answer_wave
from fo_core.dialogue.session import DialogueConfig, Session
from fo_core.dialogue.settings import for_file, read_dialogue
from fo_core.dialogue.states import DialogueState, Event
from fo_core.dialogue.vocoder import pcm16
from fo_core.models import freeze_omni
from fo_core.sampling import SamplingConfig
from fo_core.streaming import CHUNK_SAMPLES

STATUS = {Event.KEEP: "cl", Event.ANSWER: "ss", Event.IGNORE: "el"}
GREEDY = SamplingConfig(temperature=0.8, top_k=1, top_p=0.8)


def read_pcm(path: Path) -> Tensor:
    """Samples [S] int16 of a mono PCM16 file."""
    with wave_file.open(str(path)) as file:
        data = bytearray(file.readframes(file.getnframes()))
    return torch.frombuffer(data, dtype=torch.int16).clone()


@dataclass
class Loaded:
    """A variant's model and its way of talking, both samplings greedy."""

    model: freeze_omni.FreezeOmni
    server: DialogueConfig
    file: DialogueConfig = field(init=False)

    def __post_init__(self) -> None:
        self.file = for_file(self.server)

    def chunks(self, path: Path) -> list[Tensor]:
        return list((read_pcm(path).float() / 32768).split(CHUNK_SAMPLES))


@pytest.fixture(scope="session")
def loaded(imported) -> Loaded:
    cfg = read_dialogue(imported)
    speaker = replace(cfg.speaker, sampling=replace(cfg.speaker.sampling, top_k=1))
    cfg = replace(cfg, sampling=GREEDY, speaker=speaker)
    return Loaded(freeze_omni.load(imported), cfg)


class Listening:
    """Hears a run's chunks and keeps what the recorded one kept."""

    def __init__(self, session: Session) -> None:
        self.session, self.spans = session, []
        self.encoded, self.adapted, self.hidden, self.probabilities = [], [], [], []
        self.status: list[str] = []
        hear, feed = session._listener.__class__.hear_features, session._feed

        def spy_feed(*vectors):
            before = session.length
            hidden = yield from feed(*vectors)
            self.spans.append((session.length - before, session.length, hidden))
            return hidden

        def spy_hear(listener, feats):
            heard = hear(listener, feats)
            self.encoded.append(heard.encoded[0])
            self.adapted.append(heard.embeds[0])
            return heard

        session._feed = spy_feed
        self.patch = (session._listener.__class__, "hear_features", spy_hear)

    def note(self, verdict) -> None:
        self.status.append(STATUS[verdict.event])
        p = verdict.probabilities
        self.probabilities.append([p.listen, p.answer, p.ignore])


def close(ours: Tensor, theirs: Tensor, share: float = 1e-5) -> None:
    """Within a share of the reference's largest magnitude."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=share * float(theirs.abs().max()))


def check_listening(seen: Listening, run) -> None:
    close(torch.stack(seen.encoded), run["enc_out"])
    close(torch.stack(seen.adapted), run["adapter_out"])
    hidden = torch.stack([hidden[0, 0] for _, _, hidden in seen.spans])
    close(hidden, run["chunk_hidden"])
    torch.testing.assert_close(
        torch.tensor(seen.probabilities), run["state_prob"], rtol=0, atol=1e-5
    )
    for (count, length, _), recorded in zip(seen.spans, run.json["chunks"], strict=True):
        assert (count, length) == (recorded["llm_tokens"], recorded["kv_len"])


def check_reply(session: Session, run, monkeypatch) -> list[Tensor]:
    """Answer, compare everything discrete, and return the pieces of audio."""
    hidden: list[Tensor] = []
    logits = session.model.llm.logits

    def spy(states):
        hidden.append(states[0])
        return logits(states)

    monkeypatch.setattr(session.model.llm, "logits", spy)
    events = list(session.reply())
    turn, recorded = session.turns[-1], run.json
    ids = run["gen_ids"].tolist()
    if recorded["gen"]["ended_by_eod"]:
        assert turn.answer.ended and ids.pop() == session.model.llm.end_id
    assert turn.answer.token_ids == ids
    close(torch.stack(hidden), run["gen_hidden"])
    torch.testing.assert_close(
        logits(torch.stack(hidden[:4])), run["gen_logits_head"], rtol=0, atol=1e-4
    )
    assert session.length == recorded["gen"]["kv_len"][-1]
    assert turn.answer.text == recorded["whole_text"]
    assert len(turn.parts) == len(recorded["sentences"])
    for index, (part, sentence) in enumerate(zip(turn.parts, recorded["sentences"], strict=True)):
        segment = part.segment
        assert segment.text_raw == sentence["text_raw"]
        assert segment.text == sentence["text_post"]
        assert segment.token_ids == sentence["text_ids"]
        assert segment.stop - segment.start == sentence["n_hidden_states"]
        text, prefix = session.speaker.inputs(part)
        assert text.shape[1] == sentence["hidden_vectors"]
        assert prefix.shape[1] == sentence["prefix_vectors"]
        close(text[0, :4], run[f"s{index}.hidden_head"])
        close(prefix[0, :4], run[f"s{index}.prefix_head"])
        tokens = session.speaker.parts[index].tokens
        assert tokens == run[f"s{index}.speech_tokens"].tolist()
    texts = [event.text for event in events if event.kind == "text"]
    assert texts == [sentence["text_raw"] for sentence in recorded["sentences"]]
    return [event.audio for event in events if event.kind == "audio"]


def check_offline(loaded: Loaded, variant, which: str, monkeypatch) -> Tensor:
    run = variant.run(f"run_{which}")
    session = Session(loaded.model, loaded.file, run.json["role"])
    assert session.length == run.json["system"]["kv_len"]
    seen = Listening(session)
    monkeypatch.setattr(*seen.patch)
    if which == "a":
        for chunk in loaded.chunks(variant.input_wave):
            seen.note(session.listen(chunk))
    else:
        for feats in variant.fbank(which):
            seen.note(session.listen_features(feats[None, 3:]))
    session.end_turn()
    check_listening(seen, run)
    assert seen.status == [chunk["stat"] for chunk in run.json["chunks"]]
    pieces = check_reply(session, run, monkeypatch)
    yields = [count for sentence in run.json["sentences"] for count in sentence["yields"]]
    assert [piece.numel() for piece in pieces] == yields
    audio = torch.cat(pieces)
    recorded = read_pcm(variant.root / f"out_{which}.wav")
    ours = (audio * 32768).floor().clamp(-32768, 32767)
    assert ours.shape == recorded.shape and float((ours - recorded).abs().max()) <= 1
    return audio


def test_run_a_wave_to_wave(loaded, golden_variant, monkeypatch):
    audio = check_offline(loaded, golden_variant, "a", monkeypatch)
    close(audio, golden_variant.run("run_a")["wave"])


def test_run_b_features_to_wave(loaded, golden_variant, monkeypatch):
    check_offline(loaded, golden_variant, "b", monkeypatch)


def test_run_c_server(loaded, golden_variant, monkeypatch):
    run = golden_variant.run("run_c")
    chunks = loaded.chunks(golden_variant.input_wave)
    session = Session(loaded.model, loaded.server, run.json["role"])
    seen = Listening(session)
    monkeypatch.setattr(*seen.patch)
    history = run.json["n_history_chunks"]
    assert loaded.server.history_chunks == history
    for verdict in session.start(chunks[:history]):
        seen.note(verdict)
    stop = history
    for stop, chunk in enumerate(chunks[history:], history):  # noqa: B007
        seen.note(session.listen(chunk))
        if session.state is not DialogueState.LISTENING:
            break
    check_listening(seen, run)
    assert len(seen.status) == len(run.json["consumed_chunks"])
    assert seen.status == [chunk["stat"] for chunk in run.json["chunks"]]
    assert stop == run.json["stop_chunk"] and seen.status[-1] == run.json["final_stat"]
    if run.json["final_stat"] != "ss":
        assert session.state is DialogueState.IDLE
        return
    pieces = check_reply(session, run, monkeypatch)
    assert [piece.numel() for piece in pieces] == run.json["sent_lens"]
    pcm = pcm16(torch.cat(pieces))
    assert int((pcm.int() - run["pcm"].int()).abs().max()) <= 1


def test_run_d_two_turns(loaded, golden_variant, monkeypatch):
    run = golden_variant.run("run_d")
    chunks = loaded.chunks(golden_variant.input_wave)
    session = Session(loaded.model, loaded.file, run.json["role"])
    logits = session.model.llm.logits
    for index, turn in enumerate(run.json["turns"]):
        segmenter = replace(loaded.file.segmenter, max_tokens=turn["max_new_tokens"])
        session.cfg = replace(loaded.file, segmenter=segmenter)
        first, last = turn["chunks"]
        verdicts = [session.listen(chunk).probabilities for chunk in chunks[first:last]]
        ours = torch.tensor([[p.listen, p.answer, p.ignore] for p in verdicts])
        torch.testing.assert_close(ours, run[f"t{index}.prob"], rtol=0, atol=1e-5)
        session.end_turn()
        hidden: list[Tensor] = []
        monkeypatch.setattr(
            session.model.llm,
            "logits",
            lambda states, to=hidden: (to.append(states[0]), logits(states))[1],
        )
        assert all(event.kind == "text" for event in session.reply(speak=False))
        answer = session.turns[-1].answer
        assert answer.token_ids == turn["ids"]
        assert answer.ended == (turn["end"] == "sl")
        close(torch.stack(hidden), run[f"t{index}.hidden"])
        assert session.length == turn["kv_len"]


def test_answering_a_file_gives_the_recorded_wave(loaded, golden_variant):
    """What ``fo chat file`` does with an imported model."""
    run = golden_variant.run_json("run_a")
    wave = torch.cat(loaded.chunks(golden_variant.input_wave))
    answer = answer_wave(loaded.model, wave, loaded.server, run["role"])
    recorded = read_pcm(golden_variant.root / "out_a.wav")
    assert answer.text == run["whole_text"]
    assert float(((answer.wave * 32768).floor() - recorded).abs().max()) <= 1
    assert answer.timings.chunks == len(run["chunks"]) and answer.ended_by == "input-end"
