"""Answers of an LLM behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, ...).

Needs no package: one POST to ``/chat/completions`` a question, several at a time. A server that is
busy or briefly gone is asked again, later each time.

Whether an answer depends on what else the server does at that moment is the server's affair: vLLM
for one keeps them apart when it is started with ``VLLM_BATCH_INVARIANT=1``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fo_core.engines.endpoint import check_url, post
from fo_core.engines.llm import Answer, Draw, Message
from fo_core.errors import EngineError
from fo_core.models.llm.reasoning import without_thoughts

T = TypeVar("T")


class Engine:
    """A model of an endpoint.

    Args:
        spec: The model's name there.
        base_url: Such as ``http://127.0.0.1:8000/v1``; None: ``$OPENAI_BASE_URL``.
        api_key: None: ``$OPENAI_API_KEY``, else no key is sent.
        tries: How often a question is asked before the engine gives up.
        pause: Seconds before the second try, doubled for each further one.
        timeout: Seconds that one answer may take.
    """

    def __init__(
        self,
        spec: str,
        base_url: str | None = None,
        api_key: str | None = None,
        tries: int = 5,
        pause: float = 1.0,
        timeout: float = 120.0,
    ) -> None:
        url = base_url or os.environ.get("OPENAI_BASE_URL", "")
        url = check_url(url, f"the LLM {spec!r}", "OPENAI_BASE_URL")
        self.model, self.url = spec, f"{url}/chat/completions"
        self.key = api_key or os.environ.get("OPENAI_API_KEY")
        self.tries, self.pause, self.timeout = tries, pause, timeout

    def answer(
        self,
        dialogues: Sequence[Sequence[Message]],
        max_new_tokens: int = 64,
        batch_size: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Greedy answers in the order of the dialogues; ``batch_size`` questions at a time.

        Raises:
            EngineError: The endpoint refuses, or gives no answer after all tries.
        """

        def one(dialogue: Sequence[Message]) -> Answer:
            answer = self._ask(dialogue, max_new_tokens, Draw())
            if progress is not None:
                progress(1)
            return answer

        return self._side_by_side(one, [(dialogue,) for dialogue in dialogues], batch_size)

    def draw(
        self,
        dialogues: Sequence[Sequence[Message]],
        draws: Sequence[Draw],
        max_new_tokens: int = 64,
        batch_size: int = 16,
    ) -> list[Answer | EngineError]:
        """Answers of the dialogues, each by its own draw; a question that fails is its error."""

        def one(dialogue: Sequence[Message], draw: Draw) -> Answer | EngineError:
            try:
                return self._ask(dialogue, max_new_tokens, draw)
            except EngineError as error:
                return error

        asked = list(zip(dialogues, draws, strict=True))
        return self._side_by_side(one, asked, batch_size)

    def _side_by_side(self, one: Callable[..., T], asked: Sequence[Any], many: int) -> list[T]:
        """Results of several calls at a time, in order; the first error ends all."""
        with ThreadPoolExecutor(max(1, many)) as pool:
            futures = [pool.submit(one, *each) for each in asked]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, dialogue: Sequence[Message], most: int, draw: Draw) -> Answer:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(dialogue),
            "max_tokens": most,
            "temperature": draw.temperature,
        }
        if draw.temperature:
            body["seed"] = draw.seed
        reply = post(
            self.url, body, self.key, self.tries, self.pause, self.timeout, read=json.loads
        )
        try:
            choice = reply["choices"][0]
            text = without_thoughts(choice["message"]["content"] or "")
            return Answer(text.strip(), choice.get("finish_reason") == "stop")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineError(
                f"{self.url} answered in another form", possible="an OpenAI-compatible endpoint"
            ) from error
