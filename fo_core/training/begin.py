"""The model that a stage begins with: a folder's, a new one, or a folder's around another LLM."""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path

from fo_core.config import load, read_yaml, replace
from fo_core.data import manifest
from fo_core.data.lazy import some_items
from fo_core.errors import FoError
from fo_core.models import freeze_omni
from fo_core.models.encoder.vocabulary import make_pieces
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.registry import did_you_mean
from fo_core.training.census import common_sounds, common_voice, ctc_tokens

log = logging.getLogger(__name__)
LLM_FREE = ("speech_encoder", "codec")  # parts that know nothing of the LLM
AGAIN = {  # what has to be trained (again) with another LLM, and why
    "input-1": "its CTC head, if over tokens, speaks the LLM's; the encoder is kept",
    "input-2": "the adapter writes into the LLM's space",
    "input-3": "prompt embeddings and state head belong to the LLM",
    "output-2": "the decoder reads the LLM's text embeddings",
    "output-3": "the prefix reads the LLM's hidden states",
}


def begin(model: str, train: Path, llm: str | None = None) -> FreezeOmni:
    """The model to train.

    A new CTC head gets the tokens or pieces of the training transcripts; a model without a voice
    gets that of the training answers. The LLM's fingerprint is in its config.

    Args:
        model: A model folder, a YAML file, or a shipped size.
        train: Training manifest.
        llm: Another LLM than the folder's or file's: parts that do not depend on it are kept.

    Raises:
        FoError: There is no such model, file or size; a part does not fit.
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
    shipped = Path(str(files("fo_core"))) / "conf" / "sizes"
    names = sorted(p.stem for p in shipped.glob("*.yaml"))
    if model not in names:
        raise FoError(
            f"no model folder, file or size {model!r}", possible=did_you_mean(model, names)
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
    reasons = "; ".join(f"{stage} ({why})" for stage, why in AGAIN.items())
    log.warning("another LLM (%s): kept %s; to be trained again: %s", llm, kept, reasons)
    return made
