"""Steps of several users in one batch: what a chunk and a token cost, and how many come a second.

The steps are the engine's own, in the batches that a pool makes of them, without its waiting: all
users are at the same place. ``fo profile serve`` measures a pool with scripted users in real time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from eval.latency.clock import milliseconds
from eval.latency.talk import sound
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.settings import TEXT_SAMPLING
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.steps import LLMRequest, Steps, run_together
from fo_core.sampling import sample

HEAD = ("sessions", "listening step, ms", "text token, ms", "text tokens/s", "speech token, ms",
        "speech tokens/s", "times real time")  # fmt: skip
READ = 250  # positions that each LLM state has read
WARM = 20  # chunks heard before: the encoder's left context is full
RATE = 40  # speech tokens that a second of audio has


@dataclass(frozen=True)
class Together:
    """Medians of so many users' steps."""

    sessions: int
    listen: float  # ms: all hear 160 ms, and the LLM reads what they heard
    token: float  # ms: a text token for each
    speech: float  # ms: a speech token for each

    @property
    def cells(self) -> tuple[str, ...]:
        """Texts under :data:`HEAD`."""
        text, spoken = 1000 * self.sessions / self.token, 1000 * self.sessions / self.speech
        times = (self.listen, self.token, text, self.speech, spoken)
        found = [f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in times]
        return (str(self.sessions), *found, f"{1000 / self.speech / RATE:.1f}")


@torch.inference_mode()
def together(
    model: FreezeOmni,
    counts: Sequence[int],
    repeat: int = 5,
    say: Callable[[str], None] = lambda text: None,
) -> list[Together]:
    """Measure every number of users.

    Args:
        model: Ready to talk; its speech must not end by itself.
        counts: Users at a time.
        repeat: Runs behind each median, at least; after two that do not count.
        say: Told what is measured next.
    """
    found = []
    for count in counts:
        say(f"{count} sessions")
        users = _Users(model, count)
        works = (users.listen, users.token, users.speech)
        found.append(Together(count, *(milliseconds(w, repeat, model.device) for w in works)))
    return found


class _Users:
    """So many, at the same place of a talk."""

    def __init__(self, model: FreezeOmni, count: int) -> None:
        self.model, self.sound = model, sound(model)[0]
        listener, llm = Listener(model), model.llm
        for _ in range(WARM):
            listener.hear(self.sound)
        self.listeners = [listener.fork() for _ in range(count)]
        read = llm.init_state(1, READ)
        ids = torch.arange(READ, device=model.device).view(1, -1) % llm.vocab_size
        llm.step(llm.embed(ids), read)
        self.states = [read.fork(64) for _ in range(count)]
        decoder = model.speech_decoder
        text, _ = decoder.text_input(llm, ["a few words"])
        self.sentences = [decoder.begin(text, max_tokens=100_000) for _ in range(count)]

    def _read(self, vectors: list[torch.Tensor]) -> list[torch.Tensor]:
        llm = self.model.llm
        asked = [LLMRequest(llm, v, s) for v, s in zip(vectors, self.states, strict=True)]
        return run_together(asked) if len(asked) > 1 else [asked[0].run()]

    def _forget(self) -> None:
        for state in self.states:
            state.crop(READ)

    def listen(self) -> None:
        """Everybody's chunk; the LLM reads two vectors of each."""
        heard = [listener.hear(self.sound) for listener in self.listeners]
        given = [chunk.embeds for chunk in heard]
        rows = [v[:, :2] if v.shape[1] else self.model.llm.embed([0, 1]) for v in given]
        judged = self._read(rows)
        head = self.model.state_head
        for hidden, chunk in zip(judged, heard, strict=True):
            head.step(hidden[:, -1:], chunk.encoded[:, None])[0].tolist()
        self._forget()

    def token(self) -> None:
        """A text token for each, chosen by each."""
        llm = self.model.llm
        for hidden in self._read([llm.embed([0])] * len(self.states)):
            int(sample(llm.logits(hidden[:, -1]), TEXT_SAMPLING))
        self._forget()

    def speech(self) -> None:
        """A speech token for each, by way of the sentences' own coroutines."""
        decoder = self.model.speech_decoder
        strands: list[Steps[int | None]] = [decoder.next_token(one) for one in self.sentences]
        asked = [next(strand) for strand in strands]
        given = run_together(asked) if len(asked) > 1 else [asked[0].run()]
        for strand, logits in zip(strands, given, strict=True):
            try:
                strand.send(logits)
            except StopIteration:
                continue
            raise AssertionError("a speech token takes one step")
