"""What slices have counted, kept between rounds: the sums of slices are the numbers.  Immutable, and knows no database.

Sessions are cut by their start, the rows of each record by session key.  A slice holds the cells of its settled
sessions; the cells of the others are held apart, with their keys, because these sessions are read again by key.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from exporter.model.counting import Cells, Total, Values
from exporter.model.fault import Fault
from exporter.model.metric import CellValue
from exporter.model.ranges import Keyed, Started

NOTHING: Final = Cells((), ())


@dataclass(frozen=True, slots=True)
class SessionSlice:
    """The sessions of a range of starts, counted at `taken_at` (Unix seconds, by the database's clock).

    `open`: the cells of the sessions with these `keys` (a JSON array of texts each), which are not settled.
    """

    part: Started
    taken_at: float
    settled: Cells
    open: Cells = NOTHING
    keys: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of sessions."""
        cells = [part.only("subject", [None]) for part in (self.settled, self.open) if part.columns]
        return sum(part.total("sessions") for part in cells)


@dataclass(frozen=True, slots=True)
class RowSlice:
    """The rows of a record in a range of keys, counted at `taken_at`.

    `owners`: the number of rows by whether the session exists and by each fact that tells rows apart.  `repeats`: the
    rows beyond the first, by name.
    """

    record: str
    part: Keyed
    taken_at: float
    rows: Cells
    owners: tuple[tuple[tuple[bool, ...], int], ...]
    repeats: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of rows with a key."""
        return sum(count for _, count in self.owners)


@dataclass(frozen=True, slots=True)
class Cohort:
    """The sessions of the cohort, counted at `taken_at` in so many seconds; `fault` says why they are not counted."""

    taken_at: float
    took: float
    cells: Cells = NOTHING
    spreads: Mapping[str, tuple[int, Mapping[int, float]]] = field(default_factory=dict)
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every slice, and what is left to cut.

    Starts from `watermark` on are counted in each round as `hot`.  `starts` and `keys` (by record) are the ranges that
    no slice covers yet, the next one first.  `differences` is the number of sessions that the last whole sweep found
    changed, None before; `found` counts those of the current sweep, which began at `swept_from`.  `slice_sessions` and
    `slice_rows` are the sizes of the next slices.  `tables` identify the measured tables.  `expected` are the
    estimated numbers of rows of each record.
    `is_behind`: the latest starts were too many for one statement.  `turn` and `is_turn_of_rows` say where the next
    round goes on.
    """

    began_at: float
    watermark: datetime
    starts: tuple[Started, ...]
    keys: Mapping[str, tuple[Keyed, ...]]
    slice_sessions: int
    slice_rows: int
    slices: tuple[SessionSlice, ...] = ()
    rows: tuple[RowSlice, ...] = ()
    hot: Cells = NOTHING
    cohort: Cohort | None = None
    values: Values = field(default_factory=dict)
    differences: int | None = None
    found: int = 0
    swept_from: float = 0.0
    tables: tuple[int, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
    is_behind: bool = False
    turn: int = 0
    is_turn_of_rows: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether slices cover everything."""
        return not self.starts and not any(self.keys.values())

    def share(self, first: float) -> float:
        """The share (0 to 1) of the tables that slices cover; the window begins at `first`, in Unix seconds."""
        if self.is_whole:
            return 1.0
        end = self.watermark.timestamp()
        length = max(1.0, end - first)
        left = sum(
            (part.high.timestamp() if part.high else end) - max(part.low.timestamp() if part.low else first, first)
            for part in self.starts
            if not part.undated
        )
        sessions = max(0.0, 1 - left / length)
        shares = [sessions]
        for record, parts in self.keys.items():
            counted = sum(one.size for one in self.rows if one.record == record)
            expected = max(self.expected.get(record, 0.0), counted, 1.0)
            shares.append(1.0 if not parts else counted / expected)
        return min(0.999, sum(shares) / len(shares))

    def left(self, share: float, now: float) -> float | None:
        """Seconds to the end of the first sweep at the rate so far; None before there is a rate, and after the end."""
        # The first round has no rate: it takes no time by the clock of its snapshot.
        elapsed = now - self.began_at
        if self.is_whole or share < _TOLD_FROM or elapsed <= 0:
            return None
        return elapsed * (1 - share) / share

    @property
    def oldest(self) -> float:
        """When the oldest slice was counted, in Unix seconds; the beginning while there is none."""
        taken = [*(one.taken_at for one in self.slices), *(one.taken_at for one in self.rows)]
        return min(taken, default=self.began_at)

    @property
    def listed(self) -> int:
        """The number of sessions that are read again by key."""
        return sum(len(one.keys) for one in self.slices)

    def with_slice(self, taken: SessionSlice, totals: Sequence[Total]) -> "Ledger":
        """The ledger with a slice; a slice of the same range is replaced, and its change is counted."""
        before = next((one for one in self.slices if one.part == taken.part), None)
        others = tuple(one for one in self.slices if one.part != taken.part)
        changed = difference([before.settled, before.open], [taken.settled, taken.open], totals) if before else 0
        return replace(self, slices=in_order((*others, taken)), found=self.found + changed)

    def without_slice(self, part: Started, size: int) -> "Ledger":
        """The ledger with a range that could not be counted left to cut, into slices of so many sessions."""
        starts = self.starts if part in self.starts else (part, *self.starts)
        slices = tuple(one for one in self.slices if one.part != part)
        return replace(self, starts=starts, slices=slices, slice_sessions=size)

    def without_rows(self, record: str, part: Keyed, size: int) -> "Ledger":
        """The ledger with a range of rows that could not be counted left to cut, into slices of so many rows."""
        left = self.keys[record] if part in self.keys[record] else (part, *self.keys[record])
        rows = tuple(one for one in self.rows if (one.record, one.part) != (record, part))
        return replace(self, keys={**self.keys, record: left}, rows=rows, slice_rows=size)

    def with_rows(self, taken: RowSlice) -> "Ledger":
        """The ledger with a slice of rows; a slice of the same range is replaced."""
        others = tuple(one for one in self.rows if (one.record, one.part) != (taken.record, taken.part))
        return replace(self, rows=(*others, taken))

    def since(self, first: datetime) -> "Ledger":
        """The ledger without the slices from before the window, which begins at `first`."""
        kept = tuple(one for one in self.slices if one.part.high is None or one.part.high > first)
        left = tuple(part for part in self.starts if part.undated or part.high is None or part.high > first)
        return replace(self, slices=kept, starts=left)

    def resumed(self, clock: datetime, late: timedelta) -> "Ledger":
        """The ledger after a pause or a rush: starts since the watermark are left to cut, not part of each round."""
        sealed = clock - late
        if (clock - self.watermark <= _PAUSE and not self.is_behind) or sealed <= self.watermark:
            return replace(self, is_behind=False)
        missed = Started(self.watermark, sealed)
        return replace(self, watermark=sealed, starts=(missed, *self.starts), hot=NOTHING, is_behind=False)

    def next_sweep(self, now: float) -> "Ledger":
        """The ledger at the end of a sweep: every slice has been counted since `swept_from`."""
        if not self.is_whole or self.oldest < self.swept_from:
            return self
        is_first = self.swept_from == 0.0
        return replace(self, differences=None if is_first else self.found, found=0, swept_from=now)


_TOLD_FROM: Final = 0.01
"""The share (0 to 1) from which on the rest of the first sweep can be told."""

_PAUSE: Final = timedelta(minutes=10)
"""More time than lies between two rounds."""


def _start(one: SessionSlice) -> tuple[bool, float]:
    return not one.part.undated, one.part.low.timestamp() if one.part.low else float("-inf")


def in_order(slices: Iterable[SessionSlice]) -> tuple[SessionSlice, ...]:
    """Slices by start; the sessions without a start come first."""
    return tuple(sorted(slices, key=_start))


def added(parts: Sequence[Cells], totals: Sequence[Total]) -> Cells:
    """The sum of cells: one cell for each combination of the columns that are no totals."""
    parts = [part for part in parts if part.columns]
    if not parts:
        return NOTHING
    columns = parts[0].columns
    combined = {total.name: total.combined_by for total in totals}
    numbers = [(columns.index(name), how) for name, how in combined.items()]
    places = [index for index, name in enumerate(columns) if name not in combined]
    sums: dict[tuple[CellValue, ...], list[CellValue]] = {}
    for part in parts:
        for row in part.rows:
            key = tuple(row[index] for index in places)
            known = sums.get(key)
            if known is None:
                sums[key] = list(row)
                continue
            for index, how in numbers:
                known[index] = _together(known[index], row[index], how)
    return Cells(columns, tuple(map(tuple, sums.values())))


def _together(one: CellValue, other: CellValue, how: str) -> CellValue:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return other if one is None else one
    return one + other if how == "sum" else min(one, other) if how == "min" else max(one, other)


def difference(before: Sequence[Cells], after: Sequence[Cells], totals: Sequence[Total]) -> int:
    """How many sessions are counted in another way, or are new or gone: by status and state."""
    numbers = {total.name for total in totals}
    counts: dict[tuple[object, ...], int] = {}
    for sign, parts in ((-1, before), (1, after)):
        for cells in parts:
            if cells.columns:
                known = [name for name in cells.columns if name not in numbers]
                for key, count in cells.only("subject", [None]).totals("sessions", *known).items():
                    counts[key] = counts.get(key, 0) + sign * count
    gained = sum(count for count in counts.values() if count > 0)
    lost = -sum(count for count in counts.values() if count < 0)
    return max(gained, lost)
