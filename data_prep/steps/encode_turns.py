"""Step ``encode``: sounds with their texts get the tokens of a trained codec.

Of dialogues those are the assistant's turns, of any other manifest all that it holds.

Turns go through the codec in groups of the input's order, and inside a group those of one length
in tokens side by side, so nothing is padded and what shares a batch depends on the input only:
a run that was killed and taken up again, or spread over a cluster, gives the same tokens.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.gates import Judge, JudgeConfig
from data_prep.held_out import held_out, split_of, write_splits
from data_prep.runner.cuts import cuts_of, file_stem, named
from data_prep.runner.run import (
    Made,
    Progress,
    Reject,
    Row,
    RunConfig,
    StepReport,
    StopRun,
    rows_of,
    run_step,
)
from fo_core.config import config
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.devices.compute import choose
from fo_core.engines.asr import ASR
from fo_core.errors import ConfigError, DataError, FoError
from fo_core.io import audio
from fo_core.io.files import read_json, sha256_of, write_json

DECODED = "decoded"  # folder of the sample
BROKEN = "broken"  # role of a line that is no cut
HEARD = 8  # of the sample, that a recogniser hears
VERSION = 2  # of the treatment below: a change of it encodes anew


@config
class EncodeConfig:
    """Which codec, and how it runs."""

    model: str = ""  # model folder with a trained codec
    device: str = "auto"  # cpu, cuda, cuda:N, mps; auto: by this machine
    group: int = 128  # turns that are taken together
    batch_seconds: float = 40.0  # most sound in one batch, s
    longest: float = 60.0  # s; longer turns are skipped
    check: int = 20  # turns that are decoded again and compared; 0 = none
    asr_engine: str = ""  # recogniser (fo_core.engines.asr) that hears some of them; "" = none
    val: float = 0.02  # share of the dialogues that are held out
    seed: int = 0  # of the share; the one of label_states
    once: bool = False  # a sound that several turns share is taken once


def run(
    cfg: EncodeConfig,
    source: Path | Sequence[Path],
    out: Path,
    how: RunConfig,
    progress: Progress,
) -> StepReport:
    """Encode the sounds of ``source``: of dialogues the assistant's turns, of a corpus all.

    ``out`` takes manifest.jsonl, train.jsonl, val.jsonl (and other splits that the cuts name) and
    report.json, whose ``check`` says how near the decoded sounds of a sample are.

    Raises:
        ConfigError: No model folder is named, or it holds no trained codec.
        DataError: Nothing in ``source`` can be encoded; what is decoded is not sound, or no nearer
            than another turn is.
        FoError: As :func:`data_prep.runner.run.run_step`.
    """
    codec = ready(cfg)
    out, work = Path(out).resolve(), Encoding(cfg)
    cfg = work.cfg
    roles = Counter(map(_role, cuts_of(source)))
    skipped = () if set(roles) <= {"user", BROKEN} else ("user",)
    count = sum(n for role, n in roles.items() if role not in skipped)
    if not count - roles[BROKEN]:
        raise DataError(
            f"{named(source)} holds nothing to encode: {roles[BROKEN]} lines are no cuts",
            possible="a manifest of sounds with their texts",
        )
    turns = (row for row in cuts_of(source) if _role(row) not in skipped)
    settings = {"version": VERSION, "codec": sha256_of(codec), "device": cfg.device.split(":")[0],
                "batch_seconds": cfg.batch_seconds, "longest": cfg.longest}  # fmt: skip
    if how.engine == "local" and how.workers > 1 and cfg.device != "cpu":
        how = RunConfig(1, how.engine, how.limit)  # one process a device
    count = -(-min(count, how.limit or count) // cfg.group)
    taken = itertools.islice(_first_of_each(turns) if cfg.once else turns, how.limit or None)
    report = run_step("encode", _groups(taken, cfg.group), work, out,
                      how=RunConfig(how.workers, how.engine), settings=settings,
                      progress=progress, batch=1, total=count)  # fmt: skip
    kept = (row for row in cuts_of(source) if isinstance(row, dict) and _role(row) not in skipped)
    write_splits(out, held_out(kept, cfg.val, cfg.seed))
    if cfg.check:
        found = check(out / "manifest.jsonl", cfg)
        write_json(out / "report.json", {**read_json(out / "report.json"), "check": found})
        if not found["mel_distance"] < 0.8 * found["mel_distance_to_another"]:
            raise DataError(
                f"what {cfg.model} decodes is not what was encoded: mel distance "
                f"{found['mel_distance']}, to another turn {found['mel_distance_to_another']}",
                do="train the codec (stage output-1) on this voice",
            )
    return report


def ready(cfg: EncodeConfig) -> Path:
    """The weights of the codec, when all that is asked for is there.

    Raises:
        ConfigError: No model folder is named, or it holds no trained codec.
        EngineError: There is no such recogniser, or its package is missing.
    """
    if cfg.asr_engine:
        ASR.load(cfg.asr_engine)
    if not cfg.model:
        raise ConfigError(
            "encode needs a model folder with a trained codec",
            do="give --model DIR (stage output-1 trains the codec)",
        )
    path = Path(cfg.model) / "codec.safetensors"
    if not path.is_file():
        raise ConfigError(f"{cfg.model} holds no trained codec", do="stage output-1 trains one")
    return path


def _role(row: Row | str) -> str:
    """Whose turn a row is: "assistant", "user", "" for nobody's; BROKEN for no cut."""
    if not isinstance(row, dict) or "recording" not in row:
        return BROKEN
    custom = row.get("custom")
    return str(custom.get("role") or "") if isinstance(custom, dict) else ""


def _first_of_each(rows: Iterator[Row | str]) -> Iterator[Row | str]:
    """Rows without those whose sound an earlier one of the same split has."""
    seen: set[bytes] = set()
    for row in rows:
        if isinstance(row, dict) and "recording" in row:
            sound = [row["recording"].get("sources"), row.get("channel")]
            said = json.dumps([*sound, row.get("start"), row.get("duration"), split_of(row)])
            digest = hashlib.sha256(said.encode()).digest()[:12]
            if digest in seen:
                continue
            seen.add(digest)
        yield row


def _groups(rows: Iterator[Row | str], size: int) -> Iterator[Row]:
    for number in itertools.count():
        group = list(itertools.islice(rows, size))
        if not group:
            return
        yield {"id": f"group-{number:06d}", "rows": group}


class Encoding:
    """The work on groups of turns; made in every process."""

    def __init__(self, cfg: EncodeConfig) -> None:
        self.cfg = cfg = replace(cfg, device=choose(cfg.device))
        self.gpus = int(cfg.device.startswith("cuda"))  # of one Ray actor

    def start(self) -> None:
        """Load the codec.

        Raises:
            CheckpointError: The model folder holds no trained codec.
        """
        from fo_core.io.checkpoint import fingerprint
        from fo_core.models.freeze_omni import load_codec

        self.codec = load_codec(self.cfg.model, self.cfg.device)
        self.mark = fingerprint(self.codec.quantizer)[:19]  # training refuses tokens of another

    def __call__(self, groups: Sequence[Row]) -> list[Made]:
        """The turns of every group with their tokens."""
        return [self._group(group["rows"]) for group in groups]

    def _group(self, rows: Sequence[Row | str]) -> Made:
        from data_prep.steps.encode_speech import encode_items

        items: list[Item] = []
        rejects: list[Row] = []
        for row in rows:
            name = str(row.get("id", "")) if isinstance(row, dict) else ""
            try:
                if not isinstance(row, dict):
                    raise Reject(row)
                item = manifest.from_cut(row)
                if not any(map(str.isalnum, item.text)):
                    raise Reject("no text")
                item.load_audio(self.codec.sample_rate, self.cfg.longest)
            except FoError as error:
                reason = error.reason if isinstance(error, Reject) else str(error)
                rejects.append({"id": name or "a line that is no cut", "reason": reason})
                continue
            items.append(item)
        coded = encode_items(items, self.codec, self.cfg.device, self.cfg.batch_seconds)
        good = [item for item in coded if item.speech_tokens]
        rejects += [{"id": i.id, "reason": "the codec gave no tokens"} for i in coded
                    if not i.speech_tokens]  # fmt: skip
        counts = {"turns": len(good), "tokens": sum(len(i.speech_tokens) for i in good),
                  "audio_seconds": sum(i.duration for i in good)}  # fmt: skip
        marked = (replace(item, extra={**item.extra, "codec": self.mark}) for item in good)
        return Made([manifest.to_cut(item) for item in marked], rejects, counts)


def check(path: Path, cfg: EncodeConfig) -> dict[str, Any]:
    """Decode a sample of a manifest and compare the mel spectra with those of the sounds.

    The decoded sounds are kept in ``decoded/`` beside the manifest, to be listened to.

    Returns:
        "items"; "mel_distance", the mean difference of log mel magnitudes of sound and decoded
        sound; "mel_distance_to_another", that of the decoded sound and another item's; where
        somebody listens, "cer_of_the_sounds" and "cer_decoded", errors per letter.

    Raises:
        StopRun: The codec gives samples that are not numbers.
    """
    import torch

    from fo_core.models.codec.mel import LogMel
    from fo_core.models.freeze_omni import load_codec

    def place(row: Row) -> bytes:
        return hashlib.sha256(str(row["id"]).encode()).digest()

    rows = heapq.nsmallest(cfg.check, (r for r in rows_of(path) if isinstance(r, dict)), key=place)
    device = choose(cfg.device)
    codec, items = load_codec(cfg.model, device), [manifest.from_cut(row) for row in rows]
    mel = LogMel(codec.sample_rate, 1024, 256, 80)

    def spectrum(wave: Any) -> np.ndarray:
        return mel(torch.as_tensor(wave, dtype=torch.float32).reshape(1, -1))[0].numpy()

    real, made, heard = [], [], []
    judge = Judge(JudgeConfig(cfg.asr_engine)) if cfg.asr_engine else None
    shutil.rmtree(path.parent / DECODED, ignore_errors=True)
    for number, item in enumerate(items):
        tokens = torch.tensor([item.speech_tokens], device=device)[..., None]
        voice = torch.tensor([[item.global_tokens]], device=device)
        wave = codec.decode(tokens, voice)[0].cpu()
        if not torch.isfinite(wave).all():
            raise StopRun(f"{cfg.model} decodes {item.id} to samples that are not numbers")
        sound, rate = item.load_audio(codec.sample_rate, cfg.longest), codec.sample_rate
        made.append(spectrum(wave))
        real.append(spectrum(sound))
        audio.write(path.parent / DECODED / f"{file_stem(item.id)}.flac", wave.numpy(), rate)
        if judge is not None and number < HEARD:
            said = str(item.extra.get("spoken", item.text))
            heard.append([min(1.0, judge.cer(w, rate, said, item.language))
                          for w in (sound, wave.numpy())])  # fmt: skip

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        length = min(len(one), len(other))
        return float(np.abs(one[:length] - other[:length]).mean())

    own = [distance(a, b) for a, b in zip(made, real, strict=True)]
    cross = [distance(a, b) for a, b in zip(made, [*real[1:], *real[:1]], strict=True)]
    another = float(np.mean(cross)) if len(items) > 1 else float("inf")
    found = {"items": len(items), "mel_distance": round(float(np.mean(own)), 4),
             "mel_distance_to_another": round(another, 4) if len(items) > 1 else 1e9}  # fmt: skip
    if heard:
        names = ("cer_of_the_sounds", "cer_decoded")
        found |= dict(zip(names, np.mean(heard, axis=0).round(3).tolist(), strict=True))
    return found
