"""The report as one HTML file: nothing from outside, readable in light and dark, labelled."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.report.figures import loss_curves, spectrograms, state_strip
from eval.report.sections import Section, Table, verdicts
from fo_core.io.page import STYLE

HEARD = (
    ("question", "Question asked"),
    ("heard", "Heard by the model"),
    ("answer", "Answer, as text"),
    ("typed_answer", "Answer to the typed question"),
    ("judge", "Judge heard in the reply"),
    ("timing", "How fast"),
    ("note", "Note"),
)


def render(
    report: Mapping[str, Any],
    found: Sequence[Section],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    samples: Sequence[Mapping[str, Any]],
    aims: bool = True,
) -> str:
    """The whole page.

    Args:
        report: The dict of ``report.json``.
        found: The sections to show, in order.
        curves: Stage name to loss records, see :func:`eval.report.writer.figures.loss_curves`.
        samples: Dicts with ``title``, ``question_wav``, ``reply_wav`` (paths, either may be
            missing), the texts of :data:`HEARD` and ``states`` of each chunk, see
            :func:`eval.report.writer.figures.state_strip`.
        aims: Whether the head shows which aims were met.
    """
    title = str(report.get("title", "Freeze-Omni report"))
    bodies, links = [], []
    for number, section in enumerate(found):
        body = _section(section, f"s{number}", curves, samples)
        if body:
            bodies.append(body)
            links.append(f'<a href="#s{number}">{html.escape(section.title)}</a>')
    chips = "".join(_chip(*verdict) for verdict in verdicts(report))
    under = f'<ul class="aims" aria-label="Aims">{chips}</ul>' if aims else ""
    return page(title, str(report.get("summary", "")), "".join(bodies), "".join(links), under)


def page(title: str, summary: str, body: str, links: str, under: str = "") -> str:
    """The frame of a report: heading, summary, links to the sections, and the sections.

    Args:
        title: Plain text.
        summary: Plain text under it.
        body: HTML of the sections.
        links: HTML of the links to them.
        under: HTML under the summary.
    """
    title, summary = html.escape(title), html.escape(summary)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{title}</h1><p>{summary}</p>{under}"
        f'<nav aria-label="Sections">{links}</nav></header>'
        f"{body}</main></body></html>\n"
    )


def _chip(aim: Any, value: float | None, met: bool | None) -> str:
    kind, mark = {True: ("good", "✔"), False: ("bad", "✘"), None: ("missing", "–")}[met]
    measured = "not measured" if value is None else f"{value:.3f}"
    bound = f"{'≤' if aim.at_most else '≥'} {aim.bound}"
    return f'<li class="{kind}">{mark} {html.escape(aim.key)} {measured} (aim {bound})</li>'


def _section(
    section: Section,
    anchor: str,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    samples: Sequence[Mapping[str, Any]],
) -> str:
    extra = ""
    if section.figures == "samples":
        if not samples:
            return ""
        extra = "".join(sample_html(sample) for sample in samples)
    elif section.figures == "curves":
        picture = base64.b64encode(loss_curves(curves)).decode()
        names = ", ".join(curves)
        alt = html.escape(f"Training and held-out loss against steps for {names}", quote=True)
        extra = f'<img alt="{alt}" src="data:image/svg+xml;base64,{picture}">'
    text = f"<p>{html.escape(section.text)}</p>" if section.text else ""
    tables = "".join(table_html(table, section.title) for table in section.tables)
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{html.escape(section.title)}</h2>'
        f"{text}{tables}{extra}</section>"
    )


def table_html(table: Table, title: str) -> str:
    """A table, set so that it scrolls on a narrow screen."""

    def kind(column: int, cell: str) -> str:
        names = ["number"] if column in table.numeric else []
        names += ["good"] if cell.startswith("✔") else ["bad"] if cell.startswith("✘") else []
        names += ["missing"] if cell == "not measured" else []
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(
        f'<th scope="col"{kind(i, "")}>{html.escape(cell)}</th>'
        for i, cell in enumerate(table.head)
    )
    rows = ""
    for row in table.rows:
        cells = f'<th scope="row">{html.escape(row[0])}</th>'
        for i, cell in enumerate(row[1:], start=1):
            cells += f"<td{kind(i, cell)}>{html.escape(cell)}</td>"
        rows += f"<tr>{cells}</tr>"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def sample_html(sample: Mapping[str, Any]) -> str:
    """One question with what was heard and said, players and spectrograms."""
    title = html.escape(str(sample.get("title", "Sample")))
    said = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(sample[key]))}</dd>"
        for key, name in HEARD
        if sample.get(key) is not None
    )
    players, waves = "", []
    for key, name in (("question_wav", "Question"), ("reply_wav", "Spoken reply")):
        path = sample.get(key)
        if path is None or not Path(path).is_file():
            continue
        wave, rate = _read(path, sample.get("question_part") if key == "question_wav" else None)
        waves.append((name, wave, rate))
        players += (
            f'<figure><audio controls preload="none" aria-label="{name}: {title}" '
            f'src="data:audio/flac;base64,{_flac(wave, rate)}"></audio>'
            f"<figcaption>{name}, {len(wave) / rate:.1f} s, {rate:,} Hz</figcaption></figure>"
        )
    picture = ""
    if waves:
        names = " and ".join(name.lower() for name, _, _ in waves)
        png = base64.b64encode(spectrograms(waves)).decode()
        alt = html.escape(f"Spectrogram of {names}: {sample.get('title', '')}", quote=True)
        picture = f'<img alt="{alt}" loading="lazy" src="data:image/png;base64,{png}">'
    states = sample.get("states")
    strip = "" if not states else state_strip(states)
    return (
        f"<article><h3>{title}</h3><dl>{said}</dl>{strip}"
        f'<div class="players">{players}</div>{picture}</article>'
    )


def _read(path: str | Path, part: Mapping[str, Any] | None) -> tuple[np.ndarray, int]:
    """Mono samples float32 [S] and the rate of a sound file, or of the part that was heard."""
    from fo_core.io import audio

    rate = audio.info(path).rate
    return audio.read(path, rate, 3600.0, 0.0, **(part or {})), rate


def _flac(wave: np.ndarray, rate: int) -> str:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, wave.clip(-1, 1), rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode()
