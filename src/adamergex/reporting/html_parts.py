"""Pieces of HTML: text that can do no harm, tables, pictures with a caption."""

import re
from collections.abc import Collection, Iterable, Sequence
from html import escape

import langcodes

from adamergex.language_tags import standard

# Lone surrogates, noncharacters and control characters, which neither HTML nor XML can hold.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: str) -> str:
    """Text that a page can hold; a character that it cannot is shown as its picture, or as �."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWRITABLE.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text)


def text(value: str) -> str:
    """Text to stand between tags, or between the quotes of an attribute."""
    return escape(clean(value))


def shortened(value: str, most: int) -> str:
    """Its beginning and its end, with a word on what is between them, where it has more than `most` characters."""
    if len(value) <= most:
        return value
    half = most // 2
    return f"{value[:half]}\n[… {len(value) - 2 * half:,} characters left out …]\n{value[-half:]}"


def spoken(language: str) -> str:
    """The attributes of text in a language: its direction follows from its letters."""
    known = f' lang="{text(standard(language))}"' if langcodes.tag_is_valid(language) else ""
    return f'{known} dir="auto"'


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    merged: Collection[int] = (),
    words: Collection[int] = (),
) -> str:
    """A table in a box that it scrolls in, where it is wider than the screen.

    Args:
        caption: what it shows.
        columns: the headings; the first one is that of the rows' own headings.
        rows: as plain text, a cell for each column.
        merged: the rows to emphasise.
        words: the columns that hold words; the others hold numbers.
    """

    def kind(column: int) -> str:
        return ' class="words"' if column in words else ""

    head = "".join(f'<th scope="col"{kind(number)}>{text(name)}</th>' for number, name in enumerate(columns))
    body = []
    for number, (first, *others) in enumerate(rows):
        cells = "".join(f'<td{kind(at)} dir="auto">{text(cell)}</td>' for at, cell in enumerate(others, 1))
        emphasis = ' class="merged"' if number in merged else ""
        body.append(f'<tr{emphasis}><th scope="row" dir="auto">{text(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="group" aria-label="{text(caption)}" tabindex="0">\n<table>\n'
        f"<caption><span>{text(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody>\n</table>\n</div>"
    )


def picture(drawn: str, caption: str) -> str:
    """A picture that was written by `plots.svg`, in a box that it scrolls in, and what it shows."""
    return (
        f'<figure>\n<div class="scroll" tabindex="0" role="group" aria-label="{text(caption)}">{drawn}</div>\n'
        f"<figcaption>{text(caption)}</figcaption>\n</figure>"
    )


def bullets(lines: Iterable[str]) -> str:
    """A list of plain lines."""
    return "<ul>\n" + "\n".join(f'<li dir="auto">{text(line)}</li>' for line in lines) + "\n</ul>"
