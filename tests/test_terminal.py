"""What people read: the same words in colour and without, and no text that tells a terminal what to do."""

import io
import re

import pytest
from rich.console import Console

from exporter.text import display
from exporter.text.terminal import Span, Table, is_colourful, is_watched, plain, table

HOSTILE = "\x1b]0;title\x07 [red]x[/red] :smile: https://x 12 \x9b31m\r\n\u202e"
SHOWN = r"\x1b]0;title\x07 [red]x[/red] :smile: https://x 12 \x9b31m\r\n\u202e"


class Screen(io.StringIO):
    """A terminal, or not."""

    def __init__(self, *, is_terminal: bool = True) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def shown(monkeypatch: pytest.MonkeyPatch, *blocks: tuple[Span, ...] | Table) -> str:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    display.show(blocks)
    return screen.getvalue()


@pytest.mark.parametrize("is_in_table", [False, True])
def test_no_text_is_obeyed_or_read_as_markup(monkeypatch: pytest.MonkeyPatch, is_in_table: bool) -> None:
    block = Table(((Span(HOSTILE, "bad"),),), (0,)) if is_in_table else (Span(HOSTILE, "bad"),)

    text = shown(monkeypatch, block)

    assert text.strip() == f"\x1b[1;31m{SHOWN}\x1b[0m"
    assert plain([block]).strip() == SHOWN


def test_every_tone_has_a_look_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [shown(monkeypatch, (Span("x", tone),)) for tone in (None, *display._STYLES)]

    assert len(set(looks)) == len(looks)
    assert {re.sub(r"\x1b\[[0-9;]*m", "", look) for look in looks} == {"x\n"}


def test_a_table_is_as_wide_as_its_cells_and_numbers_are_flush_right() -> None:
    rows = [("", "n", "last"), ("long name", "7", "a"), ("b", "1234", "")]

    assert plain([table(([Span(cell) for cell in row] for row in rows), numbers=[1])]) == (
        "                n  last\n  long name     7  a\n  b          1234\n"
    )


def test_a_cell_that_is_wider_than_its_column_pushes_on_its_own_row_alone() -> None:
    rows = (("wide", "x"), ("a", "y"))

    assert plain([Table(tuple((Span(a), Span(b)) for a, b in rows), (2, 0))]) == "  wide  x\n  a   y\n"


def test_a_narrow_terminal_breaks_the_last_column_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr(
        display, "_console", lambda file: Console(file=file, width=40, force_terminal=True, highlight=False)
    )
    display.show([Table(((Span("critical"), Span("sessions_with_gap"), Span("12345678901234567890")),), (0, 0, 0))])

    assert "sessions_with_gap" in screen.getvalue()
    assert re.sub(r"[^0-9]", "", screen.getvalue()) == "12345678901234567890"


@pytest.mark.parametrize(
    ("environ", "watched", "colourful"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "", "CI": ""}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": ""}, False, False),
        ({}, False, False),
        ({"TERM": "xterm", "CI": "true"}, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_who_looks_is_told_by_the_file_and_the_environment(
    environ: dict[str, str], watched: bool, colourful: bool
) -> None:
    assert (is_watched(Screen(), environ), is_colourful(Screen(), environ)) == (watched, colourful)
    assert not is_watched(Screen(is_terminal=False), environ)
