"""Hibari: a small natural English voice in ONNX (24 kHz, some eighty times real time on one core).

``heart`` comes in the wheel hibari-tts (Apache-2.0); its other voices are files that a user adds.
The network's durations are whole numbers of 25 ms, so that speech comes with an exact alignment.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from hibari import Hibari
from hibari import dsp as hibari_dsp
from hibari import voices as hibari_voices

from fo_core.engines.onnx_cpu import open_network
from fo_core.engines.tts import check_request, of_language
from fo_core.errors import EngineError
from fo_core.io.files import cache_dir, replacing

EXTRA = "hibari"
MORE_VOICES = (
    "emma, fenrir, fable and kore are one file each: hibari --voice emma hello loads one from the "
    "hub; another model: --set model=FILE.onnx"
)
FRAME = 600  # samples of one frame of an alignment: 25 ms at 24 kHz
SILENCE = "_"  # the symbol of a sentence's two ends; it is no phoneme of the model
PARTS = 6  # what the graph gives for the sound; the frames per symbol come after it
DURATIONS = ("Round", "Clip", "Cast")  # the operators that end in frames per symbol


class Engine:
    """Deterministic: the noise of a sentence comes from ``seed``.

    Args:
        model: An ONNX file of hibari's form; its stem becomes the voice's name. None: the
            package's voices, as far as their files are there.
        british: Whether ``model`` reads British English.
        seed: Of the noise part of the sound.
        threads: Threads of one sentence.

    Raises:
        EngineError: There is no such model.
    """

    rate = 24000

    def __init__(
        self,
        model: str | Path | None = None,
        british: bool = False,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        self._seed, self._threads = seed, threads
        self._files: dict[str, tuple[Path, bool]] = {}  # voice: its model, whether British
        if model is not None:
            if not Path(model).is_file():
                raise EngineError(
                    f"no hibari voice {model}",
                    possible="an .onnx file of hibari's voices, or none for the package's heart",
                )
            self._files[Path(model).stem] = (Path(model), british)
        else:
            for name, entry in hibari_voices.VOICES.items():
                path = Path(_place(name))
                if path.is_file():
                    self._files[name] = (path, bool(entry["british"]))
        self._speakers: dict[str, Hibari] = {}
        self._aligned: dict[str, Any] = {}

    def voices(self, language: str = "") -> list[str]:
        """``heart`` and whichever other voices have their file; all are English."""
        return list(self._files) if of_language(["en"], language) else []

    def synthesize(self, text: str, voice: str = "heart", speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at 24 kHz.

        Raises:
            EngineError: Bad request, a voice whose file is missing, or no sound came.
        """
        speaker = self._speaker(text, voice, speed)
        return self._speak(speaker, speaker.sess, text, speed)[0]

    def synthesize_aligned(
        self, text: str, voice: str = "heart", speed: float = 1.0
    ) -> tuple[np.ndarray, list[tuple[str, int]]]:
        """Speak as ``synthesize`` does, bit for bit, and say how long each symbol is.

        Returns:
            float32 [S] at 24 kHz, and each symbol with its frames of 25 ms: phonemes, stress
            marks, punctuation, a space between words, ``SILENCE`` at both ends of a sentence. The
            frames add up to S / ``FRAME``.

        Raises:
            EngineError: As of ``synthesize``; or the package onnx is missing, or the model has no
                such durations.
        """
        speaker = self._speaker(text, voice, speed)
        if voice not in self._aligned:
            model = _aligned_model(self._files[voice][0])
            self._aligned[voice] = open_network(model, self._threads, self._threads)
        return self._speak(speaker, self._aligned[voice], text, speed)

    def _speaker(self, text: str, voice: str, speed: float) -> Hibari:
        if voice in hibari_voices.VOICES and voice not in self._files:
            raise EngineError(
                f"hibari's voice {voice!r} is not on this machine",
                possible=", ".join(self._files),
                do=f"put its file at {_place(voice)} (hibari --voice {voice} hello loads it from "
                "the hub)",
            )
        check_request(self, "hibari", text, voice, speed)
        if voice not in self._speakers:
            path, british = self._files[voice]
            kin = next(n for n, v in hibari_voices.VOICES.items() if v["british"] == british)
            try:  # the package chooses its spelling rules by the name of a voice of its own
                self._speakers[voice] = Hibari(kin, model=str(path), threads=self._threads)
            except Exception as error:  # onnxruntime raises its own kinds
                raise EngineError(f"hibari cannot load {path}: {error}") from error
        return self._speakers[voice]

    def _speak(
        self, speaker: Hibari, session: Any, text: str, speed: float
    ) -> tuple[np.ndarray, list[tuple[str, int]]]:
        """One sentence after the other; the alignment is empty if the session gives none."""
        noise = np.random.default_rng(self._seed)
        waves: list[np.ndarray] = []
        alignment: list[tuple[str, int]] = []
        for phonemes in speaker.phonemize(text.replace("\0", " ")):
            symbols = [c for c in phonemes if c in speaker.vocab]
            if not symbols:
                continue
            given = {
                "ids": np.asarray([speaker.ids(phonemes)], np.int64),
                "speed": np.asarray([speed], np.float32),
            }
            made = session.run(None, given)
            waves.append(hibari_dsp.synth(*(part[0] for part in made[:PARTS]), noise))
            for frames in made[PARTS:]:
                counts = frames.reshape(-1).tolist()
                alignment += zip([SILENCE, *symbols, SILENCE], counts, strict=True)
        if not waves:
            raise EngineError(f"hibari gave no sound for {text!r}", possible="English text")
        wave = np.clip(np.concatenate(waves), -1.0, 1.0).astype(np.float32)
        return wave, alignment


def _place(name: str) -> str:
    """Where a voice's file is or belongs."""
    entry = hibari_voices.VOICES[name]
    folder = hibari_voices.ASSETS if entry.get("bundled") else hibari_voices.cache_dir()
    return str(Path(folder) / entry["file"])


def _aligned_model(path: Path) -> Path:
    """The same graph with its frames per symbol as a seventh output, made once in the cache."""
    blob = path.read_bytes()
    target = cache_dir() / f"hibari-aligned-{hashlib.sha256(blob).hexdigest()[:12]}.onnx"
    if target.exists():
        return target
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise EngineError(
            "hibari needs the package onnx for its durations", do="pip install onnx"
        ) from error
    model = onnx.load_from_string(blob)
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        chain: list[Any] = [node]
        while len(chain) < len(DURATIONS) and chain[0].input and chain[0].input[0] in made_by:
            chain.insert(0, made_by[chain[0].input[0]])
        if tuple(step.op_type for step in chain) == DURATIONS:
            found.append(node.output[0])
    if len(found) != 1:
        raise EngineError(f"{path} has no durations per symbol that are known", possible="heart")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(found[0], onnx.TensorProto.INT64, None)
    )
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return target
