"""How replies sound: DNSMOS, UTMOS, Distill-MOS, and whether it is the voice it should be.

What cannot be measured on this machine is named with its reason and left out, so that a table never
lacks a column in silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.systems import naturalness
from fo_core.engines import dnsmos, speaker_similarity
from fo_core.errors import EngineError
from fo_core.io import audio

RATE = 16000
PACKAGES = {"dnsmos": "speechmos", "utmos": "utmos-pytorch", "distillmos": "distillmos",
            "similarity": "resemblyzer"}  # fmt: skip


@dataclass(frozen=True)
class Rating:
    """What is measured, and what cannot be."""

    measured: Sequence[str]
    missing: Mapping[str, str] = field(default_factory=dict)  # name -> why
    utmos: str = ""  # TorchScript file; "": the package
    reference: Path | None = None  # the voice that replies should have

    def key(self) -> dict[str, Any]:
        """What the scores depend on."""
        from eval.report.provenance import package_version

        found: dict[str, Any] = {n: package_version(PACKAGES[n]) for n in self.measured}
        if self.utmos and "utmos" in self.measured:
            found["utmos"] = Path(self.utmos).name
        if self.reference is not None and "similarity" in self.measured:
            digest = hashlib.sha256(self.reference.read_bytes()).hexdigest()
            found["reference"] = f"{self.reference.name} sha256:{digest[:16]}"
        return found

    def scorer(self, name: str) -> Callable[[np.ndarray], float | None]:
        """What gives a wave float32 [S] at 16 kHz its score."""
        if name == "dnsmos":
            return lambda wave: dnsmos.dnsmos(wave).get("dnsmos")
        if name == "similarity":
            assert self.reference is not None
            wanted = speaker_similarity.embedding(audio.read(self.reference, RATE))
            return lambda wave: float(speaker_similarity.embedding(wave) @ wanted)
        return naturalness.utmos(self.utmos) if name == "utmos" else naturalness.distillmos()

    def open(self, out: Path, fields: Sequence[str]) -> Any:
        """Work that rates sounds of a row: ``NAME`` of ``reply_wav``, ``cascade_NAME`` of
        ``cascade_wav``; None where nothing was spoken.

        Args:
            out: The results folder.
            fields: Of the paths.
        """
        scorers = {name: self.scorer(name) for name in self.measured}

        def one(row: Mapping[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for path in fields:
                kind = "" if path == "reply_wav" else path.removesuffix("wav")
                wave = audio.read(out / row[path], RATE, 3600.0, 0.0) if row.get(path) else None
                for name, score in scorers.items():
                    value = score(wave) if wave is not None and len(wave) else None
                    found[f"{kind}{name}"] = None if value is None else round(value, 4)
            return found

        return lambda rows: [one(row) for row in rows]


def rating(
    utmos: str | None = None, reference: Path | None = None, originals: bool = False
) -> Rating:
    """What can be measured here.

    Args:
        utmos: TorchScript file of UTMOS; None: ``$FO_UTMOS``, or the package.
        reference: A recording of the voice that replies should have.
        originals: Every sound has a recording of its own to be compared with.

    Raises:
        EngineError: A file that was named cannot be used.
    """
    file = naturalness.utmos_file(utmos)
    checks: dict[str, Callable[[], Any]] = {
        "dnsmos": dnsmos.check,
        "utmos": lambda: naturalness.utmos(file),
        "distillmos": naturalness.distillmos,
        "similarity": speaker_similarity.check,
    }
    measured, missing = [], {}
    for name, check in checks.items():
        if name == "similarity" and reference is None and not originals:
            continue
        try:
            check()
            measured.append(name)
        except EngineError as error:
            if name == "utmos" and utmos:
                raise
            missing[name] = str(error)
    return Rating(measured, missing, file, reference)
