"""Answers of a local LLM, many questions at a time.

Notable choices: what all prompts share (system text and example turns) is run once and its keys
and values are handed to every row; rows of like length go together; rows that are done leave the
batch. Each row sees only its own tokens, so the batch does not change an answer but by rounding:
where two tokens nearly tie, it may fall either way (in bfloat16 one answer in 25).

``draw`` closes that gap: a row in which the two best scores ever come closer than ``margin`` (well
above what rounding moves them) is answered again alone, so every answer is the one that the row
gets alone, whatever the batch. Chances are noise added to the scores (Gumbel's trick) from the
row's own seed, so they do not depend on the batch either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import torch
from torch import Tensor

from fo_core.engines.llm import Answer, Draw, Message
from fo_core.errors import EngineError
from fo_core.models.llm import chat
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.state import LLMState

KEEP = 0.7  # share of rows still busy at which the others leave the batch
MARGINS = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.06}  # logits


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
        margin: How near a tie ``draw`` takes for one, in logits; None: by the dtype.

    Attributes:
        alone: Rows that ``draw`` answered again alone.
    """

    def __init__(
        self,
        spec: str | FrozenLLM,
        dtype: str = "bfloat16",
        device: str | torch.device = "cpu",
        margin: float | None = None,
    ) -> None:
        if isinstance(spec, str):
            spec = FrozenLLM.load(spec, dtype, device).pack()
        self.llm = spec
        self.margin = MARGINS[spec.dtype] if margin is None else margin
        self.alone = 0

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

        Returns:
            An unfinished answer without text to a dialogue longer than the LLM's context.
        """
        self._check(max_new_tokens, batch_size)
        answers = [Answer("", False)] * len(dialogues)
        prompts, fits = self._prompts(dialogues)
        if progress is not None and len(fits) < len(prompts):
            progress(len(prompts) - len(fits))
        for rows, ids, _ in self._batches(prompts, fits, max_new_tokens, batch_size):
            for i, said in zip(rows, ids, strict=True):
                answers[i] = self._read(said)
            if progress is not None:
                progress(len(rows))
        return answers

    @torch.inference_mode()
    def draw(
        self,
        dialogues: Sequence[Sequence[Message]],
        draws: Sequence[Draw],
        max_new_tokens: int = 64,
        batch_size: int = 48,
    ) -> list[Answer | EngineError]:
        """Answers of the dialogues, each as it would be alone.

        Args:
            dialogues: Messages of each, the last one of the user.
            draws: How each is chosen.
            max_new_tokens: Where an answer is cut.
            batch_size: Rows at a time.
        """
        self._check(max_new_tokens, batch_size)
        prompts, fits = self._prompts(dialogues)
        limit = self.llm.facts.context
        answers: list[Answer | EngineError] = [
            EngineError(f"its {len(ids)} tokens exceed the LLM's context of {limit}")
            for ids in prompts
        ]
        for rows, ids, close in self._batches(prompts, fits, max_new_tokens, batch_size, draws):
            for i, said, tie in zip(rows, ids, close, strict=True):
                if tie:
                    self.alone += 1
                    one = [prompts[i]]
                    [(_, [said], _)] = self._batches(one, [0], max_new_tokens, 1, [draws[i]])
                answers[i] = self._read(said)
        return answers

    def _prompts(self, dialogues: Sequence[Sequence[Message]]) -> tuple[list[list[int]], list[int]]:
        """Ids of all prompts, and which of them fit the LLM's context."""
        tokenizer, limit = self.llm.tokenizer, self.llm.facts.context
        prompts = [chat.encode(tokenizer, chat.render_any(tokenizer, d)) for d in dialogues]
        return prompts, [i for i, ids in enumerate(prompts) if limit is None or len(ids) < limit]

    def _check(self, max_new_tokens: int, batch_size: int) -> None:
        if max_new_tokens < 1 or batch_size < 1:
            raise EngineError("max_new_tokens and batch_size are at least 1")

    def _read(self, ids: list[int]) -> Answer:
        return Answer(self.llm.answer_text(ids), self._ended(ids))

    def _ended(self, ids: list[int]) -> bool:
        """Whether an answer ended by itself."""
        return bool(ids) and ids[-1] in self.llm.end_ids

    def _batches(
        self,
        prompts: Sequence[list[int]],
        which: Sequence[int],
        most: int,
        batch_size: int,
        draws: Sequence[Draw] | None = None,
    ) -> Iterator[tuple[list[int], list[list[int]], list[bool]]]:
        """Rows, their ids and whether a near tie came up, batch by batch, the longest first."""
        if not which:
            return
        shared = shared_length([prompts[i] for i in which])
        state = self.llm.init_state(1, max(shared, 1))
        if shared:
            self.llm.step(self.llm.embed(prompts[which[0]][:shared]), state)
        order = sorted(which, key=lambda i: (-len(prompts[i]), i))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            own = [prompts[i][shared:] for i in rows]
            margin = self.margin if len(which) > 1 else 0.0  # alone there is no tie to settle
            chooser = _Chooser(None if draws is None else [draws[i] for i in rows], margin)
            room = most
            if self.llm.facts.context is not None:  # an answer is cut where the context ends
                room = min(most, self.llm.facts.context - max(len(prompts[i]) for i in rows))
            ids = self._generate(own, state, room, chooser)
            yield rows, ids, [row in chooser.close for row in range(len(rows))]

    def _generate(
        self,
        prompts: list[list[int]],
        shared: LLMState,
        most: int,
        chooser: _Chooser | None = None,
    ) -> list[list[int]]:
        """Ids of the answers, the end token included, to prompts behind a shared state."""
        chooser = chooser or _Chooser(None, 0.0)
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
        rows = list(range(B))
        token = chooser(llm.logits(hidden[:, -1]), rows)  # [B]
        out: list[list[int]] = [[] for _ in range(B)]
        for step in range(most):
            for row, value in zip(rows, token.tolist(), strict=True):
                if not self._ended(out[row]):
                    out[row].append(value)
            busy = [
                k
                for k, row in enumerate(rows)
                if not self._ended(out[row]) and row not in chooser.close
            ]
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
            token = chooser(llm.logits(hidden[:, -1]), rows)
        return out

    def _pad_left(self, prompts: list[list[int]], longest: int) -> tuple[Tensor, Tensor]:
        """Ids and what of them is shown, [B, N] each."""
        fill = self.llm.end_id
        ids = [[fill] * (longest - len(p)) + p for p in prompts]
        shown = [[False] * (longest - len(p)) + [True] * len(p) for p in prompts]
        device = self.llm.device
        return torch.tensor(ids, device=device), torch.tensor(shown, device=device)


class _Chooser:
    """Chooses each row's next token, and notes the rows in which that was close.

    Args:
        draws: How each row is drawn; None is greedy without a note.
        margin: What is close, in logits.
    """

    def __init__(self, draws: Sequence[Draw] | None, margin: float) -> None:
        self.draws, self.margin = draws, margin
        self.close: set[int] = set()
        self.chances = {
            row: torch.Generator().manual_seed(draw.seed)
            for row, draw in enumerate(draws or ())
            if draw.temperature > 0
        }

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Tokens [B] of logits [B, V]; ``rows`` says which rows of the batch these are."""
        if self.draws is None:
            return logits.argmax(-1)
        scores = logits.float()
        for place, row in enumerate(rows):
            if row in self.chances:
                even = torch.rand(scores.shape[-1], generator=self.chances[row])
                noise = -torch.log(-torch.log(even.clamp(1e-9, 1 - 1e-7)))
                scores[place] += self.draws[row].temperature * noise.to(scores)
        best = scores.topk(2, dim=-1)
        gap = (best.values[:, 0] - best.values[:, 1]).tolist()
        self.close.update(r for r, g in zip(rows, gap, strict=True) if g < self.margin)
        return best.indices[:, 0]
