"""Several speech tokens a step: a small head guesses the next ones, one decoder step verifies.

A guess reads the decoder's last output and the input vector of the next token, and leaves what the
guess after it reads; the output layer is the decoder's own. The decoder then reads the newest token
and the guesses behind it in one step. Greedily, what it would have said itself is kept up to the
first guess that differs, so speech is the same token for token as without guesses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIE = 1e-3  # several rows are rounded otherwise than one: logits differ by less than this


class DraftHead(nn.Module):
    """One gated layer, used again for every guess.

    Args:
        dim: D, width of the speech decoder.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.read = nn.Linear(2 * dim, 4 * dim, bias=False)
        self.write = nn.Linear(2 * dim, dim, bias=False)
        nn.init.normal_(self.read.weight, std=0.02)
        nn.init.zeros_(self.write.weight)

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        """What stands for the decoder's output one token further.

        Args:
            state: Its output, or this head's, ``[..., D]``.
            x: Input vector of the token that ``state`` predicts, ``[..., D]``.
        """
        gate, up = self.read(torch.cat((self.norm(state), x), dim=-1)).chunk(2, dim=-1)
        return state + self.write(F.silu(gate) * up)


def draft_loss(
    head: DraftHead,
    finish: Callable[[Tensor], Tensor],
    hidden: Tensor,
    x: Tensor,
    targets: Tensor,
    count: int,
    pad: int,
) -> tuple[Tensor, Tensor]:
    """How well the tokens behind the next one are guessed.

    Args:
        head: The head.
        finish: The decoder's norm and output layer.
        hidden: The decoder's outputs ``[B, T, D]``; row t predicts ``targets[:, t]``.
        x: Its inputs ``[B, T, D]``.
        targets: ``[B, T]``, ``pad`` where none is.
        count: Guesses.
        pad: Target that does not count.

    Returns:
        Cross-entropy and share of right guesses, means over the guesses, ``[]`` each.
    """
    losses, shares = [], []
    for ahead in range(1, min(count, hidden.shape[1] - 1) + 1):
        hidden = head(hidden[:, :-1], x[:, ahead:])
        logits, wanted = finish(hidden).flatten(0, 1).float(), targets[:, ahead:].flatten()
        real = wanted != pad
        number = real.sum().clamp_min(1)
        total = F.cross_entropy(logits, wanted, ignore_index=pad, reduction="sum")
        losses.append(total / number)
        shares.append(((logits.argmax(-1) == wanted) & real).sum() / number)
    if not losses:
        return hidden.sum() * 0.0, hidden.new_zeros(())
    return torch.stack(losses).mean(), torch.stack(shares).mean()


def accepted(guesses: Tensor, logits: Tensor, tie: float = TIE) -> list[int]:
    """Verify guesses; the one place where the host waits for the device.

    Args:
        guesses: ``[k]``.
        logits: ``[k + 1, S]`` of the decoder: row i predicts what guess i was for.
        tie: Where the two best logits are no farther apart, rounding may decide between them.

    Returns:
        The decoder's own best tokens, to the first that differs from its guess, and before the
        first whose choice is a tie.
    """
    best = logits.topk(2, dim=-1)
    clear = (best.values[:, 0] - best.values[:, 1] > tie).long()
    rows = torch.stack((best.indices[:, 0], clear, F.pad(guesses, (0, 1), value=-1)), dim=1)
    kept: list[int] = []
    for token, certain, guess in rows.tolist():
        if not certain:
            break
        kept.append(token)
        if token != guess:
            break
    return kept
