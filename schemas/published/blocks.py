"""Pages as headings, paragraphs, tables and code; written as Markdown, or as parts of one HTML page.

Text within is light Markdown: `code`, *emphasis*, [text](target). Everything else is literal, so it is escaped in both: what a
schema or a policy holds can put neither markup nor script into a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_CODE = re.compile(r"(`[^`\n]*`)")
_LINK = re.compile(r"\[([^\]]+)\]\(([A-Za-z0-9_./#-]+)\)")  # no scheme: pages lead to pages beside them
_EMPHASIS = re.compile(r"\*([^*]+)\*")

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; } h3 { font-size: 1.1rem; }
h2 { font-size: 1.35rem; margin-top: 2.2rem; border-bottom: 1px solid #bbb; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .87rem; }
th, td { border: 1px solid #ccc; padding: .3rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #f0f0f0; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; }
nav ul { columns: 2; padding-left: 1.2rem; }
@media print {
  body { font-size: 9.5pt; max-width: none; margin: 0; } nav { display: none; }
  h2 { break-before: page; } h3 { break-after: avoid; } tr { break-inside: avoid; } pre { white-space: pre-wrap; }
}
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """level: 1 the page, 2 a chapter, 3 a section."""

    level: int
    text: str

    @property
    def anchor(self) -> str:
        """As it is linked to."""
        return re.sub(r"[^a-z0-9]+", "-", self.text.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """head: names of the columns; rows: as many cells each."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """text as it is; language for Markdown's fence."""

    text: str
    language: str


Block = Heading | Paragraph | Table | Code


def markdown(blocks: Iterable[Block]) -> str:
    """A Markdown page."""
    return "\n".join(_markdown(block) for block in blocks)


def html(title: str, blocks: Sequence[Block]) -> str:
    """One page that needs nothing else: no script, no picture, nothing fetched."""
    chapters = [block for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<li><a href="#{chapter.anchor}">{_inline(chapter.text)}</a></li>\n' for chapter in chapters)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>\n<ul>\n{links}</ul>\n</nav>\n"
        + "".join(_html(block) for block in blocks)
        + "</body>\n</html>\n"
    )


def parse(text: str) -> Iterator[Block]:
    """The blocks of a page written by hand in the same few forms: headings, paragraphs, tables."""
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = part.strip().splitlines()
        if lines[0].startswith("#"):
            marks, _, title = lines[0].partition(" ")
            yield Heading(len(marks), title)
            lines = lines[1:]
        if lines and lines[0].startswith("|"):
            rows = [tuple(cell.strip() for cell in line.strip().strip("|").split("|")) for line in lines]
            yield Table(rows[0], tuple(rows[2:]))
        elif lines:
            yield Paragraph(" ".join(lines))


def code(text: str) -> str:
    """Literal text as inline code; a backtick in it would end it, so it is shown as an apostrophe."""
    return f"`{text.replace('`', chr(39))}`" if text else ""


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_escaped(text)}\n"
        case Paragraph(text):
            return f"{_escaped(text)}\n"
        case Code(text, language):
            return f"```{language}\n{text.rstrip()}\n```\n"
        case Table(head, rows):
            lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
            return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    parts = _CODE.split(text.replace("\n", " "))
    return "".join(part if part.startswith("`") else part.replace("&", "&amp;").replace("<", "&lt;") for part in parts)


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            anchor = f' id="{block.anchor}"' if level == 2 else ""  # what is linked to; sections of one name are many
            return f"<h{level}{anchor}>{_inline(text)}</h{level}>\n" if level > 1 else ""
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>\n"
        case Code(text, _):
            return f"<pre>{escape(text.rstrip())}</pre>\n"
        case Table(head, rows):
            top = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
            body = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
            return f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _inline(text: str) -> str:
    made = []
    for part in _CODE.split(text):
        if part.startswith("`"):
            made.append(f"<code>{escape(part[1:-1])}</code>")
        else:
            linked = _LINK.sub(r'<a href="\2">\1</a>', escape(part))
            made.append(_EMPHASIS.sub(r"<em>\1</em>", linked))
    return "".join(made)
