"""The embedded default, SmolLM2-135M-Instruct from its wheel, without a download from a hub."""

from __future__ import annotations

import torch

from fo_core.engines.llm import transformers
from fo_core.models.llm.source import EMBEDDED

EXTRA = "embedded"


class Engine(transformers.Engine):
    """:class:`fo_core.engines.llm.transformers.Engine` on the embedded LLM."""

    def __init__(self, dtype: str = "bfloat16", device: str | torch.device = "cpu") -> None:
        super().__init__(EMBEDDED, dtype, device)
