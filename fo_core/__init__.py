"""Freeze-Omni: a frozen text LLM with ears and a voice. This is its Python API.

    import fo_core

    model = fo_core.load("fo-smol")           # a folder, a bundled name or "latest"
    answer = model.answer("question.wav")     # or an array [S] with its sample_rate
    print(answer.text)
    answer.save("reply.wav")

``Model.session`` is one live full-duplex dialogue, ``Model.pool`` many users on one model,
:func:`train_stage` one stage of training, :func:`list_voices` and :func:`add_voice` are for the
voices of a model folder. Errors that a user can fix are :class:`FoError`. All
that is not listed here may change between versions.

Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fo_core.api.model import Answer, Model, load
    from fo_core.api.training import train_stage
    from fo_core.api.voices import add_voice, list_voices
    from fo_core.errors import FoError

_WHERE = {
    "Answer": "fo_core.api.model",
    "Model": "fo_core.api.model",
    "load": "fo_core.api.model",
    "add_voice": "fo_core.api.voices",
    "list_voices": "fo_core.api.voices",
    "train_stage": "fo_core.api.training",
    "FoError": "fo_core.errors",
}
__all__ = ["Answer", "FoError", "Model", "add_voice", "list_voices", "load", "train_stage"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'fo_core' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
