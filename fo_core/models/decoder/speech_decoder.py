"""Speech decoder: text vectors and LLM hidden states in, codec tokens out (paper, section 2.3).

Notable choices: three Llama stacks. The pre-network reads the text vectors; the prefix stack, with
weights of its own, reads the LLM's hidden states and leaves nothing but keys and values, the first
entries of the cache; the main stack reads [bos, text] all at once (NAR, full attention) and then
speech tokens one by one (AR, causal) with the same weights. Outputs that nobody reads (last layer
of the prefix, of the text) are not computed. Positions do not count the prefix. Training and
streaming run the same stacks; ``forward == prefill + steps`` is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.layers.masks import full_mask, valid_rows
from fo_core.layers.transformer import KVCache, LlamaConfig, LlamaStack
from fo_core.models.decoder.chunk_layout import Ends, chunk_layout
from fo_core.models.decoder.drafts import DraftHead, draft_loss
from fo_core.models.decoder.streaming import SPECIALS, Past, Sentence, StreamingDecoder
from fo_core.models.llm.chat import encode
from fo_core.sampling import Compat
from fo_core.text import speakable
from fo_core.text_chunks import TextChunk

__all__ = ["Sentence", "SpeechDecoder", "SpeechDecoderConfig", "SpeechLoss", "SpeechState"]


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
    # whether it has learned text by the chunk; stage output-2 sets it (stage.chunks)
    reads_chunks: bool = False
    # speech tokens spoken for each text vector, while text comes by the chunk and more is to come
    chunk_ratio: float = 2.0
    drafts: int = 0  # tokens guessed ahead of each step, which verifies them; 0 = none
    draft_weight: float = 0.3  # of the loss of the guesses
    compat: Compat = "none"  # "official": quirks of the published engine


@dataclass
class SpeechState:
    """What one sentence's decoding remembers."""

    cache: KVCache  # keys and values of [prefix, bos, text, sos, tokens ..]
    reader: KVCache | None = None  # those of the pre-network
    shift: int = 0  # position = cache.length - shift
    prefix: Past | None = None  # keys and values of the prefix so far
    hidden: Tensor | None = None  # [1, n, D] outputs of the newest rows
    text: int = 0  # text vectors read
    begun: bool = False  # bos was read


@dataclass
class SpeechLoss:
    """Cross-entropy on the speech tokens and the end token."""

    loss: Tensor  # [] mean per valid target, with the weighted terms
    total: Tensor  # [] sum over valid targets
    accuracy: Tensor  # [] share of valid targets that are the best guess
    count: Tensor  # [] valid targets
    terms: dict[str, Tensor] = field(default_factory=dict)  # further losses by name, not weighted

    def joined(self, more: Tensor, **terms: Tensor) -> SpeechLoss:
        """This loss and ``more``, whose terms are ``terms``."""
        return replace(self, loss=self.loss + more, terms=self.terms | terms)


class SpeechDecoder(StreamingDecoder):
    """Pre-network, prefix stack, main stack and output layer.

    Letters: N text vectors (several for a token where the LLM is wider), P prefix vectors, T speech
    tokens, S = codes + 4 token ids (bos = codes, then sos, eos, pad).
    """

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
        self.register_buffer("forbidden", self._forbidden(size), persistent=False)
        self._init_weights()
        self.drafts = DraftHead(cfg.dim) if cfg.drafts else None

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

    def chunk_input(self, llm: Any, chunk: TextChunk, ids: Sequence[int]) -> Any:
        """What the decoder reads of a chunk of a text.

        Args:
            llm: The ``FrozenLLM``.
            chunk: The text, and what is written behind it.
            ids: Its token ids.

        Returns:
            For :meth:`begin` and :meth:`extend`; here text vectors ``[1, N, D]``.
        """
        if not ids:
            return self.embedding.weight.new_zeros(1, 0, self.cfg.dim)
        return self.text_input(llm, [chunk.text], [ids])[0]

    def chunked_input(
        self, llm: Any, texts: Sequence[Sequence[TextChunk]]
    ) -> tuple[Any, Tensor, Ends | None]:
        """What the decoder reads of texts that come by the chunk, for training.

        Args:
            llm: The ``FrozenLLM``.
            texts: The chunks of each.

        Returns:
            As :meth:`text_input`, and ``text_ends`` of :meth:`loss`.
        """
        ids = [[encode(llm.tokenizer, chunk.text) for chunk in text] for text in texts]
        whole = ["".join(chunk.text for chunk in text) for text in texts]
        rows, lens = self.text_input(llm, whole, [sum(text, []) for text in ids])
        width = llm.width // self.cfg.dim  # vectors of a token
        ends = [[width * n for n in accumulate(map(len, text))] for text in ids]
        return rows, lens, ends

    def read_text(
        self,
        text: Tensor,
        text_valid: Tensor | None = None,
        chunks: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Pre-network: text vectors [B, N, D] → [B, N, D], bidirectional.

        Args:
            text: Text vectors.
            text_valid: [B, N], or None.
            chunks: Chunk of each [B, N], or None: none sees a later chunk.
            cache: Of the chunks before; extended in place.
        """
        if self.pre_network is None:
            return text
        mask = full_mask(text_valid, chunks)
        return self.pre_network(text, positions=None, mask=mask, cache=cache, causal=False)

    def _bos(self, batch: int) -> Tensor:
        return self.embedding.weight[self.bos].expand(batch, 1, -1)

    # --- training ---

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Logits [B, T + 1, S] of the outputs of :meth:`run`, whose arguments it takes."""
        return self.finish(self.run(*args, **kwargs)[0])

    def finish(self, hidden: Tensor) -> Tensor:
        """Outputs of the main stack [..., D] → logits [..., S]."""
        return self.out(self._drop(self.norm(hidden)))

    def run(
        self,
        text: Tensor,
        text_lens: Tensor | None,
        tokens: Tensor,
        token_lens: Tensor | None,
        prefix: Tensor | None = None,
        prefix_lens: Tensor | None = None,
        text_ends: Ends | None = None,
        prefix_ends: Ends | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: text rows see prefix and text; speech rows also earlier speech.

        Args:
            text: Text vectors [B, N, D].
            text_lens: [B], or None if nothing is padded.
            tokens: Speech tokens [B, T]; what is beyond the length may hold anything.
            token_lens: [B], or None.
            prefix: LLM hidden states [B, P, D].
            prefix_lens: [B], or None.
            text_ends: Text vectors up to each chunk's end, where texts come by the chunk.
            prefix_ends: The same of the prefix.

        Returns:
            Outputs of the main stack [B, T + 1, D], not normed: row t predicts token t, the row
            after the last one eos. And its inputs there, [B, T + 1, D].
        """
        B, N, _ = text.shape
        T, device = tokens.shape[1], text.device
        text_valid = valid_rows(text_lens, B, N, device)
        token_valid = valid_rows(token_lens, B, T, device)
        past, layout = None, None
        P = prefix.shape[1] if prefix is not None else 0
        if text_ends is not None:
            counts, sizes = token_valid.sum(dim=1).tolist(), (N, T + 1)
            layout = chunk_layout(
                text_ends, self.cfg.chunk_ratio, counts, sizes, prefix_ends, P, device
            )
        of_prefix, of_text = (layout.prefix, layout.text) if layout else (None, None)
        prefix_valid = valid_rows(prefix_lens, B, P, device)
        if prefix is not None:
            known = prefix_valid if prefix_lens is not None else None
            past = self.read_prefix(prefix, known, of_prefix)
        if past is None:
            prefix_valid = prefix_valid[:, :0]

        known = text_valid if text_lens is not None else None
        read = self.read_text(self._drop(text), known, of_text)
        speech = self._drop(self.embedding(self._inputs(tokens, token_valid)))  # [B, T+1, D]
        x = torch.cat((self._bos(B), read, speech), dim=1)  # [B, N+T+2, D]

        rows = torch.arange(T + 1, device=device)
        if layout is None:
            at_text = torch.arange(N + 1, device=device).expand(B, -1)
            text_size = text_valid.sum(dim=1, keepdim=True) + 1  # with bos
            at_speech = self._speech_start(text_size, N) + rows  # [B, T+1]
        else:
            at_text, at_speech = layout.at_text, layout.at_speech
        positions = torch.cat((at_text, at_speech), dim=1)

        seen = torch.cat((prefix_valid, text_valid.new_ones(B, 1), text_valid), dim=1)  # [B, P+N+1]
        causal = rows.unsqueeze(1) >= rows  # [T+1, T+1]
        later = torch.cat((causal.new_zeros(N + 1, T + 1), causal))  # [N+T+2, T+1]
        mask = torch.cat((seen[:, None].expand(B, N + T + 2, -1), later.expand(B, -1, -1)), dim=2)
        if layout is not None:
            mask = layout.restrict(mask, prefix_valid.shape[1])
        hidden = self.decoder(x, positions=positions, mask=mask.unsqueeze(1), past=past)
        return hidden[:, N + 1 :], speech

    def loss(
        self,
        text: Tensor,
        text_lens: Tensor | None,
        tokens: Tensor,
        token_lens: Tensor | None,
        prefix: Tensor | None = None,
        prefix_lens: Tensor | None = None,
        text_ends: Ends | None = None,
        prefix_ends: Ends | None = None,
    ) -> SpeechLoss:
        """Cross-entropy on the tokens and then eos; arguments as in :meth:`forward`."""
        hidden, x = self.run(
            text, text_lens, tokens, token_lens, prefix, prefix_lens, text_ends, prefix_ends
        )
        logits = self.finish(hidden)
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
        found = SpeechLoss(total / count, total, right / count, count)
        return self.with_drafts(found, hidden, x, targets)

    def with_drafts(
        self, found: SpeechLoss, hidden: Tensor, x: Tensor, targets: Tensor
    ) -> SpeechLoss:
        """A loss with that of the guesses, where the decoder makes any."""
        if self.drafts is None:
            return found
        guesses = self.cfg.drafts, self.pad
        loss, right = draft_loss(self.drafts, self.finish, hidden, x, targets, *guesses)
        return found.joined(self.cfg.draft_weight * loss, draft=loss, draft_accuracy=right)

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

    # --- streaming ---

    def start(self, capacity: int, batch: int = 1) -> SpeechState:
        """See :meth:`StreamingDecoder.start`."""
        reader = self.pre_network.init_cache(batch, 64) if self.pre_network else None
        return SpeechState(self.decoder.init_cache(batch, capacity), reader)

    def read_more(self, state: SpeechState, text: Tensor, prefix: Tensor | None = None) -> None:
        """Read text vectors [B, N, D], or those of the next chunk.

        They see all that was read and spoken, and each other.
        """
        B, N, _ = text.shape
        state.cache.reserve(N + 1 + (0 if prefix is None else prefix.shape[1]))
        self.read_more_prefix(state, prefix)
        x, cache = self.read_text(text, cache=state.reader) if N else text, state.cache
        if not state.begun:
            x = torch.cat((self._bos(B), x), dim=1)
        start = cache.length - state.shift if state.begun else 0
        state.begun, state.text = True, state.text + N
        if not x.shape[1]:
            return
        past = None
        if cache.length:
            past = cache.keys[:, :, :, : cache.length], cache.values[:, :, :, : cache.length]
        cache.append(*self.decoder.keys_values(x, positions=start, past=past, causal=False))

    def ready(self, state: SpeechState, more: bool) -> int | None:
        """So many for each text vector, until all of the text is there."""
        return int(state.text * self.cfg.chunk_ratio) if more else None
