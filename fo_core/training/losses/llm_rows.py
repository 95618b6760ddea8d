"""What the frozen LLM reads while training: parts of a dialogue packed into one padded batch.

A row is: ids of system, earlier turns and opening, prompt vectors, speech vectors, suffix ids,
answer ids. The ids that all rows begin with (system text and shots, whatever was said before each
turn) the LLM reads once for all: their keys and values come from :meth:`FrozenLLM.cached_prefix`,
and they are not in the rows. Behind the rows may stand partials: words that were not complete when
a chunk ended, at which the state head reads the LLM. They look at a row up to some place and at
themselves, and nothing of the row looks at them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fo_core.errors import DataError
from fo_core.models.llm.chat import ChatParts, encode

Past = tuple[Tensor, Tensor]


@dataclass
class Rows:
    """One batch of LLM input."""

    embeds: Tensor  # [B, N, H] padded with zeros
    lens: Tensor  # [B] vectors of each row
    speech: Tensor  # [B] place of the first speech vector
    targets: Tensor  # [B, N] id that the vector at this place is to predict; -1 = none
    parts: Sequence[ChatParts]  # of each row, as they were packed
    answers: Sequence[Sequence[int] | None]  # the same
    past: Past | None = None  # keys and values [L, 1, Hkv, P, dh] of what all rows begin with


def earlier_turns(messages: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    """Earlier messages as (question, answer) pairs.

    Raises:
        DataError: They are not user and assistant by turns.
    """
    roles = [m.get("role") for m in messages if m.get("role") != "system"]
    texts = [m.get("content", "") for m in messages if m.get("role") != "system"]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise DataError(
            f"earlier messages have the roles {', '.join(map(str, roles))}",
            possible="user, assistant, user, assistant, ...",
        )
    return tuple(zip(texts[::2], texts[1::2], strict=True))


class Dialogues:
    """Chat parts of a model's dialogues, remembered for contexts that come again."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._kept: dict[Any, ChatParts] = {}

    def parts(self, messages: Sequence[Mapping[str, str]] = ()) -> ChatParts:
        """Parts for a question after earlier messages."""
        turns = earlier_turns(messages)
        if turns not in self._kept:
            llm = self.model.config.llm
            self._kept[turns] = self.model.chat_for(llm.system, (*llm.shots, *turns))
        return self._kept[turns]


def pack(
    model: Any,
    parts: Sequence[ChatParts],
    speech: Sequence[Tensor],
    prompt: Tensor | None,
    answers: Sequence[Sequence[int] | None],
) -> Rows:
    """Build the rows.

    Args:
        model: Gives ``llm``.
        parts: Chat parts of every row.
        speech: What stands in the audio slot of every row, ``[N_i, H]``.
        prompt: Vectors ``[P, H]`` before the speech, or None.
        answers: Ids of the answer without its end, which is added as a target; None: the row ends
            with the speech and predicts nothing.
    """
    llm = model.llm
    rows, starts, targets = [], [], []
    begin = [[*part.system_ids, *part.opening(True)] for part in parts]
    # of it at least one id stays in each row: what is read before the first word is read there
    shared = os.path.commonprefix([ids[:-1] for ids in begin])  # it takes any sequences
    past = llm.cached_prefix(shared)
    for part, ids, vectors, answer in zip(parts, begin, speech, answers, strict=True):
        own = ids[len(shared) :] if past else ids
        before = llm.embed(own)[0].to(vectors.dtype)
        pieces = [before] if prompt is None else [before, prompt.to(vectors.dtype)]
        starts.append(sum(len(p) for p in pieces))
        pieces.append(vectors)
        wanted = []
        if answer is not None:
            pieces.append(llm.embed([*part.user_suffix_ids, *answer])[0].to(vectors.dtype))
            wanted = [*answer, part.end_id]
        row = torch.cat(pieces)
        rows.append(row)
        targets.append(row.new_tensor([-1] * (len(row) - len(wanted)) + wanted, dtype=torch.long))
    read = past[0].shape[3] if past is not None else 0
    llm.check_room(read + max(len(row) for row in rows), "the longest row of a batch")
    lens = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return Rows(
        embeds=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        lens=lens,
        speech=torch.tensor(starts, device=lens.device),
        targets=torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-1),
        parts=parts,
        answers=answers,
        past=past,
    )


def run(model: Any, rows: Rows) -> Tensor:
    """States ``[B, N, H]`` of the rows."""
    N, device = rows.embeds.shape[1], rows.lens.device
    places = torch.arange(N, device=device)
    inside = places < rows.lens[:, None]  # [B, N]
    mask = torch.ones(N, N, dtype=torch.bool, device=device).tril() & inside[:, None]
    mask |= torch.eye(N, dtype=torch.bool, device=device)
    return _read(model, rows, rows.embeds, mask, places.expand(len(rows.lens), -1))


def _read(model: Any, rows: Rows, embeds: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """One pass behind what all rows begin with: mask ``[B, N, N]``, positions ``[B, N]``."""
    if rows.past is not None:
        before = rows.past[0].shape[3]
        mask = torch.nn.functional.pad(mask, (before, 0), value=True)
        positions = positions + before
    return model.llm(embeds, mask[:, None], positions, rows.past)


def run_with_partials(
    model: Any, rows: Rows, seen: Tensor, partials: Sequence[Sequence[Tensor]]
) -> tuple[Tensor, Tensor]:
    """One pass over rows, and over what the state head reads behind each chunk of their speech.

    Args:
        model: Gives ``llm``.
        rows: N vectors a row.
        seen: ``[B, C]`` speech vectors that a row holds when its chunk ends.
        partials: For each row and chunk the vectors ``[P, H]`` of words that are not complete yet;
            P is often 0. A row may have fewer than C.

    Returns:
        States of the rows ``[B, N, H]``, which saw no partial, and at the end of each chunk
        ``[B, C, H]``: behind the chunk's partial, which saw its row up to there and itself.
    """
    B, N, H = rows.embeds.shape
    device = rows.embeds.device
    seen = seen.to(device)
    counts = [[len(each) for each in row] for row in partials]
    L = max((sum(row) for row in counts), default=0)
    places = torch.arange(N, device=device)
    inside = places < rows.lens[:, None]  # [B, N]
    at = rows.speech[:, None] + seen  # [B, C] place behind what the row holds
    embeds = torch.cat([rows.embeds, rows.embeds.new_zeros(B, L, H)], dim=1)
    positions = torch.cat([places.expand(B, -1), places.new_zeros(B, L)], dim=1)
    mask = torch.zeros(B, N + L, N + L, dtype=torch.bool, device=device)
    mask[:, :N, :N] = torch.ones(N, N, dtype=torch.bool, device=device).tril() & inside[:, None]
    last = (at - 1).clamp(max=N - 1)  # [B, C] where each chunk is read
    for row, sizes in enumerate(counts):
        total = sum(sizes)
        if not total:
            continue
        size = torch.tensor(sizes, device=device)
        chunk = torch.repeat_interleave(torch.arange(len(sizes), device=device), size)  # [total]
        stops = size.cumsum(0)
        nth = torch.arange(total, device=device) - (stops - size)[chunk]
        own = slice(N, N + total)
        embeds[row, own] = torch.cat(list(partials[row])).to(embeds)
        positions[row, own] = at[row, chunk] + nth
        mask[row, own, :N] = places < at[row, chunk, None]
        mask[row, own, own] = (chunk[:, None] == chunk) & (nth[:, None] >= nth)
        found = size > 0
        last[row, : len(sizes)][found] = N + stops[found] - 1
    mask |= torch.eye(N + L, dtype=torch.bool, device=device)
    hidden = _read(model, rows, embeds, mask, positions)
    return hidden[:, :N], hidden.gather(1, last[..., None].expand(-1, -1, H))


def dialogue_rows(
    model: Any,
    batch: Mapping[str, Any],
    speech: Sequence[Tensor],
    answers: Sequence[Sequence[int] | None],
) -> Rows:
    """Rows as a talk reads them: each item's earlier ``messages``, prompt, speech and answer."""
    dialogues = Dialogues(model)
    parts = [dialogues.parts(messages) for messages in batch["messages"]]
    prompt = model.prompt(1)[0] if model.prompt.used else None
    return pack(model, parts, speech, prompt, answers)


def answer_loss(model: Any, rows: Rows, hidden: Tensor) -> tuple[Tensor, Tensor, int]:
    """Cross-entropy on a batch's targets.

    Returns:
        Mean loss ``[]``, share of right best guesses ``[]``, number of targets.
    """
    wanted = rows.targets >= 0
    targets = rows.targets[wanted]
    if not len(targets):
        return hidden.sum() * 0.0, hidden.new_zeros(()), 0
    logits = model.llm.logits(hidden[wanted]).float()
    loss = torch.nn.functional.cross_entropy(logits, targets)
    return loss, (logits.argmax(-1) == targets).float().mean(), len(targets)


def answer_ids(model: Any, texts: Sequence[str]) -> list[list[int] | None]:
    """Token ids of answers; None for an empty one."""
    return [encode(model.llm.tokenizer, text) if text else None for text in texts]


def text_divergence(model: Any, texts: Sequence[str], rows: Rows, hidden: Tensor) -> Tensor:
    """Mean KL divergence ``[]`` in nat of what speech predicts from what text predicts.

    Args:
        model: Gives ``llm``.
        texts: What was said.
        rows: The student's rows; the teacher's have the same chat parts and answers.
        hidden: Their states ``[B, N, H]``.
    """
    llm = model.llm
    typed = [llm.embed(encode(llm.tokenizer, text))[0].to(hidden.dtype) for text in texts]
    with torch.no_grad():
        teacher = pack(model, rows.parts, typed, None, rows.answers)
        states = run(model, teacher)[teacher.targets >= 0]
        wanted = llm.logits(states).float().log_softmax(-1)  # [M, V]
    if not len(wanted):
        return hidden.sum() * 0.0
    found = llm.logits(hidden[rows.targets >= 0]).float().log_softmax(-1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")
