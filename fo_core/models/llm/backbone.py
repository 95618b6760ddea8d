"""Two ways to run a causal LM on vectors: our own Llama-like layers, or transformers' module.

Both give the final-normed states and keep no session in themselves. Ours is for the families of
:mod:`fo_core.models.llm.families`: preallocated cache, joined projections, no masks for single
steps, ragged batches. Everything else runs through transformers
(:mod:`fo_core.models.llm.transformers_module`), correct and slower.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.errors import CheckpointError
from fo_core.layers.fused import Fused, pack_linears
from fo_core.layers.fused_stack import joined_tensors, take_joined
from fo_core.layers.norms import make_norm
from fo_core.layers.packed import Weights
from fo_core.layers.packed_rows import quick_norm
from fo_core.layers.rope import Rope
from fo_core.layers.transformer import KVCache, LlamaConfig, LlamaStack
from fo_core.models.llm import families, source, weight_names
from fo_core.models.llm.families import Fit
from fo_core.models.llm.transformers_module import HFBackbone, HFCache

Ropes = tuple[Rope, Rope | None]  # of the layers, and of those with a window if they differ

__all__ = ["HFBackbone", "HFCache", "LlamaBackbone", "load_backbone"]


class LlamaBackbone(nn.Module):
    """Embedding, our Llama-like layers, final norm, head; names follow Hugging Face's.

    Args:
        shape: Of the layers.
        vocab: V.
        tied: The output's weight is the embedding.
        rope: Rotary positions.
        local_rope: Those of layers of kind "local".
        embed_scale: Factor on the embeddings.
        logit_cap: Bound of the logits, by tanh; 0: none.
    """

    def __init__(
        self,
        shape: LlamaConfig,
        vocab: int,
        tied: bool,
        rope: Rope,
        local_rope: Rope | None = None,
        embed_scale: float = 1.0,
        logit_cap: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_scale, self.logit_cap = embed_scale, logit_cap
        table = torch.empty(vocab, shape.dim)
        if not table.is_meta:  # there, drawing numbers imports torch._dynamo: 1.5 s
            nn.init.normal_(table)
        self.embed_tokens = nn.Embedding(vocab, shape.dim, _weight=table)
        self.stack = LlamaStack(shape, rope, local_rope)
        self.norm = make_norm(shape.dim, shape.rms_eps, shape.norm_offset)
        self.lm_head = None if tied else nn.Linear(shape.dim, vocab, bias=False)
        self.packed_head: Fused | None = None
        self.fit: Fit | None = None  # what it was made for

    def pack(self, weights: Weights = "same") -> LlamaBackbone:
        """Add copies of layers and head for small steps (see ``LlamaStack.pack``)."""
        self.stack.pack(weights)
        if self.embed_tokens.weight.device.type == "cpu":
            vocab, width = self._head.weight.shape
            head = nn.Linear(width, vocab, bias=False, device="meta")
            head.weight = self._head.weight
            self.packed_head = pack_linears(weights, head)
        return self

    def _apply(self, fn, recurse=True):
        """After a cast or a move the packed head is dropped."""
        self.packed_head = None
        return super()._apply(fn, recurse)

    @property
    def _head(self) -> nn.Linear | nn.Embedding:
        """What holds the output's weight."""
        return self.embed_tokens if self.lm_head is None else self.lm_head

    @classmethod
    def empty(cls, fit: Fit, ropes: Ropes, dtype: torch.dtype) -> LlamaBackbone:
        """One whose weights have no memory yet."""
        with torch.device("meta"):
            model = cls(fit.shape, fit.vocab, fit.tied, *ropes, fit.embed_scale, fit.logit_cap)
            model.to(dtype)
        model.fit = fit
        return model

    @classmethod
    def mapped(cls, tensors: dict[str, Tensor], fit: Fit, ropes: Ropes) -> LlamaBackbone:
        """Take the tensors of :meth:`joined` as weights, uncopied.

        Raises:
            ValueError: They are not exactly this LLM's.
        """
        model = cls.empty(fit, ropes, tensors["embed_tokens.weight"].dtype)
        prefix = "stack."
        rest = take_joined(
            model.stack,
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)},
        )
        rest = {prefix + name: tensor for name, tensor in rest.items()}
        rest |= {n: t for n, t in tensors.items() if not n.startswith(prefix)}
        left = [name for name, p in model.named_parameters() if p.is_meta]
        if sorted(left) != sorted(rest):
            raise ValueError("its weights have other names")
        for name, values in rest.items():
            if model.get_parameter(name).shape != values.shape:
                raise ValueError(f"{name} has another shape")
        model.load_state_dict(rest, strict=False, assign=True)
        return model

    def joined(self) -> dict[str, Tensor]:
        """All weights by name, as :meth:`mapped` takes them."""
        stack = {f"stack.{name}": tensor for name, tensor in joined_tensors(self.stack).items()}
        others = {n: t.detach() for n, t in self.state_dict().items() if not n.startswith("stack.")}
        return others | stack

    @property
    def ropes(self) -> Ropes:
        """The rotary positions of the layers."""
        return self.stack.rope, getattr(self.stack, "local_rope", None)

    @classmethod
    def load(cls, folder: Path, fit: Fit, ropes: Ropes, dtype: torch.dtype) -> LlamaBackbone:
        """Read a folder's safetensors into joined projections, one tensor at a time.

        Raises:
            CheckpointError: Tensors are missing, unknown or misshapen.
        """
        model = cls.empty(fit, ropes, dtype)
        model.to_empty(device="cpu")
        model.stack.fuse()
        found = weight_names.Keys(folder, set(model.state_dict()))
        head: Tensor | None = None  # of a file that holds one although the config ties it
        for key, tensor in source.weights(folder):
            name = weight_names.own_name(key)
            if fit.tied and name == "lm_head.weight":
                head = tensor.to(dtype)
                continue
            for part, values in weight_names.parted(name, tensor, fit.family, fit.shape):
                if not found.take(key, part):
                    continue
                own = model.get_parameter(part)
                if own.shape != values.shape:
                    found.misshapen(key, values, own)
                    continue
                with torch.no_grad():
                    own.copy_(values)
        if head is not None:
            model._take_head(head, found)
        found.check()
        return model

    def _take_head(self, head: Tensor, found: weight_names.Keys) -> None:
        """A tied model's own head [V, H] in the file: as the embedding, or beside it if it differs.

        transformers does the same.
        """
        embedding = self.embed_tokens.weight
        if head.shape != embedding.shape:
            found.misshapen("lm_head.weight", head, embedding)
        elif found.take("lm_head.weight", "embed_tokens.weight"):
            with torch.no_grad():
                embedding.copy_(head)
        elif not torch.equal(head, embedding):
            self.lm_head = nn.Linear(head.shape[1], head.shape[0], bias=False, device="meta")
            self.lm_head.weight = nn.Parameter(head)

    @property
    def kernels(self) -> list[str]:
        """What runs its packed products; empty where they are not packed."""
        parts = [part for layer in self.stack.blocks for part in (layer.self_attn, layer.mlp)]
        fused = [product for part in parts for product in (part.joined, part.output)]
        return sorted({product.kernel for product in fused if product is not None} - {""})

    @property
    def tied(self) -> bool:
        """Whether the output's weight is the embedding."""
        return self.lm_head is None

    @property
    def window(self) -> int:
        """The shortest sliding window of its layers; 0: there is none."""
        windows = [kind.window for kind in self.stack.config.kinds if kind.window]
        return min(windows, default=0)

    @property
    def table_shape(self) -> tuple[int, int]:
        """(V, H)."""
        return self.embed_tokens.num_embeddings, self.embed_tokens.embedding_dim

    @property
    def embedding_table(self) -> Tensor:
        """[V, H], as :meth:`embed` gives it."""
        weight = self.embed_tokens.weight
        return weight if self.embed_scale == 1.0 else weight * self._scale

    @property
    def _scale(self) -> Tensor:
        """The factor on embeddings, rounded to the dtype of the weights as in training."""
        weight = self.embed_tokens.weight
        return torch.tensor(self.embed_scale, dtype=weight.dtype, device=weight.device)

    def embed(self, ids: Tensor) -> Tensor:
        """[B, N] → [B, N, H]."""
        rows = self.embed_tokens(ids)
        return rows if self.embed_scale == 1.0 else rows * self._scale

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] → [..., V]."""
        if self.packed_head is not None and self.packed_head.fits(hidden, self._head):
            out = self.packed_head.product(hidden)
        else:
            out = F.linear(hidden.to(self._head.weight.dtype), self._head.weight)
        return out if not self.logit_cap else torch.tanh(out / self.logit_cap) * self.logit_cap

    def init_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty preallocated cache."""
        return self.stack.init_cache(batch, capacity)

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Final-normed states [B, N, H]; mask None (causal) or [B or 1, 1, N, K] bool or float.

        ``past``: keys and values [L, 1, Hkv, P, dh] that every row has read before.
        """
        if past is not None:
            keys, values = (part.expand(-1, len(embeds), -1, -1, -1) for part in past)
            past = keys, values
        return self.normed(self.stack(embeds, positions, mask, cache, past))

    def normed(self, hidden: Tensor) -> Tensor:
        """The final norm of states [B, N, H]."""
        return (
            quick_norm(self.norm, hidden)
            if isinstance(self.norm, nn.RMSNorm)
            else self.norm(hidden)
        )


def load_backbone(
    folder: Path, config: Any, dtype: torch.dtype, lean: bool | None = None
) -> tuple[LlamaBackbone | HFBackbone, str]:
    """The lean backbone where it fits (``lean`` None), else transformers' module, and why.

    Raises:
        CheckpointError: The weights cannot be read, or ``lean`` is True and does not fit.
    """
    found = families.fit(config)
    if isinstance(found, Fit) and not source.has_safetensors(folder):
        found = "its weights are not in model.safetensors"
    if isinstance(found, Fit) and lean is False:
        found = "asked for"
    if isinstance(found, Fit):
        ropes = families.make_ropes(config, found.shape)
        return LlamaBackbone.load(folder, found, ropes, dtype), f"family {config.model_type}"
    if lean:
        raise CheckpointError(f"{folder}: {found}")
    return HFBackbone.load(folder, dtype), found
