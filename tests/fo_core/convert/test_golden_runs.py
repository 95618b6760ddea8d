"""Whole recorded runs of the original, reproduced by the dialogue that users talk to."""

from __future__ import annotations

import wave as wave_file
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from recorded_features import Voice, recorded_features
from rounding import Bound, bounds, near, pcm16
from torch import Tensor
from two_turns import Ended

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.drivers.answer import answer_wave
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.settings import DialogueConfig, for_file, read_dialogue
from fo_core.dialogue.speech.speaker import Speaker
from fo_core.dialogue.speech.writer import Part
from fo_core.dialogue.states import DialogueState, Event, StateProbabilities, decide
from fo_core.features import KaldiFbank
from fo_core.models import freeze_omni
from fo_core.sampling import SamplingConfig
from fo_core.streaming import CHUNK_SAMPLES, CONTEXT_FRAMES

STATUS = {Event.CONTINUE: "cl", Event.RESPOND: "ss", Event.DISMISS: "el"}
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


class Recorded:
    """A dialogue that hears a run's chunks and keeps what the recorded one kept."""

    def __init__(self, model, cfg: DialogueConfig, role: str, patch, speak: bool = True) -> None:
        self.duplex = Duplex(model, cfg, system=role, speak=speak, vad=Voice(), eager=True)
        self.cfg, self.events, self.spans = cfg, list(self.duplex.run()), []
        self.length = self.duplex.conversation.length
        self.encoded, self.adapted, self.chunks = [], [], []
        said, hear = self.duplex.conversation, Listener.hear_features

        def spy(feed):
            def spied(*vectors):
                before = said.length
                hidden = yield from feed(*vectors)
                self.spans.append((said.length - before, said.length, hidden))
                return hidden

            return spied

        def spy_hear(listener, feats):
            heard = hear(listener, feats)
            self.encoded.append(heard.encoded[0])
            self.adapted.append(heard.embeds[0])
            return heard

        self.parts: list[Part] = []  # pieces that were spoken
        begin = Speaker.begin

        def spy_begin(speaker, part):
            self.parts.append(part)
            return begin(speaker, part)

        patch.setattr(Speaker, "begin", spy_begin)
        self.hidden: list[Tensor] = []  # the LLM's states that gave tokens
        llm, self.logits = model.llm, model.llm.logits
        note, logits = self.hidden.append, self.logits
        patch.setattr(llm, "logits", lambda states: (note(states[0]), logits(states))[1])
        patch.setattr(said, "_feed", spy(said._feed))
        patch.setattr(said, "_follow", spy(said._follow))
        patch.setattr(Listener, "hear_features", spy_hear)

    def hear(self, chunk: Tensor, feats: Tensor | None = None) -> None:
        """160 ms of sound, or of features in their place."""
        self.duplex.push(chunk)
        self._take(feats)

    def _take(self, feats: Tensor | None) -> None:
        with recorded_features(self.duplex.model, feats):
            found = list(self.duplex.run())
        self.chunks += [e for e in found if isinstance(e, ev.ChunkState)]
        self.events += found

    def hear_all(self, loaded: Loaded, variant, which: str) -> None:
        if which == "a":
            for chunk in loaded.chunks(variant.input_wave):
                self.hear(chunk)
        else:
            for feats in variant.fbank(which):
                self.hear(torch.zeros(CHUNK_SAMPLES), feats[None, 3:])

    def status(self, rule) -> list[str]:
        """What the state head's probabilities mean by a rule, chunk by chunk."""
        seen = [StateProbabilities(e.continue_, e.respond, e.dismiss) for e in self.chunks]
        return [STATUS[decide(rule, [one])] for one in seen]

    def listened(self) -> dict[str, Tensor]:
        """What a run recorded of the listening side."""
        states = [[e.continue_, e.respond, e.dismiss] for e in self.chunks]
        hidden = [hidden[0, 0] for _, _, hidden in self.spans[: len(states)]]
        return {
            "enc_out": torch.stack(self.encoded),
            "adapter_out": torch.stack(self.adapted),
            "chunk_hidden": torch.stack(hidden),
            "state_prob": torch.tensor(states, dtype=torch.float64),
        }

    def answer(self) -> None:
        """End the turn and answer it."""
        self.duplex.send(do.Commit())
        self._take(None)


@torch.inference_mode()
def float64_run(loaded: Loaded, variant, which: str) -> dict[str, Tensor]:
    """A run in float64, its wave from the recorded speech tokens (whole, not in pieces)."""
    run, model = variant.run(f"run_{which}"), loaded.double
    model.features = KaldiFbank().double()  # its filters are computed anew, with their rounding
    with pytest.MonkeyPatch.context() as patch:
        seen = Recorded(model, loaded.file, run.json["role"], patch, speak=False)
        seen.hear_all(loaded, variant, which)
        seen.answer()
    spoken = [run[f"s{i}.speech_tokens"] for i in range(len(run.json["sentences"]))]
    wave = model.codec.decode(torch.cat(spoken).view(1, -1, 1), model.voice())
    hidden = torch.stack(seen.hidden)
    head = seen.logits(hidden[:4])
    return seen.listened() | {"gen_hidden": hidden, "gen_logits_head": head, "wave": wave}


def check_listening(seen: Recorded, run, allowed: dict[str, Bound]) -> None:
    for name, found in seen.listened().items():
        near(found, run[name], allowed[name], name)
    chunks = run.json["chunks"]
    for (count, length, _), recorded in zip(seen.spans[: len(chunks)], chunks, strict=True):
        assert (count, length) == (recorded["llm_tokens"], recorded["kv_len"])


def check_reply(seen: Recorded, run, allowed: dict[str, Bound]) -> list[Tensor]:
    """Compare everything discrete of the answer, and return the pieces of audio."""
    said, reply = seen.duplex.conversation, seen.duplex.engine.reply
    llm = said.model.llm
    turn, recorded = said.turns[-1], run.json
    ids = run["gen_ids"].tolist()
    if recorded["gen"]["ended_by_eod"]:
        assert turn.answer.ended and ids.pop() == llm.end_id
    assert turn.answer.token_ids == ids
    near(torch.stack(seen.hidden), run["gen_hidden"], allowed["gen_hidden"], "gen_hidden")
    head = seen.logits(torch.stack(seen.hidden[:4]))
    near(head, run["gen_logits_head"], allowed["gen_logits_head"], "gen_logits_head")
    assert said.length == recorded["gen"]["kv_len"][-1]
    assert turn.answer.text == recorded["whole_text"]
    assert turn.pieces == [part.segment for part in seen.parts]
    for index, (part, sentence) in enumerate(zip(seen.parts, recorded["sentences"], strict=True)):
        segment = part.segment
        assert segment.text_raw == sentence["text_raw"]
        assert segment.text == sentence["text_post"]
        assert segment.token_ids == sentence["text_ids"]
        assert segment.stop - segment.start == sentence["n_hidden_states"]
        text, prefix = reply.speaker.inputs(part)
        assert text.shape[1] == sentence["hidden_vectors"]
        assert prefix.shape[1] == sentence["prefix_vectors"]
        assert torch.equal(text[0, :4], run[f"s{index}.hidden_head"])
        near(prefix[0, :4], run[f"s{index}.prefix_head"], allowed["gen_hidden"], "prefix")
        tokens = reply.speaker.parts[index].tokens
        assert tokens == run[f"s{index}.speech_tokens"].tolist()
    texts = [event.text for event in seen.events if isinstance(event, ev.TextDelta)]
    assert texts == [sentence["text_raw"] for sentence in recorded["sentences"]]
    return [torch.from_numpy(e.audio) for e in seen.events if isinstance(e, ev.AudioDelta)]


def check_offline(loaded: Loaded, variant, which: str, monkeypatch) -> Tensor:
    run, allowed = variant.run(f"run_{which}"), loaded.bounds(variant, which)
    seen = Recorded(loaded.model, loaded.file, run.json["role"], monkeypatch)
    assert seen.length == run.json["system"]["kv_len"]
    seen.hear_all(loaded, variant, which)
    seen.answer()
    check_listening(seen, run, allowed)
    assert seen.status(loaded.server.states) == [c["stat"] for c in run.json["chunks"]]
    pieces = check_reply(seen, run, allowed)
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
    """The chunks before the voice cannot end the turn; the state head ends it after them."""
    run, allowed = golden_variant.run("run_c"), loaded.bounds(golden_variant, "a")
    history, server = run.json["n_history_chunks"], loaded.server
    assert server.history_chunks == history
    skips = run.json["chunks"][0]["stat"] != "cl"
    rule = replace(server.states, min_chunks=history - skips + 1)
    turn = replace(server.duplex.turn, detect="file")
    cfg = replace(server, states=rule, duplex=replace(server.duplex, turn=turn))
    seen, stop = Recorded(loaded.model, cfg, run.json["role"], monkeypatch), 0
    for stop, chunk in enumerate(loaded.chunks(golden_variant.input_wave)):  # noqa: B007
        if stop == 1 and skips:
            only_features(seen.duplex.conversation.listener, chunk)
            continue
        seen.hear(chunk)
        if any(isinstance(event, ev.TurnEnded) for event in seen.events):
            break
    check_listening(seen, run, allowed)
    status = seen.status(server.states)
    assert len(status) == len(run.json["consumed_chunks"])
    assert status == [chunk["stat"] for chunk in run.json["chunks"]]
    assert stop == run.json["stop_chunk"] and status[-1] == run.json["final_stat"]
    if run.json["final_stat"] != "ss":
        assert seen.duplex.state is DialogueState.IDLE
        return
    pieces = check_reply(seen, run, allowed)
    assert [piece.numel() for piece in pieces] == run.json["sent_lens"]
    pcm = pcm16(torch.cat(pieces))
    assert int((pcm.int() - run["pcm"].int()).abs().max()) <= 1


@pytest.mark.parametrize("end", ["cut", "ended"])
def test_run_d_two_turns(loaded, golden_variant, end, monkeypatch):
    run, allowed = golden_variant.run("run_d"), loaded.bounds(golden_variant, "a")
    chunks, llm = loaded.chunks(golden_variant.input_wave), loaded.model.llm
    if end == "ended":
        run = Ended(run, golden_variant.meta["eod_id"])
        monkeypatch.setattr(llm, "logits", run.head(llm.logits))
    cfg = replace(loaded.file, segmenter=replace(loaded.file.segmenter, max_tokens=10_000))
    seen = Recorded(loaded.model, cfg, run.json["role"], monkeypatch, speak=False)
    for index, turn in enumerate(run.json["turns"]):
        seen.duplex.send(do.Configure(max_tokens=turn["max_new_tokens"]))
        first, last = turn["chunks"]
        seen.chunks.clear()
        seen.hidden.clear()
        for chunk in chunks[first:last]:
            seen.hear(chunk)
        ours = torch.tensor([[e.continue_, e.respond, e.dismiss] for e in seen.chunks])
        near(ours, run[f"t{index}.prob"], allowed["state_prob"], f"t{index}.prob")
        seen.answer()
        answer = seen.duplex.conversation.turns[-1].answer
        assert answer.token_ids == turn["ids"]
        assert answer.ended == (turn["end"] == "sl")
        # A step that gave the end token is in the cache's length, and in neither ids nor states.
        assert len(seen.hidden) == len(turn["ids"]) + answer.ended
        states = torch.stack(seen.hidden[: len(turn["ids"])])
        near(states, run[f"t{index}.hidden"], allowed["gen_hidden"], f"t{index}.hidden")
        assert seen.duplex.conversation.length == turn["kv_len"]


def test_answering_a_file_gives_the_recorded_wave(loaded, golden_variant):
    """What ``fo chat file`` does with an imported model."""
    run = golden_variant.run_json("run_a")
    wave = torch.cat(loaded.chunks(golden_variant.input_wave))
    answer = answer_wave(loaded.model, wave, loaded.server, run["role"])
    recorded = read_pcm(golden_variant.root / "out_a.wav")
    assert answer.text == run["whole_text"]
    assert float(((answer.wave * 32768).floor() - recorded).abs().max()) <= 1
    assert answer.timings.chunks == len(run["chunks"]) and answer.ended_by == "input-end"
