"""Speech decoder: text vectors and LLM hidden states in, codec tokens out (paper, section 2.3).

Notable choices: three Llama stacks. The pre-network reads the text vectors; the prefix stack, with
weights of its own, reads the LLM's hidden states and leaves nothing but keys and values, the first
entries of the cache; the main stack reads [bos, text] all at once (NAR, full attention) and then
speech tokens one by one (AR, causal) with the same weights. Outputs that nobody reads (last layer
of the prefix, of the text) are not computed. Positions do not count the prefix. Training and
streaming run the same stacks; ``forward == prefill + steps`` is tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.layers.masks import full_mask, valid_rows
from fo_core.layers.packed_rows import quick_norm
from fo_core.layers.ragged import run_ragged
from fo_core.layers.transformer import KVCache, LlamaConfig, LlamaStack
from fo_core.models.llm.chat import encode
from fo_core.models.steps import DecoderRequest, Steps, drive
from fo_core.sampling import Compat, SamplingConfig, penalise, sample
from fo_core.text import speakable

SPECIALS = 4  # bos, sos, eos, pad follow the codes


@config
class SpeechDecoderConfig:
    """Shape and training noise of the speech decoder. Defaults: the paper's size."""

    type: Literal["attention"] = "attention"  # it finds in the text what to say next by attention
    dim: int = 896  # D, width; the LLM's width is a multiple of it
    codes: int = 1024  # entries of the codec's codebook
    heads: int = 14  # attention heads
    ffn: int = 4864  # inner width of the feed-forward
    layers: int = 4  # of the main and of the prefix stack; the pre-network has half as many
    pre_network: bool = True  # whether the text vectors go through a stack of their own first
    prefix: bool = True  # whether the LLM's hidden states are read
    dropout: float = 0.1  # on text and speech vectors and before the output, in training
    token_noise: float = 0.0  # share of the speech tokens read in training that are replaced
    compat: Compat = "none"  # "official": quirks of the published engine


@dataclass
class SpeechState:
    """What one sentence's decoding remembers."""

    cache: KVCache  # keys and values of [prefix, bos, text, sos, tokens ..]
    shift: int  # position = cache.length - shift


@dataclass
class Sentence:
    """A sentence that is being spoken."""

    state: SpeechState
    token: Tensor  # [1] the newest token, sos first
    sampling: SamplingConfig
    limit: int  # tokens at most
    generator: torch.Generator | None = None  # source of randomness
    recent: Tensor | None = None  # [1, window] tokens that are penalised
    count: int = 0  # tokens so far


@dataclass
class SpeechLoss:
    """Cross-entropy on the speech tokens and the end token."""

    loss: Tensor  # [] mean per valid target, with the weighted terms
    total: Tensor  # [] sum over valid targets
    accuracy: Tensor  # [] share of valid targets that are the best guess
    count: Tensor  # [] valid targets
    terms: dict[str, Tensor] = field(default_factory=dict)  # further losses by name, not weighted


class SpeechDecoder(nn.Module):
    """Pre-network, prefix stack, main stack and output layer.

    Letters: N text vectors (several for a token where the LLM is wider), P prefix vectors, T speech
    tokens, S = codes + 4 token ids (bos = codes, then sos, eos, pad).
    """

    compat: ClassVar[Compat] = "none"  # how tokens are drawn, see fo_core.sampling
    counts_prefix: ClassVar[bool] = False  # positions start behind a prefix that is not read, too

    def __init__(self, cfg: SpeechDecoderConfig) -> None:
        super().__init__()
        if cfg.dim % (2 * cfg.heads):
            raise ConfigError(
                f"speech decoder: dim {cfg.dim} does not divide into {cfg.heads} heads",
                possible="a multiple of twice the heads",
            )
        self.cfg = cfg
        self.bos, self.sos, self.eos, self.pad = (cfg.codes + i for i in range(SPECIALS))
        size = cfg.codes + SPECIALS
        self.embedding = nn.Embedding(size, cfg.dim, padding_idx=self.pad)
        self.pre_network = LlamaStack(self._shape(cfg.layers // 2)) if cfg.pre_network else None
        self.prefix = LlamaStack(self._shape(cfg.layers)) if cfg.prefix else None
        self.decoder = LlamaStack(self._shape(cfg.layers))
        self.norm = nn.RMSNorm(cfg.dim, eps=1e-6)
        self.out = nn.Linear(cfg.dim, size)
        self.forbidden: Tensor
        self.register_buffer("forbidden", self._forbidden(size), persistent=False)
        self._init_weights()

    def _forbidden(self, size: int) -> Tensor:
        """What is added to the logits [S]: -inf for the specials that are never spoken."""
        forbidden = torch.zeros(size)
        forbidden[[self.bos, self.sos, self.pad]] = float("-inf")
        return forbidden

    def _speech_start(self, text_size: Tensor, padded: int) -> Tensor:
        """Positions [B, 1] of sos: behind each text with its bos, padded to N or not."""
        return text_size

    def _shape(self, layers: int) -> LlamaConfig:
        c = self.cfg
        return LlamaConfig(c.dim, c.heads, c.heads, c.dim // c.heads, c.ffn, layers)

    def _init_weights(self) -> None:
        """Normal(0, 0.02) as in the Llama family; the pad row is zero.

        The pre-network begins as the identity: random layers would add the same vector to every
        text vector, as large as what tells these apart.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.embedding.weight[self.pad] = 0
            for layer in self.pre_network.blocks if self.pre_network else ():
                nn.init.zeros_(layer.self_attn.o_proj.weight)
                nn.init.zeros_(layer.mlp.down_proj.weight)

    # --- the parts, used by training and streaming alike ---

    def text_input(
        self, llm: Any, texts: Sequence[str], ids: Sequence[Sequence[int]] | None = None
    ) -> tuple[Any, Tensor]:
        """What the decoder reads of texts: the LLM's embeddings, cut to the decoder's width.

        Args:
            llm: The ``FrozenLLM``.
            texts: As the LLM wrote them.
            ids: Their token ids, where they are known; None: of the speakable texts.

        Returns:
            ``[B, N, D]`` and lengths ``[B]``.
        """
        if ids is None:
            ids = [encode(llm.tokenizer, speakable(text)) for text in texts]
        rows = [llm.split(llm.embed(list(row))[0], self.cfg.dim) for row in ids]
        lens = torch.tensor([len(row) for row in rows], device=self.out.weight.device)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded.to(self.embedding.weight.dtype), lens

    def read_text(self, text: Tensor, text_valid: Tensor | None = None) -> Tensor:
        """Pre-network: text vectors [B, N, D] → [B, N, D], bidirectional."""
        if self.pre_network is None:
            return text
        mask = full_mask(text_valid)
        return self.pre_network(text, positions=0, mask=mask, causal=False)

    def read_prefix(
        self, prefix: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Hidden states [B, P, D] → keys, values [L, B, heads, P, dh]; None without the stack."""
        if self.prefix is None or prefix.shape[1] == 0:
            return None
        mask = full_mask(valid)
        return self.prefix.keys_values(prefix, positions=0, mask=mask, causal=False)

    def _bos(self, batch: int) -> Tensor:
        return self.embedding.weight[self.bos].expand(batch, 1, -1)

    # --- training ---

    def forward(
        self,
        text: Tensor,
        text_lens: Tensor | None,
        tokens: Tensor,
        token_lens: Tensor | None,
        prefix: Tensor | None = None,
        prefix_lens: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: text rows see prefix and text; speech rows also earlier speech.

        Args:
            text: Text vectors [B, N, D].
            text_lens: [B], or None if nothing is padded.
            tokens: Speech tokens [B, T]; what is beyond the length may hold anything.
            token_lens: [B], or None.
            prefix: LLM hidden states [B, P, D].
            prefix_lens: [B], or None.

        Returns:
            Logits [B, T + 1, S]: row t predicts token t, the row after the last one eos.
        """
        B, N, _ = text.shape
        T, device = tokens.shape[1], text.device
        text_valid = valid_rows(text_lens, B, N, device)
        token_valid = valid_rows(token_lens, B, T, device)
        past = None
        P = prefix.shape[1] if prefix is not None else 0
        prefix_valid = valid_rows(prefix_lens, B, P, device)
        if prefix is not None:
            past = self.read_prefix(prefix, prefix_valid if prefix_lens is not None else None)
        if past is None:
            prefix_valid = prefix_valid[:, :0]

        read = self.read_text(self._drop(text), text_valid if text_lens is not None else None)
        speech = self.embedding(self._inputs(tokens, token_valid))  # [B, T+1, D]
        x = torch.cat((self._bos(B), read, self._drop(speech)), dim=1)  # [B, N+T+2, D]

        text_size = text_valid.sum(dim=1, keepdim=True) + 1  # with bos
        text_size = self._speech_start(text_size, N)
        rows = torch.arange(T + 1, device=device)
        at_text = torch.arange(N + 1, device=device).expand(B, -1)
        at_speech = text_size + rows  # [B, T+1]
        positions = torch.cat((at_text, at_speech), dim=1)

        seen = torch.cat((prefix_valid, text_valid.new_ones(B, 1), text_valid), dim=1)  # [B, P+N+1]
        causal = rows.unsqueeze(1) >= rows  # [T+1, T+1]
        later = torch.cat((causal.new_zeros(N + 1, T + 1), causal))  # [N+T+2, T+1]
        mask = torch.cat((seen[:, None].expand(B, N + T + 2, -1), later.expand(B, -1, -1)), dim=2)
        hidden = self.decoder(x, positions=positions, mask=mask.unsqueeze(1), past=past)
        return self.out(self._drop(self.norm(hidden[:, N + 1 :])))

    def loss(
        self,
        text: Tensor,
        text_lens: Tensor | None,
        tokens: Tensor,
        token_lens: Tensor | None,
        prefix: Tensor | None = None,
        prefix_lens: Tensor | None = None,
    ) -> SpeechLoss:
        """Cross-entropy on the tokens and then eos; arguments as in :meth:`forward`."""
        logits = self(text, text_lens, tokens, token_lens, prefix, prefix_lens)
        B, T = tokens.shape
        valid = valid_rows(token_lens, B, T, text.device)
        lens = valid.sum(dim=1, keepdim=True)
        targets = F.pad(tokens.masked_fill(~valid, self.pad), (0, 1), value=self.pad)
        targets = targets.scatter(1, lens, self.eos)  # [B, T+1]
        total = F.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.flatten(),
            ignore_index=self.pad,
            reduction="sum",
        )
        real = targets != self.pad
        count = real.sum()
        right = ((logits.argmax(dim=-1) == targets) & real).sum()
        return SpeechLoss(total / count, total, right / count, count)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.cfg.dropout, self.training)

    def _inputs(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """[B, T + 1]: sos and the tokens, some of them replaced by random codes in training."""
        tokens = tokens.masked_fill(~valid, self.pad)
        if self.training and self.cfg.token_noise > 0:
            hit = torch.rand(tokens.shape, device=tokens.device) < self.cfg.token_noise
            noise = torch.randint_like(tokens, self.cfg.codes)
            tokens = torch.where(hit & valid, noise, tokens)
        return F.pad(tokens, (1, 0), value=self.sos)

    def prefill(
        self, text: Tensor, prefix: Tensor | None = None, capacity: int = 1000
    ) -> SpeechState:
        """Read one sentence.

        Args:
            text: Text vectors [B, N, D], not padded.
            prefix: LLM hidden states [B, P, D], not padded.
            capacity: Room for speech tokens.

        Returns:
            The state before sos.
        """
        B, N, _ = text.shape
        P = prefix.shape[1] if prefix is not None else 0
        past = self.read_prefix(prefix) if prefix is not None else None
        cached = 0 if past is None else P
        cache = self.decoder.init_cache(B, cached + N + 2 + capacity)
        x = torch.cat((self._bos(B), self.read_text(text)), dim=1)
        keys_values = self.decoder.keys_values(x, positions=0, past=past, causal=False)
        if past is not None:
            cache.append(*past)
        cache.append(*keys_values)
        return SpeechState(cache, P if self.counts_prefix else cached)

    def step(self, token: Tensor, state: SpeechState) -> tuple[Tensor, SpeechState]:
        """One token further.

        Args:
            token: [B], sos first.
            state: Extended in place.

        Returns:
            Logits of the next token [B, S], and the state.
        """
        x = self.row(token, state)
        hidden = self.decoder(x, positions=state.cache.length - state.shift, cache=state.cache)
        return self.out(quick_norm(self.norm, hidden[:, 0])), state

    def step_many(self, tokens: Sequence[Tensor], states: Sequence[SpeechState]) -> list[Tensor]:
        """:meth:`step` of several sentences in one ragged batch.

        Args:
            tokens: [1] each.
            states: Theirs, of one row each; extended in place.

        Returns:
            Logits of each one's next token, [1, S] each.
        """
        rows = [self.row(*one) for one in zip(tokens, states, strict=True)]  # [1, 1, D] each
        caches, shifts = [state.cache for state in states], [state.shift for state in states]
        found = run_ragged(self.decoder, rows, caches, shifts)
        logits = self.out(quick_norm(self.norm, torch.cat(found, dim=1)[0]))  # [B, S]
        return list(logits.split(1))

    def row(self, token: Tensor, state: SpeechState) -> Tensor:
        """Input vector [B, 1, D] of the newest token [B]."""
        return self.embedding(token).unsqueeze(1)

    @torch.inference_mode()
    def generate(
        self,
        text: Tensor,
        prefix: Tensor | None = None,
        sampling: SamplingConfig | None = None,
        max_tokens: int = 1000,
        generator: torch.Generator | None = None,
    ) -> Iterator[int]:
        """Speak one sentence, token by token (one wait for the device each); see :meth:`begin`.

        Yields:
            Codec tokens, eos excluded.
        """
        sentence = self.begin(text, prefix, sampling, max_tokens, generator)
        while (code := drive(self.next_token(sentence))) is not None:
            yield code

    def begin(
        self,
        text: Tensor,
        prefix: Tensor | None = None,
        sampling: SamplingConfig | None = None,
        max_tokens: int = 1000,
        generator: torch.Generator | None = None,
    ) -> Sentence:
        """Read one sentence, to speak it with :meth:`next_token`.

        Args:
            text: Text vectors [1, N, D].
            prefix: LLM hidden states [1, P, D].
            sampling: Default: the best of two, no penalty.
            max_tokens: Stop after so many.
            generator: Source of randomness, on this model's device.
        """
        how = sampling or SamplingConfig(top_k=2)
        state = self.prefill(text, prefix, max_tokens)
        token = torch.full((1,), self.sos, device=self.embedding.weight.device)
        recent = None
        if how.window > 0 and how.penalty != 1.0:
            recent = token.new_full((1, how.window), self.cfg.codes + SPECIALS)
        return Sentence(state, token, how, max_tokens, generator, recent)

    def next_token(self, sentence: Sentence) -> Steps[int | None]:
        """The next codec token of a sentence; None at its end."""
        how, recent = sentence.sampling, sentence.recent
        if sentence.count >= sentence.limit:
            return None
        logits = yield DecoderRequest(self, sentence.token, sentence.state)
        if recent is not None:
            recent[:, sentence.count % how.window] = sentence.token
            logits = penalise(logits, recent, how.penalty, self.compat)
        logits = logits + self.forbidden
        token = sample(
            logits, how.temperature, how.top_k, how.top_p, sentence.generator, self.compat
        )
        sentence.token = token
        sentence.count += 1
        code = int(token)
        if code == self.eos:
            sentence.limit = 0
            return None
        return code
