"""How fast a model talks: every step of the stream, and the time to first audio with its legs.

The steps are those of the engine itself. Beside each stands its bound, from the bytes that it has
to read and the operations that it has to do (:mod:`eval.latency.bounds`).
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from eval.latency.bounds import CODEC, OVERLAP, Cost, Footprint, bandwidth, footprint, peak
from eval.latency.clock import milliseconds, now
from eval.latency.original import original
from eval.latency.talk import CHUNKS, LEGS, SENTENCE, dialogue, hear, quiet_duplex, sound, talk
from fo_core.devices.compute import working_dtype
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.settings import TEXT_SAMPLING
from fo_core.dialogue.speech.vocoder import VocoderConfig, cut_point
from fo_core.layers.packed import Weights
from fo_core.models.decoder.text_units import Spelling
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.packing import pack_for_inference
from fo_core.models.precision import Precision
from fo_core.models.static_shapes import ROWS, use_static_steps
from fo_core.sampling import sample

AGES = (5, 20, 60)  # seconds of talk before a chunk
LENGTHS = (30, 800, 2000)  # positions in the LLM's cache
SPANS = ((10, 50), (210, 250))  # speech tokens over which the rate is taken
SPELLED = "she sells sea shells by the sea shore and he reads a book about old ships. " * 4


@dataclass(frozen=True)
class Row:
    """One measured number."""

    key: str
    label: str
    value: float  # median of the runs (legs: of the run with the median total)
    unit: str  # "ms" | "tokens/s" | "" for a ratio
    bound: float | None = None  # what no program can beat (eval.latency.bounds), same unit
    original: float | None = None  # the original program's, on the machine in eval.latency.original

    @property
    def reached(self) -> float | None:
        """Share of the bound that is reached: 1 is as fast as can be."""
        return reached(self.value, self.bound, self.unit)


def reached(value: float, bound: float | None, unit: str = "ms") -> float | None:
    """The share of a bound that a value reaches."""
    if bound is None or not value:
        return None
    return value / bound if unit == "tokens/s" else bound / value


@dataclass
class Report:
    """All rows of one model."""

    size: str
    weights: str  # precision of the packed matrices
    threads: int
    repeat: int
    bandwidth: float  # bytes a second
    peak: float  # operations a second in the codec's dtype
    share: float = 1.0  # CPU time over time of the parts on one thread: 1 on a quiet machine
    growth: list[float] = field(default_factory=list)  # whole listening steps of 60 s of talk, ms
    choice: str = ""  # the precisions that were tried, with their times; empty: it was asked for
    leg_bounds: dict[str, float] = field(default_factory=dict)  # of a talk's legs (LEGS), ms
    rows: list[Row] = field(default_factory=list)

    def __getitem__(self, key: str) -> Row:
        return next(row for row in self.rows if row.key == key)


def measure(
    model: FreezeOmni,
    size: str = "model",
    weights: Weights | Precision = "same",
    threads: int = 1,
    repeat: int = 5,
    steps: bool = True,
    first_chunk: int = 40,
    static: bool | None = None,
    rows: int = ROWS,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Make a model ready and measure it; it is for inference only afterwards.

    Args:
        model: Its speech must not end by itself (:func:`eval.latency.models.endless`).
        size: A name for the report; "small" and "paper" have figures of the original.
        weights: Precision of the packed matrices.
        threads: Of torch.
        repeat: Runs behind each median; at least 5 for numbers that are told to others.
        steps: False: make it ready only; the report has no rows.
        first_chunk: Speech tokens of the first audio in the legs whose bounds are counted.
        static: Short steps in fixed shapes, captured on CUDA; None: on CUDA only.
        rows: Sequences that have a place of their own there.
        say: Told what is measured next.
    """
    torch.set_num_threads(threads)
    say("measuring the memory, packing")
    chosen = Precision.of(weights)
    device = model.device
    exact = chosen.rest == "same"
    codec_dtype = torch.float32 if exact else working_dtype(torch.bfloat16, device)
    report = Report(
        size,
        str(chosen),
        threads,
        repeat,
        bandwidth(device=device),
        peak(codec_dtype, device=device),
    )
    if device.type == "cpu":
        reads = footprint(model, chosen, [first_chunk])
        pack_for_inference(model, chosen)
    else:  # nothing is packed there: the weights are read as they then are
        pack_for_inference(model, chosen, static=False)
        reads = footprint(model, "same", [first_chunk])
    if static if static is not None else device.type == "cuda":
        use_static_steps(model, rows)
    bench = Bench(model, report, reads)
    if not steps:
        bench.finish(first_chunk)
        return report
    parts = (bench.chunks, bench.growth, bench.llm, bench.decoder, bench.codec, bench.first_audio)
    began, used = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for part in parts:
            say(f"{size}: {part.__name__.replace('_', ' ')}")
            part()
    report.share = (time.process_time() - used) / (time.perf_counter() - began)
    bench.finish(first_chunk)
    return report


class Bench:
    """Fills a report, one part of the stream at a time."""

    def __init__(self, model: FreezeOmni, report: Report, reads: Footprint) -> None:
        self.model, self.report, self.reads = model, report, reads
        self.repeat = report.repeat
        self.found: list[tuple[str, str, float, list[Cost], str]] = []
        self.sound = sound(model)
        self.device = model.device

    def now(self) -> float:
        """Seconds, when all that was asked of the device is done."""
        return now(self.device)

    def milliseconds(self, work: Callable[[], object], before: int = 2) -> float:
        """Median time of ``work`` after ``before`` runs to warm up."""
        return milliseconds(work, self.repeat, self.device, before)

    def add(self, key: str, label: str, value: float, *costs: Cost, unit: str = "ms") -> None:
        """One row; ``costs``: of what is done one after the other."""
        self.found.append((key, label, value, list(costs), unit))

    def finish(self, first_chunk: int) -> None:
        """Measure the memory once more (other programs may have used it) and write the rows."""
        report = self.report
        report.bandwidth = max(report.bandwidth, bandwidth(device=self.device))

        def least(costs: Iterable[Cost]) -> float:
            return sum(cost.seconds(report.bandwidth, report.peak) for cost in costs)

        legs = self._costs(first_chunk).items()
        report.leg_bounds = {leg: 1000 * least(costs) for leg, costs in legs}
        for key, label, value, costs, unit in self.found:
            bound = None
            if costs:
                bound = 1 / least(costs) if unit == "tokens/s" else 1000 * least(costs)
            theirs = original(report.size, key, report.threads)
            report.rows.append(Row(key, label, value, unit, bound, theirs))
        order = ["chunk", "listen", "llm", "prefill", "ar", "codec", "cut", "first"]
        report.rows.sort(key=lambda row: order.index(row.key.split("_")[0]))

    def chunks(self) -> None:
        """A chunk after 5, 20 and 60 s: runs of the three take turns, so that noise hits all."""
        listener, waiting = Listener(self.model), {}
        for index in range(round(AGES[-1] / 0.16)):
            listener.hear(self.sound[index % CHUNKS])
            for age in AGES:
                if index + 1 == round(age / 0.16):
                    waiting[age] = listener.fork()
        spent: dict[int, list[float]] = {age: [] for age in AGES}
        for _ in range(2 + max(3 * self.repeat, 5)):
            for age, old in waiting.items():
                twin = old.fork()
                began = self.now()
                twin.hear(self.sound[0])
                spent[age].append(1000 * (self.now() - began))
        median = {age: statistics.median(times[2:]) for age, times in spent.items()}
        for age in AGES:
            label = f"features, encoder, adapter: a chunk after {age} s"
            self.add(f"chunk_{age}", label, median[age], self.reads.listen)
        self.add("chunk_ratio", "the same, 60 s over 5 s", median[60] / median[5], unit="")

    def growth(self) -> None:
        """Whole listening steps, LLM and all, over 60 s of one turn; old and young take turns."""
        cfg, took = dialogue(40), self.report.growth
        old, young = quiet_duplex(self.model, cfg), quiet_duplex(self.model, cfg)

        def step(duplex: Duplex, index: int) -> float:
            began = self.now()
            hear(duplex, self.sound[index % CHUNKS])
            return 1000 * (self.now() - began)

        pairs = 2 * self.repeat + 3
        first, last = round(AGES[0] / 0.16), round(AGES[-1] / 0.16)
        took += [step(old, index) for index in range(last - pairs // 2)]
        for index in range(first - pairs // 2):
            step(young, index)
        ratios = []
        for index in range(pairs):
            before = step(young, index)
            took.append(step(old, index))
            ratios.append(took[-1] / before)
        label = "whole listening step with the LLM, 60 s over 5 s"
        self.add("listen_ratio", label, statistics.median(ratios), unit="")

    def llm(self) -> None:
        """Two vectors, and one token with its choice, at several lengths of the cache."""
        llm = self.model.llm
        state = llm.init_state(1, LENGTHS[-1] + 8)
        ids = torch.arange(LENGTHS[-1], device=self.device).view(1, -1) % llm.vocab_size
        for block in ids.split(250, dim=1):
            llm.step(llm.embed(block), state)

        def chunk() -> None:
            llm.step(llm.embed([0, 1]), state)
            state.crop(state.length - 2)

        def token() -> None:
            hidden, _ = llm.step(llm.embed([0]), state)
            int(sample(llm.logits(hidden[:, -1]), TEXT_SAMPLING))
            state.crop(state.length - 1)

        chunks, tokens = {}, {}
        for length in reversed(LENGTHS):
            state.crop(length)
            chunks[length] = self.milliseconds(chunk)
            tokens[length] = self.milliseconds(token)
        r = self.reads
        for n in LENGTHS:
            label = f"LLM, a chunk (2 vectors), {n} positions"
            self.add(f"llm_chunk_{n}", label, chunks[n], r.after(n).rows(2))
        for n in LENGTHS:
            label = f"LLM, a token, {n} positions"
            self.add(f"llm_token_{n}", label, tokens[n], r.after(n), r.head)

    def _speech(self, count: int = 48) -> Iterator[int]:
        decoder = self.model.speech_decoder
        prefix = 0.1 * torch.randn(1, count, decoder.cfg.dim).to(decoder.embedding.weight)
        return decoder.generate(self._text(count), prefix)

    def _text(self, count: int = 48) -> Any:
        """So many tokens of the LLM; for a decoder that reads letters a text of some 300."""
        ids = [list(range(count))]
        return self.model.speech_decoder.text_input(self.model.llm, [SPELLED], ids)[0]

    def decoder(self) -> None:
        """The first token of a sentence, and tokens a second early and late in it."""
        spent = self.milliseconds(lambda: next(self._speech()), before=1)
        spelled = isinstance(self._text(), Spelling)
        read = f"{len(SPELLED)} letters" if spelled else "48 text"
        label = f"speech decoder, prefill ({read}, 48 state vectors) and first token"
        self.add("prefill", label, spent, self.reads.prefix.rows(48), self.reads.speak)
        rates: dict[int, list[float]] = {span[0]: [] for span in SPANS}
        for _ in range(self.repeat):
            stamps = []
            for _token in self._speech():
                stamps.append(self.now())
                if len(stamps) > SPANS[-1][1]:
                    break
            for start, stop in SPANS:
                if stop >= len(stamps):  # random durations: the text ends before
                    continue
                rates[start].append((stop - start) / (stamps[stop] - stamps[start]))
        for start, stop in SPANS:
            if not rates[start]:
                continue
            label = f"speech decoder, tokens {start} to {stop}"
            rate = statistics.median(rates[start])
            self.add(f"ar_{start}", label, rate, self.reads.speak, unit="tokens/s")

    def codec(self) -> None:
        """The calls that the vocoder makes, and its search for a pause."""
        codec, voice = self.model.codec, self.model.voice()
        for count, keep in CODEC:
            tokens = torch.randint(codec.codes, (1, count, 1)).to(self.device)
            decode = functools.partial(codec.decode, tokens, voice, keep)
            spent, kept = self.milliseconds(decode, before=1), keep[1] - keep[0]
            label = f"codec, {count} tokens in, {kept} kept"
            self.add(f"codec_{count}", label, spent, self.reads.codec[count, kept])
        wave, window = torch.randn(24000), VocoderConfig().cut_window
        spent = self.milliseconds(lambda: cut_point(wave, window, 9.0))
        self.add("cut", "search for the cut in 24000 samples", spent)

    # --- time to first audio ---

    def first_audio(self) -> None:
        """Last chunk arrived → first audio, with its legs; and a whole listening step."""
        heard: list[float] = []
        talk(self.model, self.sound, dialogue(40))  # warms up
        for first in (40, 20):
            cfg = dialogue(first)
            runs = [talk(self.model, self.sound, cfg) for _ in range(self.repeat)]
            heard += [step for run in runs for step in run.heard]
            legs = sorted(runs, key=lambda run: run.total)[len(runs) // 2].legs
            key, label = f"first_{first}", f"time to first audio, {first} tokens kept first"
            costs = self._costs(first, min(run.written for run in runs))
            self.add(key, label, sum(legs.values()), *itertools.chain(*costs.values()))
            for leg, spent in legs.items():
                self.add(f"{key}_{leg}", f"… {LEGS[leg]}", spent, *costs[leg])
        whole = self._costs(40)["listen"]
        self.add("listen", "whole listening step of 160 ms", statistics.median(heard), *whole)

    def _costs(self, first: int, written: int = SENTENCE) -> dict[str, list[Cost]]:
        """Each leg's, in order, of so many speech and text tokens."""
        r, tokens = self.reads, first + OVERLAP
        varies = self.model.adapter.requires_ctc  # a chunk may give the LLM nothing to read
        return {
            "listen": [r.listen] if varies else [r.listen, r.llm.rows(2)],
            "read": [r.llm],
            "write": written * [r.head] + (written - 1) * [r.llm],
            "prefill": [r.prefix.rows(SENTENCE), r.speak],
            "speak": (tokens - 1) * [r.speak],
            "codec": [r.codec[tokens, first]],
        }
