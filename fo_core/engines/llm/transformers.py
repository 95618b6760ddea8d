"""Greedy answers of a local LLM, many questions at a time.

Notable choices: what all prompts share (system text and example turns) is run once and its keys
and values are handed to every row; rows of like length go together; rows that are done leave the
batch. Each row sees only its own tokens, so the batch does not change an answer but by rounding:
none is seen in float32, while in bfloat16 a near tie between two tokens may fall either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor

from fo_core.engines.llm import Answer, Message
from fo_core.errors import EngineError
from fo_core.models import chat
from fo_core.models.frozen_llm import FrozenLLM, LLMState

KEEP = 0.7  # share of rows still busy at which the others leave the batch


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many ids all prompts begin with, leaving at least one of its own to each."""
    if len(prompts) < 2:
        return 0
    same = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in same), min(map(len, prompts)) - 1)


class Engine:
    """A frozen LLM that answers texts.

    Args:
        spec: What :meth:`FrozenLLM.load` takes, or a loaded one.
        dtype: The dtype to load it in.
        device: Where it runs.
    """

    def __init__(
        self, spec: str | FrozenLLM, dtype: str = "bfloat16", device: str | torch.device = "cpu"
    ) -> None:
        if isinstance(spec, str):
            spec = FrozenLLM.load(spec, dtype, device).pack()
        self.llm = spec

    @torch.inference_mode()
    def answer(
        self,
        dialogues: Sequence[Sequence[Message]],
        max_new_tokens: int = 64,
        batch_size: int = 48,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the dialogues.

        Args:
            dialogues: Messages of each, the last one of the user.
            max_new_tokens: Where an answer is cut.
            batch_size: Rows at a time.
            progress: Called with how many answers came since the last call.
        """
        if not dialogues:
            return []
        if max_new_tokens < 1 or batch_size < 1:
            raise EngineError("max_new_tokens and batch_size are at least 1")
        tokenizer = self.llm.tokenizer
        prompts = [chat.encode(tokenizer, chat.render_any(tokenizer, d)) for d in dialogues]
        shared = shared_length(prompts)
        state = self.llm.init_state(1, max(shared, 1))
        if shared:
            self.llm.step(self.llm.embed(prompts[0][:shared]), state)
        answers: list[Answer] = [Answer("", False)] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            own = [prompts[i][shared:] for i in rows]
            for i, ids in zip(rows, self._generate(own, state, max_new_tokens), strict=True):
                finished = ids[-1:] == [self.llm.end_id]
                text = tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True)
                answers[i] = Answer(text.strip(), finished)
            if progress is not None:
                progress(len(rows))
        return answers

    def _generate(self, prompts: list[list[int]], shared: LLMState, most: int) -> list[list[int]]:
        """Ids of the answers, the end token included, to prompts behind a shared state."""
        llm, B = self.llm, len(prompts)
        longest = max(map(len, prompts))
        start = shared.length
        room = start + longest + most
        ids, shown = self._pad_left(prompts, longest)  # [B, N] each
        padded = min(map(len, prompts)) < longest
        see: Tensor | None = None  # [B, room], which columns of the cache belong to a row
        positions: Tensor | None = None
        mask: Tensor | None = None
        if padded:
            see = torch.ones(B, room, dtype=torch.bool, device=llm.device)
            see[:, start : start + longest] = shown
            positions = start + (shown.long().cumsum(-1) - 1).clamp(min=0)
            causal = torch.ones(longest, start + longest, dtype=torch.bool, device=llm.device)
            mask = see[:, None, None, : start + longest] & causal.tril(start)
            own = torch.eye(longest, dtype=torch.bool, device=llm.device)
            mask[..., start:] |= own  # padding sees itself: no row is empty
        state = shared.expand(B, room)
        hidden, state = llm.step(llm.embed(ids), state, mask, positions)
        last = positions[:, -1:] if positions is not None else None
        token = llm.logits(hidden[:, -1]).argmax(-1)  # [B]
        out: list[list[int]] = [[] for _ in range(B)]
        rows = list(range(B))
        for step in range(most):
            for row, value in zip(rows, token.tolist(), strict=True):
                if not out[row] or out[row][-1] != llm.end_id:
                    out[row].append(value)
            busy = [k for k, row in enumerate(rows) if out[row][-1] != llm.end_id]
            if not busy or step + 1 == most:
                break
            if len(busy) <= KEEP * len(rows):
                keep = torch.tensor(busy, device=llm.device)
                state, token = state.select(keep, room), token[keep]
                rows = [rows[k] for k in busy]
                see = see[keep] if see is not None else None
                last = last[keep] if last is not None else None
            if see is not None and last is not None:
                mask, last = see[:, None, None, : state.length + 1], last + 1
            hidden, state = llm.step(llm.embed(token[:, None]), state, mask, last)
            token = llm.logits(hidden[:, -1]).argmax(-1)
        return out

    def _pad_left(self, prompts: list[list[int]], longest: int) -> tuple[Tensor, Tensor]:
        """Ids and what of them is shown, [B, N] each."""
        fill = self.llm.end_id
        ids = [[fill] * (longest - len(p)) + p for p in prompts]
        shown = [[False] * (longest - len(p)) + [True] * len(p) for p in prompts]
        device = self.llm.device
        return torch.tensor(ids, device=device), torch.tensor(shown, device=device)
