"""What the losses read is what a live session sees: chunk counts, partial words, LLM states."""

import dataclasses
from functools import partial

import pytest
import tiny_models
import torch

from fo_core.data.collate import find_task
from fo_core.dialogue.conversation import Conversation, new_prefixes
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.settings import DialogueConfig
from fo_core.errors import DataError
from fo_core.models.llm.chat import encode
from fo_core.models.steps import drive
from fo_core.training.cache import ItemCache, one_item
from fo_core.training.loop import run_stage
from fo_core.training.losses.error_rate import token_errors, word_errors, words
from fo_core.training.losses.listening import (
    SpecAugmentConfig,
    encode_speech,
    spec_augment,
    speech_vectors,
    vectors_per_chunk,
)
from fo_core.training.losses.llm_rows import (
    earlier_turns,
    pack,
    run,
    run_with_partials,
    text_divergence,
)
from fo_core.training.recipes import recipe
from fo_core.training.stages.input_2 import TranscriptLoss
from fo_core.training.stages.input_3 import AnswerLoss, listen_once
from fo_core.training.stages.output_1 import whole_tokens
from fo_core.training.stages.output_3 import answer_states


def batch_of(items, task="states"):
    found = find_task(task)
    rate = found.rate or 16000
    return found.collate([(item, item.load_audio(rate)) for item in items])


def model_with(llm, **parts):
    return tiny_models.tiny_model(llm=llm, **parts)


CTC = {"adapter": {"type": "ctc", "max_run": 2}, "state_head": {"gru": 16}}


@pytest.mark.parametrize("parts", [{}, CTC])
@torch.no_grad()
def test_chunk_counts_are_those_of_the_stream(parts, tiny_llm, data):
    model = model_with(tiny_llm, **parts)
    batch = batch_of(data[0][0][:4])
    heard = encode_speech(model, batch, "fixed", ctc=model.adapter.requires_ctc)
    counts, partials = vectors_per_chunk(model, heard)
    vectors = speech_vectors(model, heard)
    for row, item in enumerate(batch["items"]):
        wave = torch.from_numpy(item.load_audio(16000))[None]
        features, encoder = model.features.init_state(1), model.speech_encoder.init_state(1)
        adapter, seen, made, held = model.adapter.init_state(1), [], [], []
        for start in range(0, wave.shape[1], 2560):
            piece = wave[:, start : start + 2560]
            piece = torch.nn.functional.pad(piece, (0, 2560 - piece.shape[1]))
            feats, features = model.features.step(piece, features)
            frames, encoder = model.speech_encoder.step(feats, encoder)
            logits = model.ctc_head(frames) if model.adapter.requires_ctc else None
            embeds, lens, adapter = model.adapter.step(frames, adapter, logits)
            made.append(embeds[0, : int(lens)])
            seen.append(sum(len(m) for m in made))
            words = model.adapter.requires_ctc
            held.append(model.adapter.flush(adapter)[0][0] if words else embeds[0, :0])
        made.append(model.adapter.flush(adapter)[0][0])
        assert counts[row, : len(seen)].tolist() == seen
        assert (counts[row, len(seen) :] == seen[-1]).all()
        assert torch.allclose(torch.cat(made), vectors[row], atol=1e-4)
        for ours, theirs in zip(partials[row], held, strict=False):
            assert torch.allclose(ours, theirs, atol=1e-4)
        assert not any(len(each) for each in partials[row][len(held) :])


@torch.no_grad()
def test_a_partial_is_read_as_in_a_session_and_leaves_no_trace(tiny_llm):
    torch.manual_seed(0)
    model = model_with(tiny_llm)
    vectors = [torch.randn(5, 64), torch.randn(3, 64)]
    answers = [encode(tiny_llm.tokenizer, "abc"), encode(tiny_llm.tokenizer, "de")]
    prompt = model.prompt(1)[0]
    rows = pack(model, [model.chat] * 2, vectors, prompt, answers)
    seen = torch.tensor([[0, 2, 2, 5], [0, 0, 1, 3]])
    partials = [[torch.randn(n, 64) for n in row] for row in ([1, 0, 2, 1], [0, 2, 0])]
    plain = run(model, rows)
    hidden, at_chunks = run_with_partials(model, rows, seen, partials)
    opening = tiny_llm.embed([*model.chat.system_ids, *model.chat.opening(True)])
    for row in range(2):
        length = int(rows.lens[row])
        assert torch.allclose(hidden[row, :length], plain[row, :length], atol=1e-5)
        before = torch.cat([opening, prompt[None]], 1)
        for chunk in range(4):
            state = tiny_llm.init_state(1, 64)
            held = [before, vectors[row][None, : int(seen[row, chunk])]]
            held += [partials[row][chunk][None]] if chunk < len(partials[row]) else []
            read, _ = tiny_llm.step(torch.cat(held, 1), state)
            assert torch.allclose(read[0, -1], at_chunks[row, chunk], atol=1e-5)


WORDS = {
    "adapter": {"type": "words"},
    "ctc": {"vocabulary": "pieces", "tokens": (), "pieces": (" ", *"abcdefghij")},
    "state_head": {"gru": 16},
}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("parts", [{}, CTC, WORDS])
@torch.no_grad()
def test_a_session_hears_the_states_that_training_saw(parts, alone, tiny_llm, data):
    torch.manual_seed(3)
    model = model_with(tiny_llm, **parts).eval()
    item = dataclasses.replace(data[0][0][0], messages=())
    batch = batch_of([item])
    batch = ItemCache(partial(listen_once, llm=alone)).fill(model, batch)
    trained = AnswerLoss(answers=not alone).logits(model, batch)[0].softmax(-1)
    if parts is WORDS:
        held = vectors_per_chunk(model, encode_speech(model, batch, "fixed", ctc=True))[1][0]
        assert any(len(each) for each in held), "some chunk ends inside of a word"
    talk = Conversation(model, DialogueConfig())
    drive(talk.refeed(64, new_prefixes()))
    talk.begin(0)
    for chunk, expected in zip(batch["wave"][0].split(2560), trained, strict=False):
        p = drive(talk.hear(chunk))
        found = torch.tensor([p.continue_, p.respond, p.dismiss])
        torch.testing.assert_close(found, expected, atol=3e-3 if alone and parts else 1e-4, rtol=0)


@torch.no_grad()
def test_rows_predict_the_answer_and_its_end(tiny_llm):
    model = model_with(tiny_llm)
    answer = encode(tiny_llm.tokenizer, "ab")
    rows = pack(model, [model.chat] * 2, [torch.randn(3, 64)] * 2, None, [answer, None])
    wanted = [*answer, model.chat.end_id]
    length = int(rows.lens[0])
    assert rows.targets[0, length - 3 : length].tolist() == wanted
    assert (rows.targets[0, : length - 3] == -1).all() and (rows.targets[1] == -1).all()
    hidden = run(model, rows)
    state = tiny_llm.init_state(1, 64)
    ids = [*model.chat.system_ids, *model.chat.opening(True)]
    own = int(rows.speech[0])  # of the opening that stand in the row
    _, state = tiny_llm.step(tiny_llm.embed(ids[:-own]), state)
    stepped, _ = tiny_llm.step(rows.embeds[:1, :length], state)
    assert torch.allclose(stepped, hidden[:1, :length], atol=1e-5)


@pytest.mark.parametrize("parts", [{}, CTC])
def test_input_3_counts_items_without_an_answer_for_states_only(parts, tiny_llm, data):
    model = model_with(tiny_llm, **parts)
    batch = batch_of(data[0][0][:3])
    batch = ItemCache(listen_once).fill(model, batch)
    loss = AnswerLoss()
    whole = loss(model, batch)
    assert set(whole) == {
        "loss", "answer_loss", "answer_accuracy", "state_loss", "state_accuracy",
    }  # fmt: skip
    silent = loss(model, batch | {"answer": ["", "", ""]})
    assert "answer_loss" not in silent
    assert torch.allclose(silent["state_loss"], whole["state_loss"], atol=1e-5)
    blind = loss(model, batch | {"states": torch.full_like(batch["states"], -1)})
    assert "state_loss" not in blind
    whole["loss"].backward()
    assert model.prompt.weight.grad.abs().sum() > 0
    assert model.state_head.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.llm.parameters())


@pytest.mark.parametrize(
    ("name", "term"), [("input-2", "kl"), ("input-3", "kl"), ("input-2", "answer_kl")]
)
def test_divergence_from_text_falls_while_it_trains(name, term, tiny_llm, data, tmp_path):
    model = model_with(tiny_llm)
    model.trained |= {"speech_encoder", "adapter"}
    sets = [f"stage.{term}=1.0", "train.max_steps=8", "train.curves=false", "stage.optim.lr=1e-2"]
    cfg = recipe(name, "tiny", overrides=sets)
    train, held_out = data[0][0], data[1][0]
    found = run_stage(
        model, cfg.stage.build(), cfg.train, train, held_out, tmp_path, progress=False
    )
    rows = [row[f"val_{term}"] for row in found.history if f"val_{term}" in row]
    assert 0 < rows[-1] < (0.9 if name == "input-2" else 0.98) * rows[0]


@torch.no_grad()
def test_typed_text_does_not_diverge_from_itself(tiny_llm):
    model, texts = model_with(tiny_llm), ["ab", "cde"]
    ids = [encode(tiny_llm.tokenizer, text) for text in texts]
    parts, vectors = [model.chat] * 2, [tiny_llm.embed(one)[0] for one in ids]
    rows = pack(model, parts, vectors, None, ids)
    same = text_divergence(model, texts, rows, run(model, rows))
    assert abs(float(same)) < 1e-6
    assert float(text_divergence(model, ["ef", "gh"], rows, run(model, rows))) > 1e-3


@torch.no_grad()
def test_answers_diverge_where_speech_is_not_its_text_and_count_only_where_there_are_any(
    tiny_llm, data
):
    """A wrong prompt, dialogue or row would show: text in the audio's place diverges by nothing."""
    model = model_with(tiny_llm, prompt={"num": 0})
    batch = batch_of(data[0][0][:3], "speech")
    vectors = [tiny_llm.embed(encode(tiny_llm.tokenizer, text))[0] for text in batch["text"]]
    assert abs(float(TranscriptLoss._answers(model, batch, vectors))) < 1e-6
    vectors[1] = vectors[1] + 1.0
    wrong = TranscriptLoss._answers(model, batch, vectors)
    assert float(wrong) > 1e-3
    less = batch | {"answer": [batch["answer"][0], "", batch["answer"][2]]}
    assert abs(float(TranscriptLoss._answers(model, less, vectors))) < 1e-6
    silent = batch | {"answer": [""] * 3}
    plain, found = TranscriptLoss(), TranscriptLoss(answer_kl=2.0)
    assert "answer_kl" not in found(model, silent)
    assert torch.equal(found(model, silent)["loss"], plain(model, silent)["loss"])
    values = found(model, batch)
    together = values["transcript_loss"] + 2.0 * values["answer_kl"]
    assert torch.allclose(values["loss"], together) and float(values["answer_kl"]) > 0


def test_states_are_causal(tiny_llm, data):
    model = model_with(tiny_llm)
    loss, batch = AnswerLoss(), batch_of(data[0][0][:1])
    with torch.no_grad():
        full = loss.read(model, ItemCache(listen_once).fill(model, batch))[2]
        cut = dict(batch) | {"wave": batch["wave"][:, :5120], "wave_lens": torch.tensor([5120])}
        early = loss.read(model, ItemCache(listen_once).fill(model, cut))[2]
    assert torch.allclose(full[:, :2], early, atol=1e-4)


def test_gradients_of_the_transcript_reach_encoder_adapter_and_task(tiny_llm, data):
    for parts in ({}, CTC):
        model = model_with(tiny_llm, **parts)
        batch = batch_of(data[0][0][:2], "speech")
        if parts:  # the gate starts at 0: nothing reaches the projection yet
            model.adapter.gate.data.fill_(0.1)
        TranscriptLoss(ctc=0.3)(model, batch)["loss"].backward()
        for name in ("speech_encoder.subsampling", "adapter", "task", "ctc_head"):
            part = model.get_submodule(name)
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


@torch.no_grad()
def test_answer_states_are_those_that_predict_each_token(tiny_llm, data):
    model = model_with(tiny_llm)
    batch = batch_of(data[0][1][:1], "tts")
    prefix = answer_states(model, batch)["prefix"]
    question, answer = batch["messages"][0][0]["content"], batch["text"][0]
    state = tiny_llm.init_state(1, 128)
    chat = model.chat
    before = [*chat.system_ids, *chat.opening(True)]
    before += [*encode(tiny_llm.tokenizer, question), *chat.user_suffix_ids]
    hidden, state = tiny_llm.step(tiny_llm.embed(before), state)
    rows = [hidden[0, -1]]
    for token in encode(tiny_llm.tokenizer, answer)[:-1]:
        hidden, state = tiny_llm.step(tiny_llm.embed([token]), state)
        rows.append(hidden[0, 0])
    assert torch.allclose(prefix, torch.stack(rows).reshape(-1, 32), atol=1e-5)
    with pytest.raises(DataError, match="has no question"):
        answer_states(model, batch | {"messages": [[]]})


@pytest.mark.parametrize("parts", [{}, CTC])
@torch.no_grad()
def test_spoken_answer_states_are_those_of_a_live_turn(parts, tiny_llm, data):
    """A prompt, a chunk or the suffix read differently from a session would show."""
    model = model_with(tiny_llm, **parts)
    torch.nn.init.normal_(model.prompt.weight)
    item = dataclasses.replace(data[0][0][0], answer="abc ab", speech_tokens=(1, 2))
    batch = batch_of([item], "reply")
    assert batch["text"] == ["abc ab"] and batch["question"] == [item.text]
    found = answer_states(model, batch, "both")
    assert found["prefix"].shape == found["prefix_typed"].shape
    assert not torch.allclose(found["prefix"], found["prefix_typed"], atol=1e-3)

    listener, chat, llm = Listener(model), model.chat, tiny_llm
    fed = [llm.embed([*chat.system_ids, *chat.opening(True)]), model.prompt(1)]
    fed += [listener.hear(c).embeds for c in batch["wave"][0].split(2560)]
    fed += [listener.flush(), llm.embed(chat.user_suffix_ids)]
    hidden, state = llm.step(torch.cat(fed, 1), llm.init_state(1, 256))
    rows = [hidden[0, -1]]
    for token in encode(llm.tokenizer, "abc ab")[:-1]:
        hidden, state = llm.step(llm.embed([token]), state)
        rows.append(hidden[0, 0])
    assert torch.allclose(found["prefix"], torch.stack(rows).reshape(-1, 32), atol=1e-4)

    typed = batch_of([item], "reply") | {"messages": [[{"role": "user", "content": item.text}]]}
    assert torch.equal(answer_states(model, typed)["prefix"], found["prefix_typed"])


def test_text_vectors_are_the_llms_rows_in_the_decoders_width(tiny_llm):
    model = model_with(tiny_llm)
    vectors, lens = model.speech_decoder.text_input(model.llm, ["abc", "ab"])
    assert vectors.shape == (2, 8, 32) and lens.tolist() == [8, 6]  # with the full stop


def test_precomputed_values_do_not_depend_on_the_batch(tiny_llm, data):
    model = model_with(tiny_llm)
    batch = batch_of(data[0][0][:3])
    alone = ItemCache(listen_once).fill(model, one_item(batch, 1))
    together = ItemCache(listen_once).fill(model, batch)
    assert torch.equal(alone["vectors"][0], together["vectors"][1])
    forgetful = ItemCache(listen_once, limit_mb=0).fill(model, batch)
    assert torch.equal(forgetful["vectors"][2], together["vectors"][2])


def test_small_pieces():
    assert words("It's 3 o\u2019clock, 你好!") == ["it's", "3", "o'clock", "你", "好"]
    assert word_errors(["a b c", ""], ["a x c", "y"]) == (2.0, 3.0)
    assert token_errors([[1, 2, 3]], [[]]) == (3.0, 3.0)
    assert whole_tokens(torch.zeros(1, 1300), 600).shape == (1, 1200)
    assert whole_tokens(torch.zeros(1, 100), 600).shape == (1, 600)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert earlier_turns(turns) == (("a", "b"),)
    with pytest.raises(DataError, match="roles assistant"):
        earlier_turns(turns[1:])


def test_spec_augment_hides_parts_of_the_speech_only(tiny_llm, data):
    feats, lens = torch.randn(3, 200, 80), torch.tensor([200, 120, 30])
    changed = spec_augment(feats, lens, SpecAugmentConfig(share=1.0, warp=0))
    assert (changed[0] != feats[0]).any() and torch.equal(changed[1, 120:], feats[1, 120:])
    assert torch.equal(changed[2], feats[2])
    hidden = (changed[0] == feats[0].mean()).float().mean()
    assert 0.0 < float(hidden) < 0.85
    model, batch = model_with(tiny_llm), batch_of(data[0][0][:2])
    plain = encode_speech(model, batch, "fixed", False).frames
    hide = SpecAugmentConfig(share=1.0)
    assert torch.equal(encode_speech(model, batch, "fixed", False, hide).frames, plain)
    model.speech_encoder.train()
    assert not torch.equal(encode_speech(model, batch, "fixed", False, hide).frames, plain)
