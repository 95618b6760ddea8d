"""How a speech decoder speaks: text in, whole or chunk by chunk, and one token after the other out.

The two decoders say how text is read (:meth:`StreamingDecoder.read_more`), what a token's input
vector is, and how many tokens may be spoken before more text is there; all else is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from fo_core.layers.kv_cache import KVCache
from fo_core.layers.masks import full_mask
from fo_core.layers.packed_rows import quick_norm
from fo_core.layers.ragged import run_ragged
from fo_core.layers.transformer import LlamaStack
from fo_core.models.decoder.drafts import DraftHead, accepted
from fo_core.models.steps import DecoderRequest, Steps, drive
from fo_core.sampling import Compat, SamplingConfig, penalise, sample

SPECIALS = 4  # bos, sos, eos, pad follow the codes
Past = tuple[Tensor, Tensor]  # keys and values [L, B, heads, P, dh]


class SentenceState(Protocol):
    """What every decoder's state of one sentence has."""

    cache: KVCache  # of the main stack
    shift: int  # position = cache.length - shift
    prefix: Past | None  # keys and values of the prefix so far
    hidden: Tensor | None  # [1, n, D] outputs of the newest rows


@dataclass
class Sentence:
    """A sentence that is being spoken."""

    state: Any  # the decoder's SentenceState
    token: Tensor  # [1] the newest token, sos first
    sampling: SamplingConfig
    most: int  # tokens at most
    generator: torch.Generator | None = None  # source of randomness
    recent: Tensor | None = None  # [1, window] tokens that are penalised
    count: int = 0  # tokens so far
    limit: int = 0  # tokens that may be spoken now
    more: bool = False  # its text goes on
    steps: int = 0  # of the decoder
    verified: list[int] = field(default_factory=list)  # tokens that come next


class StreamingDecoder(nn.Module):
    """The part of a speech decoder that speaks.

    Letters: P prefix vectors, D width, S = codes + 4 token ids (bos = codes, then sos, eos, pad).
    """

    compat: ClassVar[Compat] = "none"  # how tokens are drawn, see fo_core.sampling
    counts_prefix: ClassVar[bool] = False  # positions start behind a prefix that is not read, too
    cfg: Any
    embedding: nn.Embedding
    prefix: LlamaStack | None
    decoder: LlamaStack
    norm: nn.RMSNorm
    out: nn.Linear
    drafts: DraftHead | None
    forbidden: Tensor  # [S] added to the logits: -inf for what is never spoken
    sos: int
    eos: int

    def start(self, capacity: int, batch: int = 1) -> Any:
        """The state before any text is read, with room for ``capacity`` positions."""
        raise NotImplementedError

    def read_more(self, state: Any, text: Any, prefix: Tensor | None = None) -> None:
        """Read a text, or the next chunk of one.

        Args:
            state: Extended in place.
            text: What ``text_input`` or ``chunk_input`` gave, of one text, not padded.
            prefix: Its LLM hidden states [B, P, D], not padded.
        """
        raise NotImplementedError

    def ready(self, state: Any, more: bool) -> int | None:
        """Speech tokens that the text read so far is enough for; None: for any number.

        Args:
            state: Of the sentence.
            more: Whether more text will come.
        """
        raise NotImplementedError

    def read_prefix(
        self,
        prefix: Tensor,
        valid: Tensor | None = None,
        chunks: Tensor | None = None,
        before: Past | None = None,
    ) -> Past | None:
        """Hidden states [B, P, D] → keys, values [L, B, heads, P, dh]; None without the stack.

        Args:
            prefix: Hidden states.
            valid: [B, P], or None.
            chunks: Chunk of each [B, P], or None: none sees a later chunk.
            before: Keys and values of the chunks before.
        """
        if self.prefix is None or prefix.shape[1] == 0:
            return None
        start = 0 if before is None else before[0].shape[3]
        mask = full_mask(valid, chunks)
        return self.prefix.keys_values(prefix, start, mask, before, causal=False)

    def read_more_prefix(self, state: SentenceState, prefix: Tensor | None) -> None:
        """Put a text's, or a chunk's, prefix vectors into the cache."""
        if prefix is None:
            return
        found = self.read_prefix(prefix, before=state.prefix)
        if found is not None:
            joined = [found] if state.prefix is None else [state.prefix, found]
            keys, values = (torch.cat(parts, dim=3) for parts in zip(*joined, strict=True))
            state.prefix = keys, values
            state.cache.append(*found)
        if found is not None or self.counts_prefix:
            state.shift += prefix.shape[1]

    def prefill(self, text: Any, prefix: Tensor | None = None, capacity: int = 1000) -> Any:
        """Read one sentence.

        Args:
            text: What ``text_input`` gave, not padded.
            prefix: LLM hidden states [B, P, D], not padded.
            capacity: Room for speech tokens.

        Returns:
            The state before sos.
        """
        state = self.start(capacity, text.shape[0] if isinstance(text, Tensor) else 1)
        self.read_more(state, text, prefix)
        return state

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One token further.

        Args:
            token: [B], sos first.
            state: Extended in place.

        Returns:
            Logits of the next token [B, S], and the state.
        """
        x = self.row(token, state)
        hidden = self.decoder(x, positions=state.cache.length - state.shift, cache=state.cache)
        state.hidden = hidden
        return self.out(quick_norm(self.norm, hidden[:, 0])), state

    def step_tokens(self, tokens: Tensor, state: Any) -> Tensor:
        """Several tokens of one sentence: [n] to the logits [n, S] behind each."""
        x = self.rows(tokens, state)
        start = state.cache.length - state.shift
        state.hidden = self.decoder(x, positions=start, cache=state.cache)
        return self.out(quick_norm(self.norm, state.hidden[0]))

    def step_many(self, tokens: Sequence[Tensor], states: Sequence[Any]) -> list[Tensor]:
        """:meth:`step` of several sentences in one ragged batch.

        Args:
            tokens: [n] each, most often one.
            states: Theirs, of one row each; extended in place.

        Returns:
            Logits behind each one's tokens, [n, S] each.
        """
        rows = [self.rows(*one) for one in zip(tokens, states, strict=True)]  # [1, n, D] each
        caches, shifts = [state.cache for state in states], [state.shift for state in states]
        found = run_ragged(self.decoder, rows, caches, shifts)
        for state, hidden in zip(states, found, strict=True):
            state.hidden = hidden
        logits = self.out(quick_norm(self.norm, torch.cat(found, dim=1)[0]))  # [sum of n, S]
        return list(logits.split([len(one) for one in tokens]))

    def row(self, token: Tensor, state: Any) -> Tensor:
        """Input vector [B, 1, D] of the newest token [B]."""
        return self.embedding(token).unsqueeze(1)

    def rows(self, tokens: Tensor, state: Any, ahead: int = 0) -> Tensor:
        """Input vectors [1, n, D] of tokens [n] of one sentence, ``ahead`` of the newest."""
        return self.embedding(tokens).unsqueeze(0)

    @torch.inference_mode()
    def generate(self, *args: Any, **kwargs: Any) -> Iterator[int]:
        """Speak one sentence, token by token (one wait for the device each).

        It takes the arguments of :meth:`begin`.

        Yields:
            Codec tokens, eos excluded.
        """
        sentence = self.begin(*args, **kwargs)
        while (code := drive(self.next_token(sentence))) is not None:
            yield code

    def begin(
        self,
        text: Any,
        prefix: Tensor | None = None,
        sampling: SamplingConfig | None = None,
        max_tokens: int = 1000,
        generator: torch.Generator | None = None,
        more: bool = False,
    ) -> Sentence:
        """Read one sentence, or its first chunk, to speak it with :meth:`next_token`.

        Args:
            text: What ``text_input`` gave of one text; ``chunk_input``'s, where more comes.
            prefix: LLM hidden states [1, P, D].
            sampling: Default: the best of two, no penalty.
            max_tokens: Stop after so many.
            generator: Source of randomness, on this model's device.
            more: The sentence goes on; :meth:`extend` brings its next chunk.
        """
        how = sampling or SamplingConfig(top_k=2)
        state = self.prefill(text, prefix, max_tokens)
        token = torch.full((1,), self.sos, device=self.embedding.weight.device)
        recent = None
        if how.window > 0 and how.penalty != 1.0:
            recent = token.new_full((1, how.window), self.cfg.codes + SPECIALS)
        sentence = Sentence(state, token, how, max_tokens, generator, recent)
        self._set_limit(sentence, more)
        return sentence

    def extend(
        self, sentence: Sentence, text: Any, prefix: Tensor | None = None, more: bool = False
    ) -> None:
        """Read the next chunk of a sentence.

        Args:
            sentence: It has spoken all that it could.
            text: What ``chunk_input`` gave.
            prefix: The chunk's LLM hidden states [1, P, D].
            more: The sentence goes on.
        """
        self.read_more(sentence.state, text, prefix)
        self._set_limit(sentence, more)

    def _set_limit(self, sentence: Sentence, more: bool) -> None:
        ready, sentence.more = self.ready(sentence.state, more), more
        sentence.limit = sentence.most if ready is None else min(ready, sentence.most)

    def next_token(self, sentence: Sentence) -> Steps[int | None]:
        """The next codec token of a sentence; None at its end, or where more text is needed."""
        if sentence.count >= sentence.limit:
            return None
        if not sentence.verified:
            sentence.verified = yield from self._decode(sentence)
        code = sentence.verified.pop(0)
        sentence.count += 1
        if code == self.eos:
            sentence.limit = 0
            return None
        return code

    def _decode(self, sentence: Sentence) -> Steps[list[int]]:
        """At least one token further."""
        how, state = sentence.sampling, sentence.state
        room = sentence.limit - sentence.count - 1  # tokens that may follow the next one
        if self._may_guess(sentence) and room > 0:
            guesses = self.guess(sentence.token, state, min(self.cfg.drafts, room))
            tokens = torch.cat((sentence.token, guesses))
            logits = yield DecoderRequest(self, tokens, state)
            sentence.steps += 1
            kept = accepted(guesses, self._allowed(logits, sentence))
            if self.eos in kept:
                kept = kept[: kept.index(self.eos) + 1]
            state.cache.crop(state.cache.length - len(tokens) + len(kept))
            if kept:
                state.hidden = state.hidden[:, len(kept) - 1 : len(kept)]
                sentence.token = tokens.new_tensor(kept[-1:])
                return kept
        logits = yield DecoderRequest(self, sentence.token, state)
        sentence.steps += 1
        if sentence.recent is not None:
            sentence.recent[:, sentence.count % how.window] = sentence.token
            logits = penalise(logits, sentence.recent, how.penalty, self.compat)
        logits = self._allowed(logits, sentence)
        sentence.token = sample(logits, how, sentence.generator, self.compat)
        return [int(sentence.token)]

    def _allowed(self, logits: Tensor, sentence: Sentence) -> Tensor:
        """Logits [n, S] of what may be spoken."""
        logits = logits + self.forbidden
        if sentence.more:  # no end is known before the text's
            logits[:, self.eos] = float("-inf")
        return logits

    def _may_guess(self, sentence: Sentence) -> bool:
        """Only greedy decoding verifies, and only behind an output to guess from."""
        if self.drafts is None or self.cfg.drafts == 0 or not sentence.sampling.greedy:
            return False
        return sentence.recent is None and sentence.state.hidden is not None

    def guess(self, token: Tensor, state: Any, count: int) -> Tensor:
        """The tokens [count] that are likely behind the newest token [1], which is not fed yet."""
        assert self.drafts is not None
        hidden, x, found = state.hidden[:, -1:], self.rows(token, state), []
        for ahead in range(1, count + 1):
            hidden = self.drafts(hidden, x)
            logits = self.out(quick_norm(self.norm, hidden[0])) + self.forbidden
            token = logits.argmax(dim=-1)
            found.append(token)
            if ahead < count:
                x = self.rows(token, state, ahead)
        return torch.cat(found)
