"""The dialogue state, read from the frozen LLM's last hidden state at every chunk (paper, 3.3).

Dialogue states: 0 ``continue`` (the user may go on: keep listening), 1 ``respond`` (the user has
finished: answer), 2 ``dismiss`` (the speech ended and wants no answer).
Published heads have a fourth output that plays no part in the probabilities.

An adapter that emits nothing in silence leaves the LLM without a vector at which the end of speech
could be read. For it, ``probe`` makes one vector from the chunk's encoder frames: it is fed to the
LLM, read, and cropped away from the cache again. A deviation from the paper, whose convolutional
adapter emits two vectors a chunk whatever was said.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

STATES = ("continue", "respond", "dismiss")  # names of the dialogue states 0, 1, 2


class StateHead(nn.Module):
    """A linear layer from the LLM's width to the states.

    Args:
        llm_dim: H.
        classes: Outputs; at least three.
        probe_dim: E of the encoder whose frames make the probe vector; None for no probe.
        hidden: Width of the probe's inner layer.
    """

    def __init__(
        self, llm_dim: int, classes: int = 4, probe_dim: int | None = None, hidden: int = 128
    ) -> None:
        super().__init__()
        assert classes >= len(STATES), "three states need three outputs"
        self.head = nn.Linear(llm_dim, classes)
        self.probe_net: nn.Sequential | None = None
        if probe_dim is not None:
            self.probe_net = nn.Sequential(
                nn.LayerNorm(2 * probe_dim),
                nn.Linear(2 * probe_dim, hidden),
                nn.GELU(),
                nn.Linear(hidden, llm_dim),
            )

    left_out = False  # untrained in a model folder: a turn ends by voice and silence instead

    @property
    def has_probe(self) -> bool:
        """Whether a chunk is judged on a probe vector of its own."""
        return self.probe_net is not None

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [..., classes] of final-normed LLM hidden states [..., H] in any float dtype."""
        return self.head(hidden.to(self.head.weight.dtype))

    def probabilities(self, hidden: Tensor) -> Tensor:
        """Probabilities [..., 3] of the states."""
        return self.forward(hidden)[..., : len(STATES)].softmax(dim=-1)

    def probe(self, frames: Tensor, scale: float | Tensor = 1.0) -> Tensor:
        """The vector that is fed at the end of a chunk.

        Args:
            frames: Encoder frames of the chunk [B, T, E].
            scale: Factor on the vector, such as the root mean square of the LLM's embeddings.

        Returns:
            [B, 1, H].
        """
        assert self.probe_net is not None, "this state head has no probe"
        norm = cast(nn.LayerNorm, self.probe_net[0])
        frames = frames.to(norm.weight.dtype)
        both = torch.cat((frames.mean(dim=1), frames[:, -1]), dim=-1)  # [B, 2E]
        return self.probe_net(both).unsqueeze(1) * scale
