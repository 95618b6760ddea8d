"""A model's voices: names for global tokens of its codec, of which each session may choose one.

``voice`` of ``config.json`` is the model's own voice, ``voices`` are those with a name. The own one
goes by the name that has its tokens, and always by ``default``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fo_core.errors import ConfigError
from fo_core.models.model_config import FreezeOmniConfig, VoiceConfig

OWN = "default"
VoiceChoice = str | Sequence[int] | None  # a name, global tokens, or the model's own


def own_name(cfg: FreezeOmniConfig) -> str:
    """The name of the model's own voice."""
    same = (name for name, voice in cfg.voices.items() if voice.global_tokens == cfg.voice)
    return next(same, OWN)


def names(cfg: FreezeOmniConfig) -> tuple[str, ...]:
    """The names of all voices, the model's own first."""
    own = own_name(cfg)
    return (own, *(name for name in cfg.voices if name != own))


def listed(cfg: FreezeOmniConfig) -> Mapping[str, VoiceConfig]:
    """All voices by name, the model's own first."""
    return {name: cfg.voices.get(name) or VoiceConfig(cfg.voice) for name in names(cfg)}


def find(cfg: FreezeOmniConfig, voice: VoiceChoice) -> tuple[int, ...] | None:
    """Global tokens of a voice; None: none is asked for. The own one's are 0 where none are named.

    Raises:
        ConfigError: There is no voice of this name.
    """
    if voice is None:
        return None
    if not isinstance(voice, str):
        return tuple(voice)
    if voice in cfg.voices:
        return cfg.voices[voice].global_tokens
    if voice == OWN:
        return cfg.voice or (0,) * cfg.codec.global_quantizer.groups
    raise ConfigError(f"no voice {voice[:64]!r}", possible=", ".join(names(cfg)))
