"""Pieces of HTML: the frame of a page, escaped text, tables, figures with a caption."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from importlib import resources

import langcodes

from adamergex.language_tags import standard

# Lone surrogates, noncharacters and control characters, which neither HTML nor XML can hold.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


# Nothing on the page runs or is fetched, whatever a model has answered.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, summary: str, bodies: Mapping[str, tuple[str, str]], above: str = "") -> str:
    """A page, with a list of its contents where it has more than two sections.

    Args:
        title: of the page, plain text.
        summary: what stands below the title, as HTML.
        bodies: id → the title of a section, and its HTML; those without content are left out.
        above: the address of the page that this one belongs to; empty where there is none.
    """
    sections = {name: (heading, body) for name, (heading, body) in bodies.items() if body}
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, (heading, _) in sections.items())
    contents = f'<nav aria-label="Contents">\n<ol>{links}</ol>\n</nav>\n' if len(sections) > 2 else ""
    body = "\n".join(
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{body}\n</section>'
        for name, (heading, body) in sections.items()
    )
    up = f'<p class="above"><a href="{text(above)}">All tasks</a></p>\n' if above else ""
    css = (resources.files("adamergex.reporting") / "templates" / "report.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>
{css}</style>
</head>
<body>
<header>
{up}<h1 dir="auto">{text(title)}</h1>
{summary}
</header>
{contents}<main>
{body}
</main>
</body>
</html>
"""


def clean(text: str) -> str:
    """Text with characters that HTML does not allow replaced, by their control picture or by �."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWRITABLE.sub(lambda match: chr(0x2400 + ord(match[0])) if match[0] < " " else "\ufffd", text)


def text(value: str) -> str:
    """Text escaped for use between tags, or in a quoted attribute."""
    return escape(clean(value))


def shortened(value: str, most: int) -> str:
    """The beginning and end of a text of more than `most` characters, with a note on what was left out."""
    if len(value) <= most:
        return value
    half = most // 2
    return f"{value[:half]}\n[… {len(value) - 2 * half:,} characters left out …]\n{value[-half:]}"


def spoken(language: str) -> str:
    """The attributes `lang` and `dir` of text in a language."""
    known = f' lang="{text(standard(language))}"' if langcodes.tag_is_valid(language) else ""
    return f'{known} dir="auto"'


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    merged: Collection[int] = (),
    words: Collection[int] = (),
) -> str:
    """A table, in a box that scrolls where it is wider than the screen.

    Args:
        caption: of the table.
        columns: the headings; the first one is that of the row headings.
        rows: plain text, a cell for each column.
        merged: the rows to emphasise.
        words: the columns that hold words; the others hold numbers.
    """

    def kind(column: int) -> str:
        return ' class="words"' if column in words else ""

    head = "".join(f'<th scope="col"{kind(number)}>{text(name)}</th>' for number, name in enumerate(columns))
    body = []
    for number, (first, *others) in enumerate(rows):
        cells = "".join(f'<td{kind(column)} dir="auto">{text(cell)}</td>' for column, cell in enumerate(others, 1))
        emphasis = ' class="merged"' if number in merged else ""
        body.append(f'<tr{emphasis}><th scope="row" dir="auto">{text(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="group" aria-label="{text(caption)}" tabindex="0">\n<table>\n'
        f"<caption><span>{text(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody>\n</table>\n</div>"
    )


def picture(drawn: str, caption: str) -> str:
    """A figure from `figures.svg` with its caption, in a box that scrolls."""
    return (
        f'<figure>\n<div class="scroll" tabindex="0" role="group" aria-label="{text(caption)}">{drawn}</div>\n'
        f"<figcaption>{text(caption)}</figcaption>\n</figure>"
    )


def bullets(lines: Iterable[str]) -> str:
    """A list of plain lines."""
    return "<ul>\n" + "\n".join(f'<li dir="auto">{text(line)}</li>' for line in lines) + "\n</ul>"
