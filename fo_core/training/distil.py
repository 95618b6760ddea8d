"""Speech in, the same next-token distribution as typed text: a KL term for ``input-2`` and ``-3``.

Not in the paper. The teacher is the frozen LLM itself, reading the transcript where the student
hears the speech; both are asked for the same answer. Its soft targets say more of what the LLM
would do than the one answer that was written down, and pull speech towards the text's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fo_core.models.llm.chat import ChatParts, encode
from fo_core.training.llm_rows import Rows, pack, run


def text_divergence(
    model: Any,
    parts: Sequence[ChatParts],
    texts: Sequence[str],
    answers: Sequence[Sequence[int] | None],
    rows: Rows,
    hidden: Tensor,
) -> Tensor:
    """Mean KL divergence ``[]`` in nat of what speech predicts from what text predicts.

    Args:
        model: Gives ``llm``.
        parts: Chat parts of every row.
        texts: What was said.
        answers: Ids of the answers, as in the student's rows.
        rows: The student's rows.
        hidden: Their states ``[B, N, H]``.
    """
    llm = model.llm
    typed = [llm.embed(encode(llm.tokenizer, text))[0].to(hidden.dtype) for text in texts]
    with torch.no_grad():
        teacher = pack(model, parts, typed, None, answers)
        states = run(model, teacher)[teacher.targets >= 0]
        wanted = llm.logits(states).float().log_softmax(-1)  # [M, V]
    if not len(wanted):
        return hidden.sum() * 0.0
    found = llm.logits(hidden[rows.targets >= 0]).float().log_softmax(-1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")
