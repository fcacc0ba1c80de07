"""Text safe for a terminal, and blocks (lines and tables) as plain text.  Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Literal


def printable(text: str) -> str:
    """The text with control characters escaped: a name or a status may have control characters."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


Tone = Literal["good", "warning", "bad", "unknown", "quiet", "strong"]
"""The meaning of a piece of text, for colours; the text has the same meaning without colours."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line with one tone; None is ordinary text."""

    text: str
    tone: Tone | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below each other.

    `widths`: the least width of each column, in characters; a longer cell shifts the rest of its row.  `numbers`:
    right-aligned columns.  `headed`: the first row names the columns.
    """

    rows: tuple[tuple[Span, ...], ...]
    widths: tuple[int, ...]
    numbers: frozenset[int] = frozenset()
    headed: bool = False


TextLine = tuple[Span, ...]
Block = TextLine | Table
"""A line or a table; blocks are shown below each other."""


def table(rows: Iterable[Sequence[Span]], numbers: Iterable[int] = ()) -> Table:
    """A table with a header row; each column is as wide as the longest cell."""
    cells = tuple(tuple(row) for row in rows)
    widths = tuple(max(len(printable(cell.text)) for cell in column) for column in zip(*cells, strict=True))
    return Table(cells, widths, frozenset(numbers), headed=True)


def plain(blocks: Iterable[Block]) -> str:
    """Blocks as plain text without colours, for people and programs."""
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
    """Whether the file is a terminal that can move the cursor, outside a CI job."""
    return file.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown", "") and not environ.get("CI")


def is_colourful(file: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether the file is a terminal, and NO_COLOR is not set: https://no-color.org."""
    return is_watched(file, environ) and not environ.get("NO_COLOR")
