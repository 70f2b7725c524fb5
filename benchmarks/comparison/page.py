"""Pages of headings, tables and pictures, as one HTML file and as Markdown."""

import base64
import html
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zoo.evaluation.results import markdown_text


class Heading(NamedTuple):
    """The title of a section, or of the page at level 1."""

    text: str
    level: int = 2


class Text(NamedTuple):
    """A paragraph; text between backticks is code."""

    text: str


class Items(NamedTuple):
    """A list of lines."""

    lines: Sequence[str]


class Code(NamedTuple):
    """Command lines."""

    text: str


class Cell(NamedTuple):
    """A table cell: a value, whether it is the best, and a remark."""

    text: str
    best: bool = False
    remark: str = ""


class Table(NamedTuple):
    """A header and rows of `Cell`s or texts."""

    header: Sequence[Cell | str]
    rows: Sequence[Sequence[Cell | str]]


class Picture(NamedTuple):
    """A PNG file and its caption."""

    path: pathlib.Path
    caption: str


class Pictures(NamedTuple):
    """Pictures side by side, as many as fit, or each as wide as the page."""

    pictures: Sequence[Picture]
    wide: bool = False


Block = Heading | Text | Items | Code | Table | Pictures

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 1360px; color: #1c1c1c; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
nav a { display: inline-block; margin: 0 1em .3em 0; }
.table { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .3em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
small { display: block; font-weight: normal; color: #666; }
td small { min-width: 8em; color: #8a4b00; }
code { font-size: .9em; white-space: nowrap; }
pre { padding: .7em; background: #f4f4f4; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .85rem; }
figure { margin: 0; }
figcaption { font-size: .9rem; }
img { max-width: 100%; height: auto; }
.pictures { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
.wide { grid-template-columns: minmax(0, 1fr); }
.wide figure { overflow-x: auto; }
.wide img { max-width: max(100%, 800px); }
"""


def as_html(blocks: Sequence[Block]) -> str:
    """The page as one HTML file: it contains the pictures, loads nothing else and runs no script."""
    titles = [b.text for b in blocks if isinstance(b, Heading) and b.level == 1]
    links = "".join(
        f'<a href="#{_anchor(b.text)}">{html.escape(b.text)}</a>'
        for b in blocks
        if isinstance(b, Heading) and b.level == 2
    )
    body = []
    for block in blocks:
        body.append(_html(block))
        if isinstance(block, Heading) and block.level == 1:
            body.append(f"<nav>{links}</nav>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(' '.join(titles))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _html(block):
    text = html.escape
    if isinstance(block, Heading):
        return f'<h{block.level} id="{_anchor(block.text)}">{text(block.text)}</h{block.level}>'
    if isinstance(block, Text):
        return f"<p>{_html_text(block.text)}</p>"
    if isinstance(block, Items):
        return "<ul>" + "".join(f"<li>{_html_text(line)}</li>" for line in block.lines) + "</ul>"
    if isinstance(block, Code):
        return f"<pre>{text(block.text)}</pre>"
    if isinstance(block, Table):
        head = "".join(f"<th>{_html_cell(cell)}</th>" for cell in block.header)
        rows = "".join(
            "<tr>" + "".join(f"<td>{_html_cell(cell)}</td>" for cell in row) + "</tr>\n"
            for row in block.rows
        )
        return f'<div class="table"><table>\n<tr>{head}</tr>\n{rows}</table></div>'
    figures = "".join(
        f'<figure><figcaption>{text(p.caption)}</figcaption><img alt="{text(p.caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(p.path.read_bytes()).decode()}"></figure>\n'
        for p in block.pictures
    )
    return f'<div class="pictures{" wide" if block.wide else ""}">\n{figures}</div>'


def _html_text(text):
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _html_cell(cell):
    cell = Cell(cell) if isinstance(cell, str) else cell
    value = html.escape(cell.text)
    value = f"<strong>{value}</strong>" if cell.best else value
    return value + (f"<small>{html.escape(cell.remark)}</small>" if cell.remark else "")


def as_markdown(blocks: Iterable[Block], folder: str | os.PathLike) -> str:
    """The page in Markdown. Links to pictures are relative to `folder`, the folder of the page."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block, folder):
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Text):
        return _markdown_line(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {_markdown_line(line)}" for line in block.lines)
    if isinstance(block, Code):
        return f"```sh\n{block.text}\n```"
    if isinstance(block, Table):
        rows = [[_markdown_cell(cell) for cell in row] for row in (block.header, *block.rows)]
        rows.insert(1, ["---"] * len(block.header))
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n\n".join(
        f"{p.caption}:\n\n![{p.caption}]({pathlib.PurePath(os.path.relpath(p.path, folder)).as_posix()})"
        for p in block.pictures
    )


def _markdown_line(text):
    """Text without HTML. Text between backticks is shown as it is."""
    parts = re.split("(`[^`]+`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts)


def _markdown_cell(cell):
    cell = Cell(cell) if isinstance(cell, str) else cell
    value = f"**{cell.text}**" if cell.best else cell.text
    value += f" ({cell.remark})" if cell.remark else ""
    return markdown_text(value)


def _anchor(text):
    return "".join(c if c.isalnum() else "-" for c in text.lower())
