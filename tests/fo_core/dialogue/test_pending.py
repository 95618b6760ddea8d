"""A spoken question that waits (``create_response: false``) until its answer is asked for."""

import numpy as np
import pytest
import torch

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.settings import DialogueConfig, TurnConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.sampling import SamplingConfig

CHUNK = 2560
CFG = DialogueConfig(
    sampling=SamplingConfig(temperature=4.0, top_k=5),
    segmenter=replace(SegmenterConfig(), max_tokens=30),
    history_chunks=0,
)
WAITS = TurnConfig(answer=False)


def loud(chunks: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (0.3 * draw.standard_normal(CHUNK * chunks)).clip(-1, 1).astype(np.float32)


@pytest.fixture
def asked(tiny_model, vad, head, monkeypatch):
    """A talk with a question that waits; an adapter of words holds its last one back."""
    if tiny_model.adapter.requires_ctc:
        rows = torch.eye(tiny_model.ctc_head.classes)[[1, 2, 1, 2]] * 100
        monkeypatch.setattr(tiny_model.ctc_head, "forward", lambda x: rows[None])

    def make() -> Duplex:
        duplex = Duplex(tiny_model, CFG, vad=vad, turn=WAITS, speak=False)
        head[:] = ["continue", "continue", "respond"]
        hear(duplex, loud(3, 0))
        assert duplex.conversation.pending
        return duplex

    return make


def hear(duplex: Duplex, wave: np.ndarray) -> list[ev.DuplexEvent]:
    duplex.push(wave)
    return list(duplex.run())


def answer(duplex: Duplex, **how: object) -> str:
    duplex.send(do.Respond(**how))
    events = list(duplex.run())
    assert not [event for event in events if isinstance(event, ev.Error)]
    return next(event.text for event in events if isinstance(event, ev.ReplyDone))


def test_a_cough_after_a_question_does_not_take_its_answer(asked, head):
    plain, duplex = asked(), asked()
    length = duplex.conversation.length
    head[:] = ["continue", "dismiss"]
    events = hear(duplex, loud(2, 1))
    assert [e.how for e in events if isinstance(e, ev.TurnEnded)] == ["dismiss"]
    assert duplex.conversation.length == length and len(duplex.conversation.turns) == 1
    plain.conversation.forgotten += 1  # random numbers go by the turns that there were
    assert answer(duplex) == answer(plain)


def test_the_last_word_of_a_question_stays_when_another_follows(asked, head, tiny_model):
    duplex, listener = asked(), Listener(tiny_model)
    chunks = torch.from_numpy(loud(3, 0)).split(CHUNK)
    whole = [*(listener.hear(chunk).embeds for chunk in chunks), listener.flush()]
    assert whole[-1].shape[1] == tiny_model.adapter.requires_ctc
    head[:] = ["respond"]
    hear(duplex, loud(1, 1))
    first, second = duplex.conversation.turns
    assert torch.equal(torch.cat(first.heard, dim=1), torch.cat(whole, dim=1))
    read = [*duplex.conversation._opening(first), *whole]
    assert second.start - first.start == sum(vectors.shape[1] for vectors in read)


def test_a_reply_apart_leaves_the_question_its_last_word(asked):
    plain, duplex = asked(), asked()
    answer(duplex, apart=True)
    assert answer(duplex) == answer(plain)


@pytest.mark.parametrize("interrupt", ["state", "voice"])
def test_who_speaks_on_keeps_the_last_word_before(asked, vad, head, tiny_model, interrupt):
    """The machine lags: the user goes on before the answer has read the question."""
    turn = TurnConfig(interrupt=interrupt)
    duplex = Duplex(tiny_model, CFG, vad=vad, turn=turn, speak=False)
    listener = Listener(tiny_model)
    chunks = torch.from_numpy(loud(3, 0)).split(CHUNK)
    whole = [*(listener.hear(chunk).embeds for chunk in chunks), listener.flush()]
    head[:] = ["continue", "continue", "respond", "continue", "respond"]
    events = hear(duplex, np.concatenate([loud(3, 0), loud(2, 1)]))
    assert [e.turn for e in events if isinstance(e, ev.Interrupted)] == [0]
    first, second = duplex.conversation.turns
    assert first.answer.text == "" and second.answer.text
    assert torch.equal(torch.cat(first.heard, dim=1), torch.cat(whole, dim=1))
    read = [*duplex.conversation._opening(first), *whole]
    assert second.start - first.start == sum(vectors.shape[1] for vectors in read)
