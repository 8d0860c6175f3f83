"""Pieces of a report's HTML; every text that goes in is escaped here and nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from train.align import Pair

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, about: str, body: Sequence[str]) -> str:
    """A whole page from its pieces, with all it needs in it."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="quiet">{escape(about)}</p>\n' + "\n".join(body) + "\n</body>\n</html>\n"
    )


def section(title: str, about: str, *parts: str) -> str:
    """A heading, what it shows, and the pieces below it."""
    return (
        f'<section>\n<h2>{escape(title)}</h2>\n<p class="quiet">{escape(about)}</p>\n'
        + "\n".join(parts)
        + "\n</section>"
    )


def columns(*parts: str) -> str:
    """Pieces side by side where there is room."""
    return f'<div class="columns">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>'


def cards(*facts: tuple[str, str]) -> str:
    """Figures in large type, each with what it is."""
    told = "".join(f"<div><strong>{escape(figure)}</strong><span>{escape(what)}</span></div>" for figure, what in facts)
    return f'<div class="cards">{told}</div>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str | int | float]], total: bool = False) -> str:
    """A table: integers are counts, floats are percents with a bar; with `total` the last row stands out."""
    if not rows:
        return ""
    names = (f"<th{_kind(cell)}>{escape(name)}</th>" for name, cell in zip(head, rows[0], strict=True))
    lines = []
    for n, row in enumerate(rows):
        kind = ' class="all"' if total and n == len(rows) - 1 else ""
        lines.append(f"<tr{kind}>{''.join(map(_cell, row))}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    made = f"{title}<thead><tr>{''.join(names)}</tr></thead>\n<tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{made}</table></div>'


def _kind(cell: str | int | float) -> str:
    return "" if isinstance(cell, str) else ' class="number"'


def _cell(cell: str | int | float) -> str:
    if isinstance(cell, float):
        return f'<td class="number rate" style="--part: {min(max(cell, 0), 100):.0f}%">{cell:.1f}</td>'
    return f"<td{_kind(cell)}>{escape(cell) if isinstance(cell, str) else f'{cell:,}'}</td>"


def compared(about: str, pairs: Sequence[Pair], picture: bytes | None) -> str:
    """Reference and what was heard, one above the other with the differences marked, and a PNG below them."""
    expected = " ".join(_marked(word, "del" if text is None else "mark", word != text) for word, text in pairs if word)
    heard = " ".join(_marked(text, "ins" if word is None else "mark", word != text) for word, text in pairs if text)
    shown = image(picture, f"Spectrogram of {about} with the words heard at their times") if picture else ""
    lines = (("reference", expected), ("heard", heard))
    told = "".join(f"<p><b>{name}</b> <span>{line or '(nothing)'}</span></p>" for name, line in lines)
    return f"<article><header>{escape(about)}</header>{told}{shown}</article>"


def image(png: bytes, alt: str) -> str:
    """A picture, in words for those who do not see it."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<div class="scroll" tabindex="0"><img alt="{escape(alt)}" src="{source}"></div>'


def _marked(word: str, tag: str, wrong: bool) -> str:
    return f"<{tag}>{escape(word)}</{tag}>" if wrong else escape(word)
