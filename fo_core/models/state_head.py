"""The dialogue state of every chunk, read from the frozen LLM's last hidden state (paper, 3.3).

Dialogue states: 0 ``continue`` (the user may go on: keep listening), 1 ``respond`` (the user has
finished: answer), 2 ``dismiss`` (the speech ended and wants no answer).
Published heads have a fourth output that plays no part in the probabilities.

The paper's head is one linear layer. A head with ``gru`` is a deviation: a recurrent layer over the
chunks reads the LLM's state and the chunk's encoder frames, so that it also knows how the words
were spoken and for how long it has been silent. An adapter that writes words needs it: in silence
the LLM reads nothing new.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fo_core.streaming import ENCODER_FRAMES

STATES = ("continue", "respond", "dismiss")  # names of the dialogue states 0, 1, 2
DROPOUT = 0.1  # in training, before and behind the recurrent layer


class StateHead(nn.Module):
    """LLM states, and encoder frames with ``gru``, to logits of the dialogue states.

    Args:
        llm_dim: H.
        classes: Outputs; at least three.
        gru: Width of the recurrent layer; 0: one linear layer.
        enc_dim: E, width of the encoder's frames.
    """

    def __init__(self, llm_dim: int, classes: int = 4, gru: int = 0, enc_dim: int = 0) -> None:
        super().__init__()
        assert classes >= len(STATES), "three states need three outputs"
        self.head = nn.Linear(gru or llm_dim, classes)
        self.gru: nn.GRU | None = None
        if gru:
            self.text = nn.Sequential(nn.LayerNorm(llm_dim), nn.Linear(llm_dim, gru))
            self.sound = nn.Sequential(
                nn.LayerNorm(ENCODER_FRAMES * enc_dim), nn.Linear(ENCODER_FRAMES * enc_dim, gru)
            )
            self.gru = nn.GRU(2 * gru, gru, batch_first=True)

    left_out = False  # untrained in a model folder: a turn ends by voice and silence instead

    def forward(self, hidden: Tensor, frames: Tensor | None = None) -> Tensor:
        """Logits ``[B, C, classes]`` of whole turns.

        Args:
            hidden: Final-normed LLM states behind each chunk ``[B, C, H]``, any float dtype.
            frames: The chunks' encoder frames ``[B, C, 4, E]``; a linear head reads none.
        """
        return self._run(hidden, frames, None)[0]

    @torch.inference_mode()
    def step(
        self, hidden: Tensor, frames: Tensor | None = None, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Probabilities ``[B, C, 3]`` of the next chunks of a turn, and what to hand to the next.

        Args:
            hidden: As of :meth:`forward`.
            frames: Likewise.
            memory: Of the chunks before; None: they are the turn's first.
        """
        logits, memory = self._run(hidden, frames, memory)
        return logits[..., : len(STATES)].softmax(dim=-1), memory

    @torch.inference_mode()
    def advance(self, hidden: Tensor, frames: Tensor, memory: Tensor | None) -> Tensor | None:
        """What :meth:`step` hands to the next chunk, where nobody asks for these chunks' states."""
        return self._run(hidden, frames, memory)[1]

    def _run(
        self, hidden: Tensor, frames: Tensor | None, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if self.gru is None:
            return self.head(hidden.to(self.head.weight.dtype)), None
        assert frames is not None, "a recurrent state head reads the encoder's frames"
        dtype = cast(nn.LayerNorm, self.text[0]).weight.dtype
        text = self.text(hidden.to(dtype))
        sound = self.sound(frames.flatten(2).to(dtype))
        both = self._drop(nn.functional.gelu(torch.cat((text, sound), dim=-1)))
        found, memory = self.gru(both, memory)
        return self.head(self._drop(found)), memory

    def _drop(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, DROPOUT, self.training)
