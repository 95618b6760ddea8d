"""Step ``align``: how many speech tokens each letter of a text is spoken for.

A speech decoder with durations (``speech_decoder.type: durations``) learns from that. It comes from
the voice engine that spoke the text, where the engine says how long its phonemes are (hibari: whole
tokens), or, for any recording, from the input branch's own CTC head: the best path through the
text's pieces (forced alignment).

The start's count is the silence before the first letter, of which ``lead`` tokens are kept: what
a voice waits before it speaks is latency.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.held_out import held_out, write_splits
from data_prep.runner.cuts import cuts_of, named
from data_prep.runner.run import Progress, Reject, Row, RunConfig, StepReport, run_step
from data_prep.steps.letter_alignment import LetterAligner, letter_counts, split_words
from data_prep.steps.synthesize import SpeechConfig, engine_of, heard_trim
from fo_core.config import config, to_dict
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import ConfigError, DataError
from fo_core.io.files import read_json, write_json
from fo_core.normalize import speakable
from fo_core.spelling import spell

TOKEN = 0.025  # s
VERSION = 1  # of the treatment below: a change of it aligns anew
ALIGNER = "letters.json"  # in the step's folder: p(phoneme | letter)


@config
class AlignConfig:
    """Where the times of letters come from."""

    by: Literal["engine", "ctc"] = "engine"  # the voice engine, or a model's CTC head
    model: str = ""  # of ctc: model folder with a trained CTC head over pieces
    lead: int = 3  # speech tokens of silence kept before the first letter
    learn: int = 2000  # of engine: texts from which letters and phonemes are matched
    speech: SpeechConfig = SpeechConfig()  # of engine: how its sounds were treated
    val: float = 0.02  # share that is held out
    seed: int = 0  # of the share


def run(
    cfg: AlignConfig,
    source: Path | Sequence[Path],
    out: Path,
    how: RunConfig,
    progress: Progress,
) -> StepReport:
    """Add ``letter_tokens`` (and ``letter_sounds``) to cuts with speech tokens.

    Raises:
        ConfigError: ctc without a model.
        DataError: No cut has speech tokens, or none is of an engine that knows its durations.
        FoError: As :func:`data_prep.runner.run.run_step`.
    """
    if cfg.by == "ctc" and not cfg.model:
        raise ConfigError("align by ctc needs a model that hears",
                          do="give --model DIR with a CTC head over pieces")  # fmt: skip
    out = Path(out).resolve()
    count = sum(_coded(row) for row in cuts_of(source))
    if not count:
        raise DataError(
            f"{named(source)} holds no speech tokens", do="run fo prepare-data encode first"
        )
    if cfg.by == "engine":
        write_json(out / ALIGNER, _learned(source, cfg).scores)
    work = Aligning(cfg, out / ALIGNER)
    report = run_step("align", filter(_coded, cuts_of(source)), work, out, how=how, total=count,
                      settings={"version": VERSION, **to_dict(cfg)}, progress=progress)  # fmt: skip
    kept = (row for row in cuts_of(source) if isinstance(row, dict) and _coded(row))
    write_splits(out, held_out(kept, cfg.val, cfg.seed))
    return report


def _coded(row: Row | str) -> bool:
    custom = row.get("custom") if isinstance(row, dict) else None
    return isinstance(custom, dict) and bool(custom.get("speech_tokens"))


def _learned(source: Path | Sequence[Path], cfg: AlignConfig) -> LetterAligner:
    """Letters and phonemes matched on some of the texts."""
    pairs: list[tuple[str, Sequence[str]]] = []
    fault = ""
    rows = (row for row in cuts_of(source) if isinstance(row, dict) and _coded(row))
    for row in itertools.islice(rows, cfg.learn):
        try:
            item = manifest.from_cut(row)
            alignment = spoken_again(item)[1]
        except (Reject, DataError) as error:
            fault = str(error)
            continue
        symbols, counts = zip(*alignment, strict=True)
        words = [tuple(w) for w, _ in split_words("".join(symbols), counts) if w]
        written = spell(said(item)).split()
        if len(words) == len(written):
            pairs += zip(written, words, strict=True)
    if not pairs:
        raise DataError(
            f"no text can be aligned by its engine: {fault or 'words and phonemes differ'}",
            possible="sounds of the engine hibari",
            do="fo prepare-data align --model MODEL aligns any sound by a CTC head",
        )
    return LetterAligner.fit(pairs)


def said(item: Item) -> str:
    """An item's text as it was spoken."""
    return str(item.extra.get("spoken") or speakable(item.text, item.language))


def spoken_again(item: Item) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """What the item's engine says of its text, float32 [S], with its tokens per symbol.

    Raises:
        Reject: The item is of no engine, or of one that does not know its durations.
    """
    name, _, voice = item.speaker.partition("/")
    if not voice:
        raise Reject(f"no engine's sound (speaker {item.speaker!r})")
    engine = engine_of(name, str(item.extra.get("options", "")))
    if not hasattr(engine, "synthesize_aligned"):
        raise Reject(f"the engine {name} does not say how long its phonemes are")
    if item.extra.get("pitch"):
        raise Reject("a voice of another pitch has no whole tokens per phoneme")
    return engine.synthesize_aligned(said(item), voice, float(item.extra.get("speed", 1.0)))


class Aligning:
    """The work on cuts; made in every process."""

    def __init__(self, cfg: AlignConfig, letters: Path) -> None:
        self.cfg, self.letters = cfg, letters

    def start(self) -> None:
        """Read the matched letters, or load the model that hears.

        Raises:
            ConfigError: The model's CTC classes are not pieces.
        """
        if self.cfg.by == "engine":
            self.aligner = LetterAligner(read_json(self.letters))
            return
        from fo_core.models import freeze_omni
        from fo_core.models.encoder.vocabulary import PieceVocabulary

        self.model = freeze_omni.load(self.cfg.model, parts=("speech_encoder", "ctc_head"))
        self.model.require("speech_encoder", "ctc_head")
        vocabulary = self.model.ctc_head.vocabulary
        if not isinstance(vocabulary, PieceVocabulary):
            raise ConfigError(f"{self.cfg.model}: its CTC classes are LLM tokens",
                              possible="a model with ctc.vocabulary: pieces")  # fmt: skip
        self.vocabulary = vocabulary

    def __call__(self, row: Row) -> Row:
        """The cut with the tokens of its letters."""
        item = manifest.from_cut(row)
        text = spell(said(item))
        if not text.strip(" .,?!;:-'"):
            raise Reject("no letters")
        sounds: tuple[str, ...] = ()
        if self.cfg.by == "engine":
            ends, sounds = self._by_engine(item, text)
        else:
            ends = self._by_ctc(item, text)
        counts = tokens_of(ends, len(item.speech_tokens))
        cut = max(0, counts[0] - self.cfg.lead)
        aligned = replace(
            item,
            speech_tokens=item.speech_tokens[cut:],
            letter_tokens=(counts[0] - cut, *counts[1:]),
            letter_sounds=sounds,
        )
        return manifest.to_cut(aligned)

    def _by_engine(self, item: Item, text: str) -> tuple[list[float], tuple[str, ...]]:
        """Seconds at which start and letters end, and the letters' pronunciations."""
        wave, alignment = spoken_again(item)
        rate = engine_of(item.speaker.partition("/")[0]).rate
        before, length = heard_trim(wave, rate, item.rate, self.cfg.speech)
        if abs(length - item.num_samples) > 2:
            raise Reject(f"its sound has {item.num_samples} samples, the engine's {length}")
        symbols, counts = zip(*alignment, strict=True)
        found = letter_counts(self.aligner, text, "".join(symbols), counts)
        if found is None:
            raise Reject("the engine reads other words than are written")
        ends = np.cumsum(found.counts)[:-1] * TOKEN - before
        return ends.tolist(), found.sounds

    def _by_ctc(self, item: Item, text: str) -> list[float]:
        """Seconds at which start and letters end."""
        import torch

        from data_prep.steps.forced_alignment import letter_ends

        wave = torch.from_numpy(item.load_audio(16000))[None]
        with torch.inference_mode():
            frames, lens = self.model.speech_encoder(self.model.features(wave))
            logs = self.model.ctc_head(frames).float().log_softmax(-1)[0, : int(lens[0])]
        ends = letter_ends(logs.numpy(), self.vocabulary, said(item), text)
        if ends is None:
            raise Reject("its sound is too short for its text")
        return ends


def tokens_of(ends: Sequence[float], size: int) -> tuple[int, ...]:
    """Whole tokens of start, letters and end from the times (s) at which all but the end end."""
    places = [min(size, max(0, round(t / TOKEN))) for t in ends]
    edges = [0, *itertools.accumulate(places, max), size]
    return tuple(b - a for a, b in itertools.pairwise(edges))
