"""A ledger as a file: written whole, checked when read, and bound to one database and one config.

The file has keys of sessions: only the owner may read it.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from exporter.model.counting import Cells, Value
from exporter.model.metric import Folded
from exporter.model.ranges import Keyed, Started
from exporter.state.ledger import Ledger, RowSlice, SessionSlice
from exporter.text.files import MB, FileRefusedError, beside, read_text

FORMAT: Final = 2
"""Raised whenever a ledger of before cannot be read."""


LARGEST: Final = 1024 * MB
"""Bytes of a ledger."""


class LedgerFileError(Exception):
    """The file cannot be used; the message says why, without a value of a row."""


def write_ledger(path: Path, ledger: Ledger, bound: Mapping[str, str]) -> None:
    """Replace the file at once: a crash leaves the old or the new one.  `bound` names the database and the config.

    Raises OSError.
    """
    body = json.dumps(_ledger(ledger), separators=(",", ":"))
    head = {"format": FORMAT, "bound": dict(bound), "sha256": hashlib.sha256(body.encode()).hexdigest()}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with beside(path) as file:
        file.write(f"{json.dumps(head)}\n{body}\n".encode())


def read_ledger(path: Path, bound: Mapping[str, str]) -> Ledger | None:
    """The ledger of a file, None without a file; raises LedgerFileError, also for another database or config."""
    try:
        head, _, body = read_text(path, LARGEST).partition("\n")
    except FileNotFoundError:
        return None
    except (OSError, FileRefusedError, UnicodeDecodeError) as error:
        raise LedgerFileError(f"cannot be read ({type(error).__name__})") from None
    try:
        found = json.loads(head)
        told, written, checksum = found["format"], found["bound"], found["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LedgerFileError("is damaged") from None
    if told != FORMAT:
        raise LedgerFileError("is of another version of the exporter")
    if hashlib.sha256(body.rstrip("\n").encode()).hexdigest() != checksum:
        raise LedgerFileError("is damaged")
    if written != dict(bound):
        raise LedgerFileError("is of another database or config")
    try:
        return _read(json.loads(body))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise LedgerFileError("is damaged") from None


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "began_at": ledger.began_at,
        "watermark": ledger.watermark.isoformat(),
        "starts": [_started(part) for part in ledger.starts],
        "keys": {name: [_keyed(part) for part in parts] for name, parts in ledger.keys.items()},
        "slices": [_slice(one) for one in ledger.slices],
        "rows": [
            {
                "record": one.record,
                "part": _keyed(one.part),
                "taken_at": one.taken_at,
                "rows": _cells(one.rows),
                "owners": [[list(flags), count] for flags, count in one.owners],
                "repeats": dict(one.repeats),
            }
            for one in ledger.rows
        ],
        "values": {
            record: {facet: [[value.text, value.category] for value in known] for facet, known in facets.items()}
            for record, facets in ledger.values.items()
        },
        "differences": ledger.differences,
        "found": ledger.found,
        "swept_from": ledger.swept_from,
        "slice_sessions": ledger.slice_sessions,
        "slice_rows": ledger.slice_rows,
        "tables": list(ledger.tables),
        "expected": [[name, size] for name, size in ledger.expected.items()],
    }


def _read(data: Mapping[str, Any]) -> Ledger:
    return Ledger(
        began_at=float(data["began_at"]),
        watermark=datetime.fromisoformat(data["watermark"]),
        starts=tuple(map(_read_started, data["starts"])),
        keys={name: tuple(map(_read_keyed, parts)) for name, parts in data["keys"].items()},
        slices=tuple(map(_read_slice, data["slices"])),
        rows=tuple(
            RowSlice(
                one["record"],
                _read_keyed(one["part"]),
                float(one["taken_at"]),
                _read_cells(one["rows"]),
                tuple((tuple(map(bool, flags)), int(count)) for flags, count in one["owners"]),
                {str(name): int(count) for name, count in one["repeats"].items()},
            )
            for one in data["rows"]
        ),
        values={
            record: {facet: tuple(Value(*value) for value in known) for facet, known in facets.items()}
            for record, facets in data["values"].items()
        },
        differences=data["differences"],
        found=int(data["found"]),
        swept_from=float(data["swept_from"]),
        slice_sessions=int(data["slice_sessions"]),
        slice_rows=int(data["slice_rows"]),
        tables=tuple(map(int, data["tables"])),
        expected={name: float(size) for name, size in data["expected"]},
    )


def _slice(one: SessionSlice) -> dict[str, Any]:
    return {
        "part": _started(one.part),
        "taken_at": one.taken_at,
        "settled": _cells(one.settled),
        "open": _cells(one.open),
        "keys": list(one.keys),
    }


def _read_slice(data: Mapping[str, Any]) -> SessionSlice:
    return SessionSlice(
        _read_started(data["part"]),
        float(data["taken_at"]),
        _read_cells(data["settled"]),
        _read_cells(data["open"]),
        tuple(map(str, data["keys"])),
    )


def _started(part: Started) -> list[Any]:
    return [part.low and part.low.isoformat(), part.high and part.high.isoformat(), part.undated]


def _read_started(data: list[Any]) -> Started:
    low, high, undated = data
    return Started(low and datetime.fromisoformat(low), high and datetime.fromisoformat(high), bool(undated))


def _keyed(part: Keyed) -> list[Any]:
    return [part.low, part.high, part.missing]


def _read_keyed(data: list[Any]) -> Keyed:
    low, high, missing = data
    return Keyed(low, high, bool(missing))


_FOLDED: Final[list[Any]] = []
"""In place of `Folded.OTHER`: no value of a cell is a list."""


def _cells(cells: Cells) -> dict[str, Any]:
    rows = [[_FOLDED if value is Folded.OTHER else value for value in row] for row in cells.rows]
    return {"columns": list(cells.columns), "rows": rows}


def _read_cells(data: Mapping[str, Any]) -> Cells:
    rows = (tuple(Folded.OTHER if value == _FOLDED else value for value in row) for row in data["rows"])
    return Cells(tuple(data["columns"]), tuple(rows))
