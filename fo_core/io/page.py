"""A page that stands alone: one HTML file with its style, pictures and sounds inside.

Readable in light and dark, by keyboard and by screen readers; nothing comes from outside.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

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


def page(title: str, summary: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole file.

    Args:
        title: Plain text.
        summary: Plain text under it.
        sections: (title, HTML) of each.
    """
    links = "".join(f'<a href="#s{i}">{html.escape(name)}</a>' for i, (name, _) in _count(sections))
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{html.escape(name)}</h2>{inner}</section>'
        for i, (name, inner) in _count(sections)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>"
        f'<nav aria-label="Sections">{links}</nav></header>{body}</main></body></html>\n'
    )


def _count(sections: Sequence[tuple[str, str]]) -> list[tuple[int, tuple[str, str]]]:
    return list(enumerate(sections))


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(words)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> str:
    """A table that scrolls on a narrow screen; columns of numbers stand to the right."""

    def kind(column: int) -> str:
        cells = [row[column] for row in rows]
        return ' class="number"' if cells and all(_is_number(c) for c in cells) else ""

    kinds = [kind(i) for i in range(len(head))]
    top = "".join(
        f'<th scope="col"{k}>{html.escape(c)}</th>' for c, k in zip(head, kinds, strict=True)
    )
    lines = "".join(
        "<tr>"
        + "".join(f"<td{k}>{html.escape(c)}</td>" for c, k in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(title)}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "").replace("-", "").isdigit()


def picture(data: bytes, words: str, kind: str = "png") -> str:
    """A picture inside the page; ``words`` say what it shows."""
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    shown = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(words, quote=True)}" src="data:{mime};base64,{shown}">'


def sound(path: str | Path, words: str) -> str:
    """A player with the sound of a file inside the page, as FLAC.

    Raises:
        AudioError: The file cannot be read.
    """
    import soundfile

    from fo_core.io import audio

    rate = audio.info(path).rate
    wave = audio.read(path, rate, 3600.0, min_seconds=0)
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.to_int16(wave), rate, format="FLAC")
    held = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<audio controls preload="none" aria-label="{html.escape(words, quote=True)}" '
        f'src="data:audio/flac;base64,{held}"></audio>'
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)
