"""Rows -> one document in the format of a list: CSV, NDJSON or JSON."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from exporter.mend.spool import SpoolError
from exporter.text.terminal import printable

SessionValue = str | None | dict[str, str | None]
"""The key of a session: a text, or an object by column for a key with several columns; None is NULL."""

Row = Mapping[str, SessionValue]
"""The values by key."""


def session_value(columns: Sequence[str], key: Sequence[str | None]) -> SessionValue:
    """The key of a session with these columns."""
    return key[0] if len(columns) == 1 else dict(zip(columns, key, strict=True))


@dataclass(frozen=True, slots=True)
class Form:
    """A document format: `head` of the keys, `first` before the first row, `between` two rows, `foot`, and one row.

    `printable_row` is for a terminal, without control characters.
    """

    head: Callable[[Sequence[str]], str]
    first: str
    between: str
    foot: str
    row: Callable[[Row], str]
    printable_row: Callable[[Row], str]


def _csv_row(row: Row) -> str:
    return _csv_line(_cells(row))


def _printable_csv_row(row: Row) -> str:
    return _csv_line(tuple(map(printable, _cells(row))))


def _object(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _printable_object(row: Row) -> str:
    return json.dumps(row)


FORMATS: Final[Mapping[str, Form]] = {
    "csv": Form(lambda keys: ",".join(keys) + "\n", "", "", "", _csv_row, _printable_csv_row),
    "ndjson": Form(
        lambda _: "", "", "", "", lambda row: _object(row) + "\n", lambda row: _printable_object(row) + "\n"
    ),
    "json": Form(lambda _: "[", "\n", ",\n", "\n]\n", _object, _printable_object),
}
"""The formats of a list."""


class Document:
    """Writes rows with the keys `columns` into a file; the document is complete only after `end`."""

    def __init__(self, file: IO[bytes], columns: Sequence[str], form: Form, *, on_terminal: bool = False) -> None:
        self._file = file
        self._form = form
        self._row = form.printable_row if on_terminal else form.row
        self._before = form.first
        self._write(form.head(columns))

    def take(self, *rows: Row) -> None:
        """Write rows, at least one; raises SpoolError."""
        self._write(self._before + self._form.between.join(map(self._row, rows)))
        self._before = self._form.between

    def end(self) -> None:
        """Close the document; raises SpoolError."""
        self._write(self._form.foot)

    def _write(self, text: str) -> None:
        try:
            self._file.write(text.encode())
        except OSError as error:
            raise SpoolError(error.strerror) from None


def _cells(row: Row) -> tuple[str, ...]:
    """The cells of a CSV row: a key of several columns is a JSON object, None an empty cell."""
    return tuple(
        json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict) else cell or "" for cell in row.values()
    )


class _Echo:
    """A file for the csv module: `write` returns the line."""

    def write(self, line: str) -> str:
        return line


_csv = csv.writer(_Echo())


def _csv_line(cells: Sequence[str]) -> str:
    """A line by RFC 4180, but with a Unix line end."""
    line: Any = _csv.writerow(cells)
    return str(line).removesuffix("\r\n") + "\n"
