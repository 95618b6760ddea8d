"""Corpora of transcribed speech become manifests: one a part, sounds left where they are."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from data_prep.checks import short_hash
from data_prep.corpora import CORPORA, Broken, CorpusOptions, Utterance
from data_prep.runner.ordered import ordered_map
from data_prep.runner.run import Progress, RunConfig, quiet
from fo_core.data.manifest import Item, to_cut
from fo_core.errors import ConfigError, DataError, FoError
from fo_core.io import audio
from fo_core.io.files import only_run, replacing, write_json

EVERY = 200  # utterances between two calls of progress


@dataclass(frozen=True)
class _Found:
    """What came of one utterance: the line of the manifest, or why there is none."""

    id: str
    split: str = ""
    line: str = ""
    seconds: float = 0.0
    reason: str = ""
    mixed: int = 0  # channels that are averaged


def run(
    name: str,
    source: str | Path,
    out: str | Path,
    options: CorpusOptions | None = None,
    how: RunConfig | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Write the manifests of a corpus.

    Args:
        name: Of a file in data_prep/corpora.
        source: Its folder (or table).
        out: Folder; takes SPLIT.jsonl for every part, rejects.jsonl and report.json.
        options: Columns, language and split of corpora that do not have their own.
        how: Processes that read the sounds' headers, engine and limit.
        progress: Called with ("import", utterances done, utterances so far).

    Returns:
        The report.

    Raises:
        EngineError: There is no such corpus, or lhotse is missing.
        DataError: The source is not laid out so, or nothing of it can be used.
    """
    corpus = CORPORA.load(name)
    options, how = options or CorpusOptions(), how or RunConfig()
    out, started = Path(out), time.perf_counter()
    source = Path(source).resolve() if Path(source).exists() else Path(source)  # or a hub id
    options = replace(options, sounds=options.sounds or str(out.absolute() / "sounds"))
    language = options.language or corpus.LANGUAGE or "en"
    found = _limited(corpus.items(source, options), how.limit)
    results = ordered_map(_work, (language, options.split, _channel(options)), found, how, _died)
    with only_run(out):
        report = _write(out, results, progress)
        report = {"step": "import", "corpus": name, "source": str(source), **report,
                  "licence": corpus.LICENCE,
                  "seconds": round(time.perf_counter() - started, 2)}  # fmt: skip
        write_json(out / "report.json", report)
    progress("import", report["items"], report["items"])
    if not report["made"]:
        with (out / "rejects.jsonl").open(encoding="utf-8") as rejects:
            first = rejects.readline() or '{"reason": "it is empty"}'
        raise DataError(f"none of {report['items']} utterances of {source} can be used; the first: "
                        f"{json.loads(first)['reason']}", possible=corpus.LAYOUT,
                        do=f"see {out / 'rejects.jsonl'}")  # fmt: skip
    return report


def _limited(found: Iterable[Utterance | Broken], limit: int) -> Iterator[Utterance | Broken]:
    """The first ``limit`` utterances, and what is broken between them."""
    good = 0
    for each in found:
        if limit and good >= limit:
            return
        good += isinstance(each, Utterance)
        yield each


def _channel(options: CorpusOptions) -> int | None:
    """The channel of files with several; None = all averaged.

    Raises:
        ConfigError: It is neither ``mean`` nor a number.
    """
    if options.channel == "mean":
        return None
    if not options.channel.isdecimal():
        raise ConfigError(f"channel is {options.channel!r}", possible="mean, or a number from 0")
    return int(options.channel)


def _work(work: tuple[str, str, int | None], found: Sequence[Utterance | Broken]) -> list[_Found]:
    """In a worker: look at the sounds of some utterances."""
    heads: dict[str, audio.Head] = {}
    made = []
    for each in found:
        try:
            made.append(_look(each, *work, heads))
        except (FoError, ValueError, OSError) as error:
            made.append(_Found(each.id, reason=str(error)))
    return made


def _died(each: Utterance | Broken) -> _Found:
    return _Found(each.id, reason="the process that read it died")


def _look(
    each: Utterance | Broken,
    language: str,
    split: str,
    channel: int | None,
    heads: dict[str, audio.Head],
) -> _Found:
    if isinstance(each, Broken):
        return _Found(each.id, reason=each.reason)
    text = " ".join(each.text.split())
    if not any(map(str.isalnum, text)):
        raise DataError(f"no text: {each.text!r}")
    if each.audio not in heads:
        if not Path(each.audio).is_file():
            raise DataError(f"no sound file {each.audio}")
        heads[each.audio] = audio.info(each.audio)
    samples, rate, channels = heads[each.audio]
    wanted = each.channel if each.channel is not None else channel
    if channels == 1 and each.channel is None:
        wanted = 0
    if (wanted or 0) >= channels:
        raise DataError(f"no channel {wanted}: the file has {channels}")
    whole = samples / rate
    end = min(each.end, whole) if each.end and each.end < whole + 0.1 else each.end or whole
    if not samples or not 0 <= each.start < end <= whole:
        raise DataError(f"no sound from {each.start:.3f} to {end:.3f} s: the file has {whole:.3f}")
    item = Item(
        id=each.id,
        audio=each.audio,
        rate=rate,
        num_samples=samples,
        text=text,
        speaker=each.speaker,
        language=each.language or language,
        start=each.start,
        seconds=end - each.start if each.start or end < whole else 0.0,
        channel=wanted,
        num_channels=channels,
    )
    line = json.dumps(to_cut(item), ensure_ascii=False)
    line.encode()  # half a surrogate pair in a name or a text is a ValueError here
    name = re.sub(r"[^\w.-]+", "_", each.split or split).strip("._") or "all"
    name = f"{name}_" if name in ("rejects", "report") else name
    mixed = channels if wanted is None else 0
    return _Found(each.id, name, line, item.duration, mixed=mixed)


def _write(out: Path, results: Iterable[_Found], progress: Progress) -> dict[str, Any]:
    """Write what was found, as it comes; all files appear at the end, together."""
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    reasons: Counter[str] = Counter()
    files: dict[str, IO[str]] = {}
    seen: set[int] = set()
    mixed = 0
    with ExitStack() as stack:

        def opened(path: Path) -> IO[str]:
            return stack.enter_context(
                stack.enter_context(replacing(path)).open("w", encoding="utf-8")
            )

        rejects = opened(out / "rejects.jsonl")
        for number, found in enumerate(results, 1):
            reason = found.reason
            mark = short_hash(f"{found.split}\n{found.id}".encode(errors="replace"))
            if not reason and mark in seen:
                reason = "the same id twice"
            if reason:
                row = {"id": found.id, "step": "import", "reason": reason}
                rejects.write(json.dumps(row, ensure_ascii=True) + "\n")
                reasons[re.sub(r"\S*[\d/'\"]\S*", "…", reason.partition(":")[0])] += 1
                continue
            seen.add(mark)
            if found.split not in files:
                files[found.split] = opened(out / f"{found.split}.jsonl")
            files[found.split].write(found.line + "\n")
            counts[found.split] += 1
            mixed += bool(found.mixed)
            seconds[found.split] = seconds.get(found.split, 0.0) + found.seconds
            if number % EVERY == 0:
                progress("import", number, number + 1)
    made = sum(counts.values())
    return {
        "items": made + sum(reasons.values()),
        "made": made,
        "rows": made,
        "rejected": dict(reasons.most_common()),
        "channels_averaged": mixed,
        "splits": {
            name: {"items": counts[name], "hours": round(seconds[name] / 3600, 4)}
            for name in sorted(counts)
        },
    }
