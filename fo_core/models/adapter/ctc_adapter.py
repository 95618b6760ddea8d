"""An adapter that hands the LLM what the CTC head heard, in the LLM's own token embeddings.

A deviation from the paper, for small data: instead of learning the LLM's embedding space through a
convolution, runs of one CTC class become one vector, and blanks none. The vector is the run's mean
posterior over the non-blank classes, renormalised and sharpened, times the frozen LLM's embedding
rows of these classes; where the head is right it is the embedding of the spoken token. On top lies
a projection of the run's mean encoder frame behind a gate that starts at 0 (stage ``input-2``).

A run that goes on over a chunk's end counts once: the state holds it open until another class
comes, or until it is ``max_run`` frames long (later frames of it are ignored), or ``flush`` at the
end of speech. ``forward`` is one step from a fresh state, and a flush.

Parameters: ``project``, ``gate``. The embedding rows are not saved: ``attach_table``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.models.adapter.speech_adapter import SpeechAdapter


@config
class CtcAdapterConfig:
    """CTC-compressing adapter."""

    type: Literal["ctc"] = "ctc"
    sharpness: float = 4.0  # exponent on the run's posterior before it is renormalised
    max_run: int = 8  # frames (40 ms) after which a run is handed on although it goes on


@dataclass
class CtcAdapterState:
    """The run that is open at the end of a chunk."""

    symbol: Tensor  # [B] int64, its class; 0: none
    length: Tensor  # [B] int64, its frames so far
    posterior: Tensor  # [B, V] sum over its first max_run frames
    frame: Tensor  # [B, E] sum of encoder frames over the same


class CtcAdapter(SpeechAdapter[CtcAdapterState]):
    """Runs of CTC classes to vectors in the LLM's embedding space.

    Args:
        cfg: Sharpness and longest run.
        enc_dim: E, width of the encoder's frames.
        llm_dim: H, width of the LLM.
        token_ids: LLM token id of each CTC class, for their number; None: ``attach_table`` says it.
    """

    requires_ctc = True

    def __init__(
        self,
        cfg: CtcAdapterConfig,
        enc_dim: int,
        llm_dim: int,
        token_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if cfg.max_run < 1 or cfg.sharpness <= 0:
            raise ConfigError("adapter: max_run and sharpness must be above 0")
        self.cfg, self.enc_dim = cfg, enc_dim
        classes = 0
        if token_ids is not None:
            classes = len(token_ids) + (list(token_ids[:1]) != [-1])
        self.project = nn.Linear(enc_dim, llm_dim)
        self.gate = nn.Parameter(torch.zeros(()))
        self.register_buffer("table", torch.zeros(classes, llm_dim), persistent=False)
        self.table: Tensor

    def attach_table(self, rows: Tensor) -> None:
        """Give the frozen LLM's embedding rows of the classes, ``[V, H]``; row 0 is not used.

        Raises:
            ConfigError: Another width, or another number of classes than ``token_ids``.
        """
        classes, width = self.table.shape
        if rows.ndim != 2 or rows.shape[1] != width or classes not in (0, rows.shape[0]):
            raise ConfigError(
                f"adapter: embedding rows {tuple(rows.shape)}", f"({classes or 'any'}, {width})"
            )
        self.table = rows.detach().to(self.project.weight, copy=True)
        self.table[0] = 0

    def init_state(self, batch_size: int) -> CtcAdapterState:
        """No open run."""
        weight = self.project.weight
        zeros = torch.zeros(batch_size, dtype=torch.int64, device=weight.device)
        return CtcAdapterState(
            zeros,
            zeros,
            weight.new_zeros(batch_size, self.table.shape[0], dtype=torch.float32),
            weight.new_zeros(batch_size, self.enc_dim),
        )

    def flush(self, state: CtcAdapterState) -> tuple[Tensor, Tensor, CtcAdapterState]:
        """End of speech: the open run, if there is one -> ``[B, 0 or 1, H]``, lengths, state."""
        batch = state.symbol.shape[0]
        x = state.frame.new_zeros(batch, 0, self.enc_dim)
        logits = state.posterior.new_zeros(batch, 0, self.table.shape[0])
        return self._run(x, state, logits, None, True)

    def _run(
        self,
        x: Tensor,
        state: CtcAdapterState,
        logits: Tensor | None,
        lens: Tensor | None,
        last: bool,
    ) -> tuple[Tensor, Tensor, CtcAdapterState]:
        """Collapse the open run and the new frames into closed runs and the next open run.

        The open run goes in front as one more "frame" (sums instead of values), so all of it is
        one table of T + 1 columns: its class, its place within its run, and its run's number.
        """
        assert logits is not None, "the CTC adapter needs the CTC head's logits"
        assert self.table.shape[0] == logits.shape[-1], "attach_table first"
        batch, time, _ = x.shape
        device, limit = x.device, self.cfg.max_run
        posterior = logits.float().softmax(-1)
        symbols = posterior.argmax(-1)
        if lens is not None:
            symbols = symbols * (torch.arange(time, device=device) < lens.to(device)[:, None])
        symbols = torch.cat([state.symbol[:, None], symbols], 1)  # [B, 1 + T]
        starts = F.pad(symbols[:, 1:] != symbols[:, :-1], (1, 0), value=False)
        runs = starts.long().cumsum(1)  # [B, 1 + T], the open run is 0

        index = torch.arange(time + 1, device=device).expand(batch, -1)
        begin = torch.where(starts, index, 0).cummax(1).values
        place = index - begin + 1  # of a frame in its run, from 1
        place = torch.where(runs == 0, index + state.length[:, None], place)
        use = (symbols > 0) & (place <= limit)
        use[:, 0] = state.symbol > 0  # the open run's sums already stop at the limit

        count = int(runs[:, -1].max()) + 1
        member = F.one_hot(runs, count).transpose(1, 2) * use[:, None]  # [B, runs, 1 + T]
        weights = member.to(posterior.dtype)
        mass = weights @ torch.cat([state.posterior[:, None], posterior], 1)  # [B, runs, V]
        frame = weights.to(x.dtype) @ torch.cat([state.frame[:, None].to(x.dtype), x], 1)
        length = place.new_zeros(batch, count).scatter_reduce(1, runs, place, "amax")
        symbol = symbols.new_zeros(batch, count).scatter_reduce(1, runs, symbols, "amax")

        numbers = torch.arange(count, device=device)
        exists = numbers <= runs[:, -1:]
        closed = (numbers < runs[:, -1:]) | last | (length >= limit)
        told = (numbers == 0) & (state.length[:, None] >= limit)  # handed on in an earlier step
        emit = exists & closed & ~told & (symbol > 0)

        final = runs[:, -1]
        rows = torch.arange(batch, device=device)
        if last:
            following = self.init_state(batch)
        else:
            following = CtcAdapterState(
                symbol[rows, final],
                length[rows, final] * (symbol[rows, final] > 0),
                mass[rows, final],
                frame[rows, final].to(state.frame.dtype),
            )
        used = length.clamp_max(limit).clamp_min(1)[..., None]
        embeds, counts = self._pack(self._embed(mass / used, frame / used), emit)
        return embeds, counts, following

    def _embed(self, posterior: Tensor, frame: Tensor) -> Tensor:
        """Mean posteriors ``[B, N, V]`` and frames ``[B, N, E]`` of runs -> ``[B, N, H]``."""
        logs = posterior[..., 1:].clamp_min(1e-12).log() * self.cfg.sharpness
        heard = logs.softmax(-1).to(self.table.dtype) @ self.table[1:]
        return heard + self.gate * self.project(frame.to(self.project.weight.dtype))

    @staticmethod
    def _pack(values: Tensor, emit: Tensor) -> tuple[Tensor, Tensor]:
        """Move the emitted rows of ``[B, R, H]`` to the front -> ``[B, N, H]``, counts ``[B]``."""
        counts = emit.sum(1)
        order = emit.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
        packed = values.gather(1, order[..., None].expand(-1, -1, values.shape[-1]))
        return packed * emit.gather(1, order)[..., None], counts
