"""Blocks -> a terminal: colours, tables and progress bars.  Imported only for a terminal.

Text is never read as markup, and never controls the terminal.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

from exporter.text.terminal import Block, Span, Table, Tone, printable

_STYLES: Final[Mapping[Tone, str]] = {
    "good": "bright_blue",
    "warning": "yellow",
    "bad": "bold red",
    "unknown": "bold magenta",
    "quiet": "dim",
    "strong": "bold",
}
"""Only the sixteen standard colours: the theme of the terminal decides the look."""


def show(blocks: Iterable[Block]) -> None:
    """Write blocks to stdout, a terminal: in the width of the terminal, coloured by tone."""
    console = _console(sys.stdout)
    for block in blocks:
        console.print(Padding(_grid(block), (0, 0, 0, 2)) if isinstance(block, Table) else _text(block))


def _console(file: IO[str]) -> Console:
    return Console(file=file, force_terminal=True, highlight=False, markup=False, emoji=False)


def _text(spans: Sequence[Span]) -> Text:
    return Text.assemble(*((printable(span.text), _STYLES[span.tone] if span.tone else "") for span in spans))


def _grid(table: Table) -> Grid:
    grid = Grid(box=box.SIMPLE if table.headed else None, show_header=table.headed, show_edge=False, pad_edge=False)
    head, *rows = table.rows if table.headed else ((), *table.rows)
    for place, _ in enumerate(table.widths):
        is_last = place == len(table.widths) - 1
        grid.add_column(
            _text(head[place : place + 1]),
            justify="right" if place in table.numbers else "left",
            # On a narrow terminal the last column wraps.
            no_wrap=not is_last,
            overflow="fold",
        )
    for row in rows:
        grid.add_row(*(_text((cell,)) for cell in row))
    return grid


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, a terminal, removed at the end; the value takes the number of finished sessions.

    `total` is the number of all sessions; None if unknown.
    """
    count = "{task.completed:,}" if total is None else "{task.completed:,} of {task.total:,}"
    columns = (
        TextColumn(what, markup=False),
        BarColumn(style="dim", complete_style="bright_blue", finished_style="bright_blue", pulse_style="bright_blue"),
        TextColumn(f"{count} sessions", markup=False),
        TimeElapsedColumn(),
    )
    # Other output during the bar goes to the streams directly.
    bar = Progress(*columns, console=_console(sys.stderr), transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda sessions: bar.update(task, completed=sessions)
