"""The frozen text LLM: embeddings in, hidden states out; weights are immutable.

Paper, section 3.1.

Speech enters as vectors in the LLM's embedding space and leaves as its last hidden states and
tokens. Any decoder-only LLM with a chat template does. Weights take no gradient; gradients flow
through to the vectors. Nothing of a session is kept here: see :class:`LLMState`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fo_core.devices.compute import working_dtype
from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import fingerprint
from fo_core.layers.packed import Weights
from fo_core.layers.ragged import run_ragged
from fo_core.layers.transformer import KVCache
from fo_core.models.llm import chat, checks, families, prepared, reasoning, source
from fo_core.models.llm.backbone import HFBackbone, LlamaBackbone, load_backbone
from fo_core.models.llm.chat import ChatParts
from fo_core.models.llm.facts import LLMFacts, read_dtype
from fo_core.models.llm.state import LLMState

TURN = 128  # positions of the LLM's context that a system text leaves to a turn, at least


class FrozenLLM(nn.Module):
    """A frozen causal LM on vectors.

    Args:
        backbone: The weights and how they run.
        tokenizer: Its transformers tokenizer, or a ``StandaloneTokenizer`` that does the same.
        spec: What it was loaded from, for messages and for the model folder.
        stored: The dtype that the weights fit in; None: the one they have.
        facts: What its folder says of it.
    """

    def __init__(
        self,
        backbone: LlamaBackbone | HFBackbone,
        tokenizer: Any,
        spec: str = "",
        stored: torch.dtype | None = None,
        facts: LLMFacts | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.spec = spec
        self.facts = facts or LLMFacts()
        self.stored = stored or self.dtype
        self.loaded = ""  # fingerprint of what was loaded, where that is known already
        self.sharded_layers = (
            False  # several processes hold parts of the layers: see ``cached_prefix``
        )
        self._prefixes: dict[Any, tuple[Tensor, Tensor]] = {}
        self.requires_grad_(False)
        super().train(False)

    @classmethod
    def load(
        cls,
        spec: str,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device = "cpu",
        lean: bool | None = None,
    ) -> FrozenLLM:
        """Load an LLM.

        Args:
            spec: A folder, a hub id, a ``.gguf`` file, "embedded" or "tiny" (see ``source``).
            dtype: The one dtype of weights and states. A CPU that has no products in it computes
                in float32 with weights rounded to it, whose fingerprint is the same.
            device: Where it runs.
            lean: True asks for our own layers, False for transformers'; None: ours where they fit.

        Raises:
            CheckpointError: There is no such LLM, it cannot be read, its files do not belong
                together, or it can't do what a talk asks (see :mod:`fo_core.models.llm.checks`).
            EngineError: A package that it needs is missing.
        """
        kind = read_dtype(dtype)
        folder = source.resolve(spec)
        kept = None if lean is False else prepared.read(folder, kind)
        if kept is not None:
            llm = cls(kept.backbone, kept.tokenizer, spec, kind, kept.facts)
            llm.loaded = kept.fingerprint
            return llm.move(device)
        config = source.read_config(folder)
        tokenizer = source.read_tokenizer(folder)
        backbone, why = load_backbone(folder, config, kind, lean)
        facts = LLMFacts(
            architecture=source.architecture(config),
            why=why,
            context=families.context_limit(config),
            ends=source.read_ends(folder),
            quantised=backbone.quantised if isinstance(backbone, HFBackbone) else "",
        )
        llm = cls(backbone, tokenizer, spec, kind, facts)
        source.check_tokenizer(folder, tokenizer, llm.vocab_size)
        if isinstance(backbone, LlamaBackbone):
            llm.loaded = prepared.write(folder, llm)
        llm.move(device)
        if isinstance(backbone, HFBackbone):
            checks.refuse_unfit(llm)
        return llm

    def move(self, device: str | torch.device) -> FrozenLLM:
        """To a device, in the dtype it computes in; the fingerprint stays."""
        if self.facts.quantised:  # its weights have dtypes of their own
            return self.to(device)
        return self.to(device, working_dtype(self.stored, device))

    def pack(self, weights: Weights = "same") -> FrozenLLM:
        """Add copies of the matrices in the CPU kernels' own layout: quicker small steps.

        For inference on a CPU; without effect elsewhere. The weights themselves stay (fingerprint,
        gradients to the vectors); memory grows by the copies.
        """
        if isinstance(self.backbone, LlamaBackbone):
            self.backbone.pack(weights)
        return self

    def train(self, mode: bool = True) -> FrozenLLM:
        """Stays in eval mode whatever the model around it does."""
        return self

    @property
    def embedding_table(self) -> Tensor:
        """Input embeddings [V, H]."""
        return self.backbone.embedding_table

    @property
    def width(self) -> int:
        """H."""
        return self.backbone.table_shape[1]

    @property
    def vocab_size(self) -> int:
        """V: rows of the embedding table (some may belong to no token)."""
        return self.backbone.table_shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights in memory (but quantised ones), and of states unless packed."""
        floats = (p.dtype for p in self.parameters() if p.is_floating_point())
        return next(dtype for dtype in floats if dtype.itemsize > 1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def end_id(self) -> int:
        """The token that closes a message in the chat template; the tokenizer's own without one.

        It is what is fed and learned; an answer may end with any of :attr:`end_ids`.
        """
        if not hasattr(self, "_end_id"):
            try:
                self._end_id = self.chat_parts("").end_id
            except CheckpointError:
                self._end_id = int(self.tokenizer.eos_token_id)
        return self._end_id

    @property
    def end_ids(self) -> frozenset[int]:
        """All tokens that end an answer: of the template, the tokenizer, the generation config."""
        if not hasattr(self, "_more_ends"):
            eos = self.tokenizer.eos_token_id
            ends = [*self.facts.ends, *([] if eos is None else [int(eos)])]
            self._more_ends = frozenset(token for token in ends if token < self.vocab_size)
        return self._more_ends | {self.end_id}

    def answer_text(self, ids: Sequence[int]) -> str:
        """Text of an answer's ids: up to its end token, without thoughts and special tokens."""
        kept = list(itertools.takewhile(lambda token: token not in self.end_ids, ids))
        return reasoning.answer_text(self.tokenizer, kept)

    def thought_filter(self) -> reasoning.ThoughtFilter:
        """Tells thoughts from the answer in one that is being written."""
        decode = self.tokenizer.decode
        return reasoning.ThoughtFilter(
            lambda ids: decode(ids, skip_special_tokens=False),
            lambda text: chat.encode(self.tokenizer, text),
        )

    def check_room(self, positions: int, what: str, context: int | None = None) -> None:
        """Refuse what does not fit the LLM's context.

        Args:
            positions: That ``what`` takes.
            what: For the message.
            context: A smaller limit than the LLM's own.

        Raises:
            CheckpointError: It takes more than there is.
        """
        limits = [limit for limit in (self.facts.context, context) if limit is not None]
        if limits and positions > min(limits):
            raise CheckpointError(
                f"{what} takes {positions} positions of the LLM's context, which has {min(limits)}",
                do="shorten it, or take an LLM with a longer context",
            )

    def fingerprint(self) -> str:
        """SHA-256 of the weights in memory; the same before and after every stage."""
        return fingerprint(self.backbone, self.stored)

    def loaded_fingerprint(self) -> str:
        """The same of the weights as they were loaded, which may be known without hashing them."""
        self.loaded = self.loaded or self.fingerprint()
        return self.loaded

    def embed(self, ids: Tensor | Sequence[int]) -> Tensor:
        """Embedding rows [B, N, H] of ids [B, N]; a list of N ids is one row."""
        if not isinstance(ids, Tensor):
            ids = list(ids)
            if max(ids, default=0) >= self.vocab_size:
                token = self.tokenizer.convert_ids_to_tokens(max(ids))
                raise CheckpointError(f"the LLM has no embedding for the token {token!r}")
            ids = torch.tensor([ids], dtype=torch.long, device=self.device)
        return self.backbone.embed(ids)

    def init_state(self, batch_size: int = 1, max_len: int = 512) -> LLMState:
        """An empty state with room for ``max_len`` positions (it grows when they are used up)."""
        return LLMState(self.backbone.init_cache(batch_size, max_len))

    def step(
        self,
        embeds: Tensor,
        state: LLMState,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, LLMState]:
        """Feed vectors behind what was fed before; the state is extended in place.

        Args:
            embeds: [B, N, H] in any float dtype.
            state: From :meth:`init_state` or an earlier step.
            mask: None (all of the past and the causal part of the new), or bool (True = visible)
                or float (added) [B or 1, 1, N, K], K = past + N.
            positions: [B, N] where rows are not aligned; None continues.

        Returns:
            Final-normed states [B, N, H], in the LLM's dtype (packed: float32), and the state.

        Raises:
            CheckpointError: The LLM's context is too short.
        """
        self.check_room(state.length + embeds.shape[1], "what was said so far")
        hidden = self.backbone(embeds.to(self.dtype), mask, positions, state.cache)
        return hidden, state

    def step_many(self, embeds: Sequence[Tensor], states: Sequence[LLMState]) -> list[Tensor]:
        """:meth:`step` of several sessions in one ragged batch, where the layers are our own.

        Args:
            embeds: [1, N_i, H] each.
            states: Theirs, of one row each; extended in place.

        Returns:
            [1, N_i, H] each.
        """
        caches = [state.cache for state in states]
        own = [cache for cache in caches if isinstance(cache, KVCache)]
        backbone = self.backbone
        if not isinstance(backbone, LlamaBackbone) or len(own) < len(caches):
            return [self.step(*one)[0] for one in zip(embeds, states, strict=True)]
        rows = [row.to(self.dtype) for row in embeds]
        for row, state in zip(rows, states, strict=True):
            self.check_room(state.length + row.shape[1], "what was said so far")
        found = run_ragged(backbone.stack, rows, own, [0] * len(own))
        normed = backbone.normed(torch.cat(found, dim=1))
        return list(normed.split([row.shape[1] for row in rows], dim=1))

    def forward(
        self,
        embeds: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Whole sequences at once, for training.

        Args:
            embeds: [B, N, H].
            attention_mask: None (causal), [B, N] (1 = a vector, 0 = padding; causal besides), or
                [B or 1, 1, N, N] bool (True = visible) or float (added), which says everything.
            position_ids: [B, N]; None counts the vectors that [B, N] shows, else 0, 1, ...
            past: From :meth:`remember`: what every row has read before. The mask then is
                [B or 1, 1, N, P + N] and the positions are given.

        Returns:
            Final-normed states [B, N, H] in the LLM's dtype.

        Raises:
            CheckpointError: The LLM's context is too short.
        """
        N = embeds.shape[1]
        if position_ids is None:
            self.check_room(N, "a row")
        mask = attention_mask
        if mask is not None and mask.dim() == 2:
            shown = mask.bool()
            if position_ids is None:
                position_ids = (shown.long().cumsum(-1) - 1).clamp(min=0)
            square = torch.ones(N, N, dtype=torch.bool, device=embeds.device)
            mask = square.tril() & shown[:, None, None, :]  # [B, 1, N, N]
            mask = mask | torch.eye(N, dtype=torch.bool, device=embeds.device)  # no empty row
        if past is not None:
            assert isinstance(self.backbone, LlamaBackbone), (
                "cached_prefix gives nothing for others"
            )
            return self.backbone(embeds.to(self.dtype), mask, position_ids, past=past)
        return self.backbone(embeds.to(self.dtype), mask, position_ids, None)

    @torch.no_grad()
    def cached_prefix(self, ids: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Keys and values [L, 1, Hkv, P, dh] of ids that many rows begin with.

        Returns:
            None for no ids, and where the LLM does not run on our own layers or its layers are
            sharded over processes (each must run it equally often). The newest few are kept, so
            that every batch of a training stage finds them.
        """
        if not ids or self.sharded_layers or not isinstance(self.backbone, LlamaBackbone):
            return None
        key = (tuple(ids), self.device, self.dtype)
        if key not in self._prefixes:
            while len(self._prefixes) >= 4:
                self._prefixes.pop(next(iter(self._prefixes)))
            stack = self.backbone.stack
            self._prefixes[key] = stack.keys_values(self.embed(list(ids)), causal=True)
        return self._prefixes[key]

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., V] of final-normed states [..., H]."""
        return self.backbone.logits(hidden)

    def chat_parts(
        self,
        system: str | None,
        shots: Sequence[tuple[str, str]] = (),
        tools: Sequence[dict[str, Any]] = (),
    ) -> ChatParts:
        """Ids around the audio slots, from the tokenizer's chat template."""
        return self._fitting(chat.parts_from_tokenizer(self.tokenizer, system, shots, tools))

    def chat_parts_from_template(self, template: str, role: str | None = None) -> ChatParts:
        """Ids around the audio slots, from a published checkpoint's template with ``<audio>``."""
        return self._fitting(chat.parts_from_template(self.tokenizer, template, role))

    def _fitting(self, parts: ChatParts) -> ChatParts:
        """The parts, if what stands before the first turn leaves it room in the LLM's context."""
        limit = self.facts.context
        room = None if limit is None else limit - min(TURN, limit // 2)
        self.check_room(len(parts.system_ids), "the system text", room)
        return parts

    def split(self, vectors: Tensor, dim: int) -> Tensor:
        """Cut every H-vector into H/dim rows of the decoder's width.

        Args:
            vectors: [..., N, H].
            dim: Width of a row.

        Returns:
            [..., N·H/dim, dim].

        Raises:
            CheckpointError: The LLM's width is no multiple of ``dim``.
        """
        *lead, N, H = vectors.shape
        if H % dim:
            divisors = [d for d in range(max(1, H // 8), H + 1) if H % d == 0]
            raise CheckpointError(
                f"the LLM's width {H} does not divide into rows of the decoder's width {dim}",
                possible=f"a decoder of width {', '.join(map(str, divisors))}",
            )
        return vectors.reshape(*lead, N * (H // dim), dim)
