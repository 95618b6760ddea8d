"""An LLM's tokenizer without transformers: the same ids, texts and prompts, in milliseconds.

transformers wraps a tokenizer of the library ``tokenizers`` and renders chat templates with jinja2.
:func:`describe` writes down what such a wrapper adds; :class:`StandaloneTokenizer` does the same
from that. Whether it really does is tried on texts, dialogues and tools (:func:`difference`) before
anybody relies on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from fo_core.errors import CheckpointError


@dataclass(frozen=True)
class TokenizerFacts:
    """What transformers' tokenizer says of itself beside the ids."""

    template: str | None = None  # chat template
    specials: tuple[str, ...] = ()  # its special tokens, in its order
    names: dict[str, Any] = field(default_factory=dict)  # "eos_token" and the like, for templates


class StandaloneTokenizer:
    """What this project asks of a tokenizer, by the names that transformers' has for it.

    Args:
        text: JSON of the ``tokenizers`` library.
        facts: From :func:`describe`.

    Raises:
        CheckpointError: The JSON is damaged.
    """

    def __init__(self, text: str, facts: TokenizerFacts) -> None:
        from tokenizers import Tokenizer

        try:
            self._backend = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing more special
            raise CheckpointError(f"the tokenizer's JSON is damaged: {error}") from error
        self._backend.no_padding()
        self._backend.no_truncation()
        self.facts = facts
        self.chat_template = facts.template
        self._compiled: tuple[str, Any] | None = None  # a template's text and itself
        self.all_special_tokens = list(facts.specials)

    def __getstate__(self) -> dict[str, Any]:
        """For copies: the template is compiled anew."""
        return {**vars(self), "_compiled": None}

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """``{"input_ids": ids}`` of a text."""
        return {"input_ids": self.encode(text, add_special_tokens)}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text; special tokens in it are seen."""
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: int | Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        ids = [ids] if isinstance(ids, int) else [int(token) for token in ids]
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def get_vocab(self) -> dict[str, int]:
        """Ids of all tokens, the added ones included."""
        return self._backend.get_vocab(with_added_tokens=True)

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """The token of an id, as the vocabulary spells it."""
        return self._backend.id_to_token(int(token))

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token; that of the unknown token (None without one) where it has none."""
        found = self._backend.token_to_id(token)
        unknown = self.facts.names.get("unk_token")
        return self._backend.token_to_id(unknown) if found is None and unknown else found

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Tokens that were added to the vocabulary."""
        return dict(self._backend.get_added_tokens_decoder())

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the special tokens."""
        found = (self.convert_tokens_to_ids(token) for token in self.all_special_tokens)
        return [token for token in found if token is not None]

    @property
    def eos_token_id(self) -> int | None:
        """The id that ends a text; None: there is none."""
        eos = self.facts.names.get("eos_token")
        return None if eos is None else self.convert_tokens_to_ids(eos)

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        **more: Any,
    ) -> str:
        """The template's text of a dialogue.

        Args:
            conversation: Messages.
            tools: Functions in the form that chat templates take.
            tokenize: Only False: the text is wanted.
            add_generation_prompt: Up to where the assistant speaks.
            **more: Seen by the template.

        Raises:
            Exception: What the template raises.
        """
        assert not tokenize, "a dialogue's parts are tokenised one by one"
        seen = {**self.facts.names, **more, "documents": None}
        text = self.chat_template
        assert text is not None, "asked only where there is a template"
        if self._compiled is None or self._compiled[0] != text:
            self._compiled = text, _compile(text)
        return self._compiled[1].render(
            messages=list(conversation), tools=None if tools is None else list(tools),
            add_generation_prompt=add_generation_prompt, **seen,
        )  # fmt: skip


def _compile(text: str) -> Any:
    """A chat template as transformers compiles it."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %} .. {% endgeneration %}`` marks what the assistant wrote."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

        def _same(self, caller: Any) -> str:
            return caller()

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(text)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja's own filter escapes what HTML would misread; prompts want plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)  # fmt: skip


def _refuse(message: str) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


def describe(tokenizer: Any) -> tuple[str, TokenizerFacts] | None:
    """JSON and facts of a transformers tokenizer; None where it is none of ``tokenizers``."""
    backend, template = getattr(tokenizer, "backend_tokenizer", None), tokenizer.chat_template
    if backend is None or not (template is None or isinstance(template, str)):
        return None
    names = {name: str(token) for name, token in tokenizer.special_tokens_map.items()
             if isinstance(token, str)}  # fmt: skip
    return backend.to_str(), TokenizerFacts(template, tuple(tokenizer.all_special_tokens), names)


TEXTS = (
    "",
    " ",
    "What is the highest mountain of Japan?",
    "  two  blanks,\ttab\n\nand lines \n",
    "It's 3.14 or 1,000,000; don't you'll we've!?",
    "Grüße aus Zürich, naïve café — “quotes” … €5",
    "東京は何ですか。 Привет мир! مرحبا नमस्ते 한국어",
    "👩‍👩‍👧 emoji 😀, control \x07, zero\u200bwidth",
    '<think>no</think> <tool_call>{"a": 1}</tool_call> def f(x):\n    return x ** 2',
)
TOOLS = ({
    "type": "function",
    "function": {"name": "weather", "description": "Wetter für <Orte> & Städte",
                 "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
},)  # fmt: skip


def difference(lean: StandaloneTokenizer, whole: Any) -> str:
    """The first thing in which a lean tokenizer is not transformers' own; "": there is none."""
    specials = lean.all_special_tokens
    for text in (*TEXTS, "".join(specials), f"a {' b '.join(specials)}"):
        for special in (False, True):
            ids = list(whole(text, add_special_tokens=special)["input_ids"])
            if lean(text, add_special_tokens=special)["input_ids"] != ids:
                return f"ids of {text!r}"
            for cut in {len(ids), len(ids) // 2, max(len(ids) - 1, 0)}:
                if lean.decode(ids[:cut], skip_special_tokens=special) != whole.decode(
                    ids[:cut], skip_special_tokens=special
                ):
                    return f"text of the ids of {text!r}"
    for name in ("all_special_tokens", "all_special_ids", "eos_token_id"):
        if getattr(lean, name) != getattr(whole, name):
            return name
    for name in ("get_vocab", "__len__"):
        if getattr(lean, name)() != getattr(whole, name)():
            return name
    if set(lean.added_tokens_decoder) != set(whole.added_tokens_decoder):
        return "added tokens"
    return "" if lean.chat_template is None else _prompts_differ(lean, whole)


def _prompts_differ(lean: StandaloneTokenizer, whole: Any) -> str:
    system, user = ({"role": role, "content": f" {role} <b> & ü\n"} for role in ("system", "user"))
    said = {"role": "assistant", "content": "An <i>answer</i>."}
    call = {"type": "function", "id": "call00000",
            "function": {"name": "weather", "arguments": {"city": "Köln"}}}  # fmt: skip
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    came = {"role": "tool", "content": "{\"ok\": true}", "name": "weather",
            "tool_call_id": "call00000"}  # fmt: skip
    dialogues: tuple[list[dict[str, Any]], ...] = (
        [user], [system, user], [system, user, said, user], [user, said, user, said],
        [user, called, came], [system],
    )  # fmt: skip
    for messages in dialogues:
        for tools in (None, list(TOOLS)):
            for more in ({}, {"enable_thinking": False, "thinking": False}):
                for opens in (False, True):
                    asked = {"tokenize": False, "add_generation_prompt": opens, **more}
                    found, expected = (
                        _rendered(tokenizer, messages, tools, asked) for tokenizer in (lean, whole)
                    )
                    if found != expected:
                        return f"prompt of {[m['role'] for m in messages]}"
    return ""


def _rendered(tokenizer: Any, messages: Any, tools: Any, asked: dict[str, Any]) -> str | None:
    """A prompt; None where the template refuses it."""
    try:
        return tokenizer.apply_chat_template(messages, tools=tools, **asked)
    except Exception:  # whatever the template's author chose
        return None
