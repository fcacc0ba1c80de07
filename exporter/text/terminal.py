"""Text -> what may be written to a terminal, and lines and tables of it as they are where there is none.  Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Literal


def printable(text: str) -> str:
    """The text with what a terminal would obey written out: a name or a status may hold control characters."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


Tone = Literal["good", "warning", "bad", "unknown", "quiet", "strong"]
"""What a piece of text means, for whoever can show colours; the text says it as well."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line, all of one tone; None is an ordinary one."""

    text: str
    tone: Tone | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below each other.

    `widths` is for each column how many letters its cells have at least; one that is longer pushes on the rest of its
    row alone.  A column in `numbers` is flush right.  `headed`: the first row names the columns.
    """

    rows: tuple[tuple[Span, ...], ...]
    widths: tuple[int, ...]
    numbers: frozenset[int] = frozenset()
    headed: bool = False


TextLine = tuple[Span, ...]
Block = TextLine | Table
"""What is shown, one below the other."""


def table(rows: Iterable[Sequence[Span]], numbers: Iterable[int] = ()) -> Table:
    """A table whose first row names its columns, each as wide as its longest cell."""
    cells = tuple(tuple(row) for row in rows)
    widths = tuple(max(len(printable(cell.text)) for cell in column) for column in zip(*cells, strict=True))
    return Table(cells, widths, frozenset(numbers), headed=True)


def plain(blocks: Iterable[Block]) -> str:
    """Blocks as text that has nothing but letters, the same for a person and for a program."""
    return "".join(f"{line}\n" for block in blocks for line in _lines(block))


def _lines(block: Block) -> Iterable[str]:
    if not isinstance(block, Table):
        return [printable("".join(span.text for span in block))]
    return ["  " + "  ".join(_cells(row, block)).rstrip() for row in block.rows]


def _cells(row: Sequence[Span], of: Table) -> Iterable[str]:
    for place, (cell, width) in enumerate(zip(row, of.widths, strict=True)):
        text = printable(cell.text)
        yield text.rjust(width) if place in of.numbers else text.ljust(width)


def is_watched(file: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether a person looks at it as it is written, on a terminal that can move its cursor; never so in a CI job."""
    return file.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown", "") and not environ.get("CI")


def is_colourful(file: IO[str], environ: Mapping[str, str]) -> bool:
    """The same, and no colour is unwelcome: https://no-color.org."""
    return is_watched(file, environ) and not environ.get("NO_COLOR")
