"""The model that a stage begins with: a folder's, a new one, or a folder's around another LLM."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fo_core.config import load, read_yaml, replace
from fo_core.data import manifest
from fo_core.data.lazy import some_items
from fo_core.data.manifest import Item
from fo_core.errors import DataError, FoError
from fo_core.models import freeze_omni
from fo_core.models.encoder.vocabulary import make_pieces
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig
from fo_core.models.llm.chat import encode
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.registry import did_you_mean
from fo_core.training.stages import STAGES

log = logging.getLogger(__name__)


LLM_FREE = ("speech_encoder", "codec")  # parts that know nothing of the LLM


def begin(model: str, train: Path, llm: str | None = None) -> FreezeOmni:
    """The model to train.

    A new CTC head gets the tokens or pieces of the training transcripts; a model without a voice
    gets that of the training answers. The LLM's fingerprint is in its config.

    Args:
        model: A model folder, a YAML file, or the name of a file in ``conf/models``.
        train: Training manifest.
        llm: Another LLM than the folder's or file's: parts that do not depend on it are kept.

    Raises:
        FoError: There is no such model, file or name; a part does not fit.
    """
    path = Path(model)
    if path.is_dir() and llm is None:
        made = freeze_omni.load(path)
    elif path.is_dir():
        made = _with_llm(path, train, llm or "")
    else:
        config = load(FreezeOmniConfig, read_yaml(_yaml(model)))
        if llm is not None:
            config = replace(config, llm=replace(config.llm, spec=llm, fingerprint=""))
        made = _fresh(config, train)
    if not made.config.voice:
        made.config = replace(made.config, voice=common_voice(some_items(train)))
    if "speech_decoder" not in made.trained:
        made.name_sounds(common_sounds(some_items(train)))
    if not made.config.llm.fingerprint:
        known = replace(made.config.llm, fingerprint=made.llm.fingerprint())
        made.config = replace(made.config, llm=known)
    return made


def _yaml(model: str) -> Path:
    if Path(model).is_file():
        return Path(model)
    shipped = Path(str(files("fo_core"))) / "conf" / "models"
    names = sorted(p.stem for p in shipped.glob("*.yaml"))
    if model not in names:
        raise FoError(
            f"no model folder, file or shipped model {model!r}", possible=did_you_mean(model, names)
        )
    return shipped / f"{model}.yaml"


def _fresh(config: FreezeOmniConfig, train: Path) -> FreezeOmni:
    llm = FrozenLLM.load(config.llm.spec, config.llm.dtype)
    texts = (item.text for item in manifest.read_lines(train))
    ctc = config.ctc
    if ctc.vocabulary == "pieces" and not ctc.pieces:
        ctc = replace(ctc, pieces=make_pieces(texts, ctc.size))
    elif ctc.vocabulary == "tokens" and not ctc.tokens:
        ctc = replace(ctc, tokens=ctc_tokens(llm.tokenizer, texts))
    config = replace(config, ctc=ctc)
    return freeze_omni.build(config, llm=llm)


def _again() -> list[tuple[str, str]]:
    """Stages that have to be run (again) with another LLM, and why."""
    options = ((name, STAGES.load(name).OPTIONS) for name in STAGES.names())
    return [(name, one.new_llm) for name, one in options if one.new_llm]


def _with_llm(folder: Path, train: Path, llm: str) -> FreezeOmni:
    """A folder's encoder and codec around another LLM; says which stages must run again."""
    from fo_core.io.checkpoint import load_into, load_tensors

    old = freeze_omni.read_config(folder)
    config = replace(
        old,
        llm=replace(old.llm, spec=llm, fingerprint=""),
        ctc=replace(old.ctc, tokens=()),
    )
    made = _fresh(config, train)
    pieces = ("ctc_head",) if old.ctc.vocabulary == "pieces" else ()
    for part in (*LLM_FREE, *pieces):
        path = folder / f"{part}.safetensors"
        if path.is_file():
            load_into(getattr(made, part), load_tensors(path), str(path))
            made.trained.add(part)
    kept = ", ".join(sorted(made.trained)) or "nothing"
    reasons = "; ".join(f"{name} ({why})" for name, why in _again())
    log.warning("another LLM (%s): kept %s; to be trained again: %s", llm, kept, reasons)
    return made


def ctc_tokens(tokenizer: Any, texts: Iterable[str]) -> tuple[int, ...]:
    """Ids of all tokens that the LLM's tokenizer makes of some transcripts, in rising order.

    Raises:
        DataError: There is no text.
    """
    found = {token for text in texts for token in encode(tokenizer, text)}
    if not found:
        raise DataError("no item has a transcript", do="give a manifest of transcribed speech")
    return tuple(sorted(found))


def common_sounds(items: Iterable[Item], least: int = 20) -> tuple[str, ...]:
    """Pronunciations of letters that occur at least so often, in order; () where none is known."""
    counts = Counter(sound for item in items for sound in item.letter_sounds)
    return tuple(sorted(sound for sound, count in counts.items() if count >= least))


def common_voice(items: Sequence[Item]) -> tuple[int, ...]:
    """The global token that most items have, place by place; empty where none has any.

    Raises:
        DataError: Items have different numbers of global tokens.
    """
    rows = [item.global_tokens for item in items if item.global_tokens]
    if len({len(row) for row in rows}) > 1:
        raise DataError("the items' global tokens are of several codecs", do="encode them again")
    return tuple(Counter(column).most_common(1)[0][0] for column in zip(*rows, strict=True))
