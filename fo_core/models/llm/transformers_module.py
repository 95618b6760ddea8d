"""Any causal LM through transformers' own module: correct, and slower than our own layers.

Notable choices: caches keep all keys and values, also of layers with a sliding window, so that they
can be rolled back to any length; masks given by hand are narrowed to each type of layer's window;
logits are computed by the model's own head, with whatever scales and caps it has.
"""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fo_core.errors import CheckpointError, first_line
from fo_core.models.llm import weight_names
from fo_core.models.llm.checks import ATTENDING


class HFCache:
    """transformers' growing cache with the methods of :class:`KVCache`.

    Args:
        cache: Of keys and values only: what recurs can't be rolled back.
        length: Positions in use.
        places: Rotary position of each, [B, length]; None before the first.
    """

    def __init__(self, cache: Any, length: int = 0, places: Tensor | None = None) -> None:
        self.cache, self.length, self.places = cache, length, places

    def note(self, positions: Tensor) -> Tensor:
        """Add the positions [B, N] of a step; those of all [B, length + N]."""
        if self.places is not None:
            positions = torch.cat((self.places, positions), dim=1)
        self.places = positions
        return positions

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on."""
        if length < self.length:
            self.cache.crop(length - self.length)  # a negative number is how many to remove
            self.length = length
            if self.places is not None:
                self.places = self.places[:, :length]

    def fork(self, room: int = 0) -> HFCache:
        """An independent copy; layers that grow by new tensors share what they have so far."""
        twin = copy.copy(self.cache)
        twin.layers = [_twin(layer) for layer in self.cache.layers]
        return HFCache(twin, self.length, self.places)

    def branch(self) -> HFCache:
        """As :meth:`KVCache.branch`."""
        return self.fork()

    def expand(self, batch: int, capacity: int) -> HFCache:
        """A copy of a one-row cache for ``batch`` rows."""
        wide = self.fork()
        wide.cache.batch_repeat_interleave(batch)
        wide.places = None if self.places is None else self.places.expand(batch, -1)
        return wide

    def select(self, rows: Tensor, capacity: int = 0) -> HFCache:
        """A copy of some rows of the batch."""
        some = self.fork()
        some.cache.batch_select_indices(rows)
        some.places = None if self.places is None else self.places[rows]
        return some


def _twin(layer: Any) -> Any:
    """A copy of a layer's cache that can grow and be cropped without changing the layer's own."""
    from transformers.cache_utils import DynamicLayer

    return copy.copy(layer) if type(layer) is DynamicLayer else copy.deepcopy(layer)


class _Given(nn.Module):
    """Stands in for a model's body, and for a decoder in it: gives back the states it is given."""

    def __getattr__(self, name: str) -> Any:
        if name in ("decoder", "language_model", "text_model"):
            return self
        return super().__getattr__(name)

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _Output:
        return _Output(inputs_embeds)


class _Output:
    """What a body returns, with nothing in it but the states."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __getitem__(self, place: int | slice) -> Any:
        return (self.last_hidden_state,)[place]


class HFBackbone(nn.Module):
    """Any causal LM of transformers."""

    model: Any
    _head: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        prefix = model.base_model_prefix
        self.body_name = prefix if isinstance(getattr(model, prefix, None), nn.Module) else "model"
        config = model.config.get_text_config(decoder=True)
        self.window = getattr(config, "sliding_window", None) or 0
        self.chunk = getattr(config, "attention_chunk_size", None) or 0
        types = getattr(config, "layer_types", None)
        if types is None:  # one kind of mask for all layers
            self.window = self.window if _windows(self.body) else 0
            types = ["sliding_attention" if self.window else "full_attention"]
        self.types = tuple(dict.fromkeys(types))
        takes = inspect.signature(self.body.forward).parameters
        self.takes_positions = "position_ids" in takes
        head = copy.copy(model)
        head.__dict__ = dict(model.__dict__)
        head._modules = {**model._modules, self.body_name: _Given()}
        self.__dict__["_head"] = head  # no submodule of this one: its weights are the model's

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> HFBackbone:
        """Read a folder with transformers.

        Raises:
            CheckpointError: transformers cannot read it; its tensors are not exactly the LLM's; or
                the LLM keeps a state that can't be rolled back.
        """
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()  # its report of missing tensors becomes our error
        logging.disable_progress_bar()
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:
            raise CheckpointError(
                f"{folder} cannot be read as a causal LM: {first_line(error)}"
            ) from error
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
        model, info = loaded
        shapes = [
            f"{key} has shape {list(found)}, not {list(own)}"
            for key, found, own in info.get("mismatched_keys", ())
        ]
        weight_names.refuse(folder, info["missing_keys"], info["unexpected_keys"], shapes)
        refuse_recurrent(model.config)
        return cls(model)

    @property
    def quantised(self) -> str:
        """How the weights are quantised; "" where they are not."""
        how = getattr(self.model.config, "quantization_config", None)
        if how is None:
            return ""
        known = how if isinstance(how, dict) else vars(how)
        return str(known.get("quant_method", "yes")).rpartition(".")[2].lower()

    @property
    def body(self) -> nn.Module:
        """The model without its head."""
        return getattr(self.model, self.body_name)

    @property
    def tied(self) -> bool:
        """Whether the output's weight is the embedding."""
        head = self.model.get_output_embeddings()
        return head is not None and head.weight is self.model.get_input_embeddings().weight

    @property
    def table_shape(self) -> tuple[int, int]:
        """(V, H)."""
        rows, width = self.model.get_input_embeddings().weight.shape
        return rows, width

    @property
    def embedding_table(self) -> Tensor:
        """[V, H], as :meth:`embed` gives it."""
        layer = self.model.get_input_embeddings()
        if type(layer) is nn.Embedding:
            return layer.weight
        return self.embed(torch.arange(len(layer.weight), device=layer.weight.device))

    def embed(self, ids: Tensor) -> Tensor:
        """[B, N] → [B, N, H]."""
        return self.model.get_input_embeddings()(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] → [..., V], by the model's own head."""
        *lead, width = hidden.shape
        out = self._head(inputs_embeds=hidden.reshape(1, -1, width), use_cache=False).logits
        return out.reshape(*lead, -1)

    def init_cache(self, batch: int, capacity: int) -> HFCache:
        """An empty cache that grows by itself and keeps everything."""
        return HFCache(full_cache(self.model.config))

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: HFCache | None = None,
    ) -> Tensor:
        """Final-normed states [B, N, H]; mask None (causal) or [B or 1, 1, N, K] bool or float."""
        B, N, _ = embeds.shape
        if positions is None:
            start = cache.length if cache is not None else 0
            positions = torch.arange(start, start + N, device=embeds.device)
        positions = positions.expand(B, N)
        places = cache.note(positions) if cache is not None else positions
        shown: Tensor | dict[str, Tensor] | None = None
        if mask is not None:
            masks = {
                kind: _added(self._narrowed(kind, mask, positions, places), embeds)
                for kind in self.types
            }
            shown = masks if len(masks) > 1 else next(iter(masks.values()))
        out = self.body(
            inputs_embeds=embeds,
            attention_mask=shown,
            past_key_values=cache.cache if cache is not None else None,
            use_cache=cache is not None,
            **({"position_ids": positions} if self.takes_positions else {}),
        )
        if cache is not None:
            cache.length += N
        return out.last_hidden_state

    def _narrowed(self, kind: str, mask: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """A mask with only what a type of layer sees; positions [B, N] and [B, K]."""
        queries, keys = queries[:, None, :, None], keys[:, None, None, :]
        if kind == "sliding_attention" and self.window:
            near = queries - keys < self.window
        elif kind == "chunked_attention" and self.chunk:
            near = queries // self.chunk == keys // self.chunk
        else:
            return mask
        if mask.dtype == torch.bool:
            return mask & near
        return mask.masked_fill(~near, torch.finfo(mask.dtype).min)


def _windows(body: nn.Module) -> bool:
    """Whether a body without types of layers heeds its config's window (Mistral, Mixtral, Phi)."""
    try:
        return "sliding_window" in inspect.getsource(inspect.unwrap(type(body).forward))
    except (OSError, TypeError):
        return True


def _added(mask: Tensor, embeds: Tensor) -> Tensor:
    """A mask as numbers to add, [B, 1, N, K], in the dtype of embeds [B, N, H]."""
    if mask.dtype == torch.bool:
        zeros = torch.zeros(mask.shape, dtype=embeds.dtype, device=mask.device)
        mask = zeros.masked_fill(~mask, torch.finfo(embeds.dtype).min)
    return mask.to(embeds.dtype).expand(len(embeds), -1, -1, -1)


def full_cache(config: Any) -> Any:
    """An empty cache for a config whose layers with a window keep everything, too."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    cache = DynamicCache(config=config)
    cache.layers = [
        DynamicLayer() if type(layer) is DynamicSlidingWindowLayer else layer
        for layer in cache.layers
    ]
    return cache


def refuse_recurrent(config: Any) -> None:
    """Refuse an LLM whose layers carry a state on from token to token.

    A turn that wants no answer, or an answer that is interrupted, is taken back; such a state can't
    be.

    Raises:
        CheckpointError: It has such layers.
    """
    try:
        cache = full_cache(config)
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{config.model_type}: its cache can't be rolled back ({first_line(error)})",
            possible=ATTENDING,
        ) from error
    recurrent = [layer for layer in cache.layers if hasattr(layer, "recurrent_states")]
    if recurrent:
        raise CheckpointError(
            f"{config.model_type}: {len(recurrent)} of {len(cache.layers)} layers are recurrent or "
            "convolutional, and what they have read can't be taken back when a turn is dropped",
            possible=ATTENDING,
        )
