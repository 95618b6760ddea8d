"""A report as one HTML file that stands alone: its style, pictures and sounds are inside.

Readable in light and dark, by keyboard and by screen readers; nothing comes from outside.
"""

from __future__ import annotations

import base64
import html
import io

import numpy as np

from fo_core.errors import FoError
from fo_core.report.document import (
    MISSING,
    Document,
    Picture,
    Sample,
    Section,
    Sound,
    Table,
)
from fo_core.report.plots import spectrograms, state_strip

STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #d9e2ec; --card: #fff; --page: #f5f7fa;
  --accent: #0b6e99; --good: #12664f; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #9aa5b1; --line: #3e4c59;
  --card: #1f2933; --page: #12181f; --accent: #62b0e8; --good: #65d6ad; --bad: #ff9b8e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 0 0 .4rem; }
h3 { font-size: 1.02rem; margin: 0 0 .5rem; } p { margin: .2rem 0 .8rem; color: var(--soft); }
section, article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem 1.3rem; margin: 1.1rem 0; }
article { margin: .8rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: .3rem 0 .6rem; }
th, td { text-align: left; padding: .38rem .7rem .38rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
thead th, td:first-child { overflow-wrap: break-word; }
thead th { color: var(--soft); font-weight: 600; } tbody th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.missing { color: var(--soft); font-style: italic; }
.aims { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: 1rem 0 0;
  list-style: none; }
.aims li { border: 1px solid var(--line); border-radius: 2rem; padding: .15rem .8rem;
  background: var(--card); font-size: .9rem; }
img { width: 100%; height: auto; background: #fff; border-radius: .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 .8rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.players { display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: .8rem; }
.players figure { margin: 0; flex: 1 1 16rem; } audio { width: 100%; max-width: 40rem; }
figcaption { font-size: .85rem; color: var(--soft); }
a { color: var(--accent); } nav { font-size: .9rem; margin-top: .8rem; }
nav a { margin-right: .9rem; }
"""


def render(document: Document) -> str:
    """The whole file."""
    title, summary = html.escape(document.title), html.escape(document.summary)
    sections = list(enumerate(document.sections))
    links = "".join(f'<a href="#s{i}">{html.escape(s.title)}</a>' for i, s in sections)
    chips = "".join(_verdict(met, words) for met, words in document.verdicts)
    under = f'<ul class="aims" aria-label="Aims">{chips}</ul>' if chips else ""
    body = "".join(_section(section, f"s{i}") for i, section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{title}</h1><p>{summary}</p>{under}"
        f'<nav aria-label="Sections">{links}</nav></header>{body}</main></body></html>\n'
    )


def _verdict(met: bool | None, words: str) -> str:
    kind, mark = {True: ("good", "✔"), False: ("bad", "✘"), None: ("missing", "–")}[met]
    return f'<li class="{kind}">{mark} {html.escape(words)}</li>'


def _section(section: Section, anchor: str) -> str:
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{html.escape(section.title)}</h2>'
        + (f"<p>{html.escape(section.text)}</p>" if section.text else "")
        + "".join(_table(table, section.title) for table in section.tables)
        + "".join(map(_picture, section.pictures))
        + "".join(map(_sample, section.samples))
        + "</section>"
    )


def _table(table: Table, title: str) -> str:
    """A table that scrolls on a narrow screen."""

    def kind(column: int, cell: str) -> str:
        names = ["number"] if column in table.numeric else []
        names += ["good"] if cell.startswith("✔") else ["bad"] if cell.startswith("✘") else []
        names += ["missing"] if cell == MISSING else []
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


def _picture(picture: Picture) -> str:
    mime = {"png": "image/png", "svg": "image/svg+xml"}[picture.kind]
    shown = base64.b64encode(picture.data).decode()
    words = html.escape(picture.words, quote=True)
    return f'<img alt="{words}" loading="lazy" src="data:{mime};base64,{shown}">'


def _sample(sample: Sample) -> str:
    said = "".join(
        f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>"
        for label, text in sample.texts.items()
        if text is not None
    )
    players, waves = "", []
    for sound in sample.sounds:
        try:
            wave, rate = _read(sound)
        except FoError as error:
            players += f"<p>{html.escape(str(error))}</p>"
            continue
        waves.append((sound.name, wave, rate))
        label = html.escape(f"{sound.name}: {sample.title}", quote=True)
        players += (
            f'<figure><audio controls preload="none" aria-label="{label}" '
            f'src="data:audio/flac;base64,{_flac(wave, rate)}"></audio><figcaption>'
            f"{html.escape(sound.name)}, {len(wave) / rate:.1f} s, {rate:,} Hz</figcaption>"
            "</figure>"
        )
    drawn = ""
    if waves and sample.spectrograms:
        words = f"Spectrogram of {' and '.join(n for n, _, _ in waves).lower()}: {sample.title}"
        drawn = _picture(Picture(spectrograms(waves), words, "png"))
    strip = state_strip(sample.states) if sample.states else ""
    return (
        f"<article><h3>{html.escape(sample.title)}</h3><dl>{said}</dl>{strip}"
        f'<div class="players">{players}</div>{drawn}</article>'
    )


def _read(sound: Sound) -> tuple[np.ndarray, int]:
    """Mono samples float32 [S] and their rate."""
    from fo_core.io import audio

    rate = audio.info(sound.path).rate
    return audio.read(sound.path, rate, 3600.0, 0.0, **sound.part), rate


def _flac(wave: np.ndarray, rate: int) -> str:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, wave.clip(-1, 1), rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode()
