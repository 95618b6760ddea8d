"""Whole recorded runs of the original, reproduced through the streaming engine."""

from __future__ import annotations

import wave as wave_file
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from recorded_features import listen_to
from rounding import Bound, bounds, near
from torch import Tensor
from two_turns import Ended

from fo_core.config import replace
from fo_core.dialogue.answer import answer_wave
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.session import DialogueConfig, Session
from fo_core.dialogue.settings import for_file, read_dialogue
from fo_core.dialogue.states import DialogueState, Event
from fo_core.dialogue.vocoder import pcm16
from fo_core.features import KaldiFbank
from fo_core.models import freeze_omni
from fo_core.sampling import SamplingConfig
from fo_core.streaming import CHUNK_SAMPLES, CONTEXT_FRAMES

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
    double: freeze_omni.FreezeOmni  # a copy in float64
    server: DialogueConfig
    file: DialogueConfig = field(init=False)
    allowed: dict[str, dict[str, Bound]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = for_file(self.server)

    def chunks(self, path: Path) -> list[Tensor]:
        return list((read_pcm(path).float() / 32768).split(CHUNK_SAMPLES))

    def bounds(self, variant, which: str) -> dict[str, Bound]:
        """Of the tensors of run a or b; c and d hear the wave of a."""
        if which not in self.allowed:
            self.allowed[which] = bounds(lambda: float64_run(self, variant, which))
        return self.allowed[which]


@pytest.fixture(scope="session")
def loaded(imported) -> Loaded:
    cfg = read_dialogue(imported)
    speaker = replace(cfg.speaker, sampling=replace(cfg.speaker.sampling, top_k=1))
    cfg = replace(cfg, sampling=GREEDY, speaker=speaker)
    return Loaded(freeze_omni.load(imported), freeze_omni.load(imported).double(), cfg)


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


def listened(seen: Listening) -> dict[str, Tensor]:
    """What a run recorded of the input branch."""
    return {
        "enc_out": torch.stack(seen.encoded),
        "adapter_out": torch.stack(seen.adapted),
        "chunk_hidden": torch.stack([hidden[0, 0] for _, _, hidden in seen.spans]),
        "state_prob": torch.tensor(seen.probabilities, dtype=torch.float64),
    }


@torch.inference_mode()
def float64_run(loaded: Loaded, variant, which: str) -> dict[str, Tensor]:
    """A run in float64, its wave from the recorded speech tokens (whole, not in pieces)."""
    run, model = variant.run(f"run_{which}"), loaded.double
    model.features = KaldiFbank().double()  # its filters are computed anew, with their rounding
    session, states = Session(model, loaded.file, run.json["role"]), []
    seen, logits = Listening(session), model.llm.logits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*seen.patch)
        patch.setattr(model.llm, "logits", lambda h: (states.append(h[0]), logits(h))[1])
        if which == "a":
            for chunk in loaded.chunks(variant.input_wave):
                seen.note(session.listen(chunk))
        else:
            for feats in variant.fbank(which):
                seen.note(listen_to(session, feats[None, 3:].double()))
        session.end_turn()
        list(session.reply(speak=False))
    spoken = [run[f"s{i}.speech_tokens"] for i in range(len(run.json["sentences"]))]
    wave = model.codec.decode(torch.cat(spoken).view(1, -1, 1), model.voice())
    hidden = torch.stack(states)
    head = logits(hidden[:4])
    return listened(seen) | {"gen_hidden": hidden, "gen_logits_head": head, "wave": wave}


def check_listening(seen: Listening, run, allowed: dict[str, Bound]) -> None:
    for name, found in listened(seen).items():
        near(found, run[name], allowed[name], name)
    for (count, length, _), recorded in zip(seen.spans, run.json["chunks"], strict=True):
        assert (count, length) == (recorded["llm_tokens"], recorded["kv_len"])


def check_reply(session: Session, run, allowed: dict[str, Bound], monkeypatch) -> list[Tensor]:
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
    near(torch.stack(hidden), run["gen_hidden"], allowed["gen_hidden"], "gen_hidden")
    head = logits(torch.stack(hidden[:4]))
    near(head, run["gen_logits_head"], allowed["gen_logits_head"], "gen_logits_head")
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
        assert torch.equal(text[0, :4], run[f"s{index}.hidden_head"])
        near(prefix[0, :4], run[f"s{index}.prefix_head"], allowed["gen_hidden"], "prefix")
        tokens = session.speaker.parts[index].tokens
        assert tokens == run[f"s{index}.speech_tokens"].tolist()
    texts = [event.text for event in events if event.kind == "text"]
    assert texts == [sentence["text_raw"] for sentence in recorded["sentences"]]
    return [event.audio for event in events if event.kind == "audio"]


def check_offline(loaded: Loaded, variant, which: str, monkeypatch) -> Tensor:
    run, allowed = variant.run(f"run_{which}"), loaded.bounds(variant, which)
    session = Session(loaded.model, loaded.file, run.json["role"])
    assert session.length == run.json["system"]["kv_len"]
    seen = Listening(session)
    monkeypatch.setattr(*seen.patch)
    if which == "a":
        for chunk in loaded.chunks(variant.input_wave):
            seen.note(session.listen(chunk))
    else:
        for feats in variant.fbank(which):
            seen.note(listen_to(session, feats[None, 3:]))
    session.end_turn()
    check_listening(seen, run, allowed)
    assert seen.status == [chunk["stat"] for chunk in run.json["chunks"]]
    pieces = check_reply(session, run, allowed, monkeypatch)
    yields = [count for sentence in run.json["sentences"] for count in sentence["yields"]]
    assert [piece.numel() for piece in pieces] == yields
    audio = torch.cat(pieces)
    recorded = read_pcm(variant.root / f"out_{which}.wav")
    ours = (audio * 32768).floor().clamp(-32768, 32767)
    assert ours.shape == recorded.shape and float((ours - recorded).abs().max()) <= 1
    return audio


def test_run_a_wave_to_wave(loaded, golden_variant, monkeypatch):
    audio = check_offline(loaded, golden_variant, "a", monkeypatch)
    allowed = loaded.bounds(golden_variant, "a")
    near(audio, golden_variant.run("run_a")["wave"], allowed["wave"], "wave")


def test_run_b_features_to_wave(loaded, golden_variant, monkeypatch):
    check_offline(loaded, golden_variant, "b", monkeypatch)


def only_features(listener: Listener, chunk: Tensor) -> None:
    """A slip of the published server: only the features of the next chunk see this one [2560]."""
    step = listener._model.features.step
    feats, listener._features = step(chunk.unsqueeze(0), listener._features)
    listener._carry(feats[:, -CONTEXT_FRAMES:])


def test_run_c_server(loaded, golden_variant, monkeypatch):
    run, allowed = golden_variant.run("run_c"), loaded.bounds(golden_variant, "a")
    chunks = loaded.chunks(golden_variant.input_wave)
    session = Session(loaded.model, loaded.server, run.json["role"])
    seen = Listening(session)
    monkeypatch.setattr(*seen.patch)
    history = run.json["n_history_chunks"]
    assert loaded.server.history_chunks == history
    for index, chunk in enumerate(chunks[:history]):
        if index == 1 and seen.status[0] != "cl":
            only_features(session._listener, chunk)
        else:
            seen.note(session.listen(chunk, may_end=False))
    stop = history
    for stop, chunk in enumerate(chunks[history:], history):  # noqa: B007
        seen.note(session.listen(chunk))
        if session.state is not DialogueState.LISTENING:
            break
    check_listening(seen, run, allowed)
    assert len(seen.status) == len(run.json["consumed_chunks"])
    assert seen.status == [chunk["stat"] for chunk in run.json["chunks"]]
    assert stop == run.json["stop_chunk"] and seen.status[-1] == run.json["final_stat"]
    if run.json["final_stat"] != "ss":
        assert session.state is DialogueState.IDLE
        return
    pieces = check_reply(session, run, allowed, monkeypatch)
    assert [piece.numel() for piece in pieces] == run.json["sent_lens"]
    pcm = pcm16(torch.cat(pieces))
    assert int((pcm.int() - run["pcm"].int()).abs().max()) <= 1


@pytest.mark.parametrize("end", ["cut", "ended"])
def test_run_d_two_turns(loaded, golden_variant, end, monkeypatch):
    run, allowed = golden_variant.run("run_d"), loaded.bounds(golden_variant, "a")
    chunks = loaded.chunks(golden_variant.input_wave)
    session = Session(loaded.model, loaded.file, run.json["role"])
    logits = session.model.llm.logits
    if end == "ended":
        run = Ended(run, golden_variant.meta["eod_id"])
        logits = run.head(logits)
    for index, turn in enumerate(run.json["turns"]):
        segmenter = replace(loaded.file.segmenter, max_tokens=turn["max_new_tokens"])
        session.cfg = replace(loaded.file, segmenter=segmenter)
        first, last = turn["chunks"]
        verdicts = [session.listen(chunk).probabilities for chunk in chunks[first:last]]
        ours = torch.tensor([[p.listen, p.answer, p.ignore] for p in verdicts])
        near(ours, run[f"t{index}.prob"], allowed["state_prob"], f"t{index}.prob")
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
        # A step that gave the end token is in the cache's length, and in neither ids nor states.
        assert len(hidden) == len(turn["ids"]) + answer.ended
        states = torch.stack(hidden[: len(turn["ids"])])
        near(states, run[f"t{index}.hidden"], allowed["gen_hidden"], f"t{index}.hidden")
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
