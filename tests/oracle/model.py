"""A second opinion on every number: what the gauges mean, said again in plain Python.

Written from the meanings alone, row by row and without haste.  It shares no code with the exporter, so that a
mistake must be made twice to go unseen.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal
from uuid import UUID

Row = Mapping[str, Any]
"""Values by column.  A time is a datetime (UTC where it has no zone), a date, `infinity`, `-infinity` or None."""

Series = tuple[str, ...]
"""The name of a gauge, then the values of its labels."""

Truth = bool | None
"""What SQL says: None is NULL."""

State = Literal["current", "accepted", "outdated", "invalid", "missing", "pending", "not_required"]
STATES: Final[tuple[State, ...]] = (
    "current",
    "accepted",
    "outdated",
    "invalid",
    "missing",
    "pending",
    "not_required",
)
REASONS: Final[tuple[State, ...]] = ("missing", "outdated", "invalid")

LABEL_LENGTH: Final = 256
"""Longer texts that begin alike are one label."""

_CASTS: Final[Mapping[str, Callable[[str], object]]] = {"uuid": UUID, "bigint": int}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Table:
    """Rows; `linked` where a validated foreign key points at the sessions."""

    rows: Sequence[Row]
    linked: bool = False


@dataclass(frozen=True)
class World:
    """All that decides the numbers of a pipeline.

    `pipeline` is its part of the config, as one would write it.  `truths` says what each SQL expression in it
    says of a row.  `cap` is `max_label_values`.
    """

    clock: datetime
    pipeline: Mapping[str, Any]
    tables: Mapping[str, Table]
    truths: Mapping[str, Callable[[Row], Truth]]
    cap: int

    def says(self, expression: str | None, row: Row) -> bool:
        """Whether a condition is surely true of a row; one that is not there is."""
        return expression is None or self.truths[expression](row) is True


def gauges(world: World) -> dict[Series, float]:
    """Every series there must be, with its value."""
    return {**_volume(world), **_coverage(world), **_conformance(world), **_integrity(world)}


# --- Values


def _moment(value: object) -> datetime | None:
    """A time of a row in UTC; None where it says nothing."""
    match value:
        case None | "infinity" | "-infinity":
            return None
        case datetime():
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        case date():
            return datetime.combine(value, time(), UTC)
    raise TypeError(value)


def _instant(text: str) -> datetime:
    """A time of the config: `2025-08-01`, or with a time and an offset."""
    moment = _moment(datetime.fromisoformat(text))
    assert moment is not None
    return moment


def _duration(text: str) -> timedelta:
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])


def _text(value: object) -> str | None:
    """A value as the database shows it."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
    return str(value)


def _label(text: str | None) -> str:
    if text is None:
        return "<null>"
    if text == "":
        return "<empty>"
    shown = text[:LABEL_LENGTH]
    return "\\" + shown if re.fullmatch(r"\\*<(null|empty|other)>", shown) else shown


def _fold(
    family: Mapping[tuple[str, ...], int], place: int, cap: int, first: Callable[[tuple[str, ...]], bool]
) -> dict[tuple[str, ...], int]:
    """Keep `cap` series: those that come first, then the largest, then by their labels; the rest is `<other>`."""
    ranked = sorted(family, key=lambda labels: (0 if first(labels) else 1, -family[labels], labels))
    folded: Counter[tuple[str, ...]] = Counter()
    for rank, labels in enumerate(ranked):
        kept = labels if rank < cap else (*labels[:place], "<other>", *labels[place + 1 :])
        folded[kept] += family[labels]
    return dict(folded)


# --- Sessions


def _started(world: World, session: Row) -> datetime | None:
    return _moment(session[world.pipeline["sessions"]["started_at"]])


def _completed(world: World, session: Row) -> datetime | None:
    return _moment(session[world.pipeline["sessions"]["completed_at"]])


def _all_sessions(world: World) -> Sequence[Row]:
    return world.tables[world.pipeline["sessions"]["table"]].rows


def _in_window(world: World) -> list[Row]:
    window = world.pipeline["window"]
    first = _instant(window["since"]) if "since" in window else world.clock - _duration(window["last"])
    return [row for row in _all_sessions(world) if (started := _started(world, row)) is not None and started >= first]


def _eligible(world: World) -> list[Row]:
    return [row for row in _in_window(world) if world.says(world.pipeline["sessions"]["eligible"], row)]


def _volume(world: World) -> dict[Series, float]:
    sessions = world.pipeline["sessions"]
    statuses: Counter[tuple[str, ...]] = Counter((_label(_text(row[sessions["status"]])),) for row in _in_window(world))
    undated = [row for row in _all_sessions(world) if _started(world, row) is None]
    future = [
        row
        for row in _in_window(world)
        if any(moment is not None and moment > world.clock for moment in (_started(world, row), _completed(world, row)))
    ]
    folded = _fold(statuses, 0, world.cap, lambda _labels: False)
    return {
        **{("sessions", *labels): count for labels, count in folded.items()},
        ("undated_sessions",): len(undated),
        ("future_sessions",): len(future),
    }


# --- Records


def _records(world: World) -> Iterator[tuple[str, Mapping[str, Any], list[Row]]]:
    """Name and config of each record, with those rows that exist for us."""
    for name, record in world.pipeline["records"].items():
        rows = world.tables[record["table"]].rows
        yield name, record, [row for row in rows if world.says(record.get("where"), row)]


def _session_key(world: World, session: Row) -> tuple[object, ...]:
    columns = world.pipeline["sessions"]["key"]
    return tuple(session[column] for column in ([columns] if isinstance(columns, str) else columns))


def _link(record: Mapping[str, Any], row: Row) -> tuple[object, ...]:
    """What a row has in place of the key of its session."""
    parts = record["session_key"]
    values: list[object] = []
    for part in parts if isinstance(parts, list) else [parts]:
        column, cast = (part, None) if isinstance(part, str) else (part["column"], part.get("cast"))
        value = row[column]
        values.append(value if value is None or cast is None else _CASTS[cast](value))
    return tuple(values)


def _rows_of(world: World, session: Row, record: Mapping[str, Any], rows: Iterable[Row]) -> list[Row]:
    """The rows that point at a session; NULL points at nothing, and nothing points at NULL."""
    key = _session_key(world, session)
    return [] if None in key else [row for row in rows if _link(record, row) == key]


def _version(record: Mapping[str, Any], row: Row) -> tuple[str, str]:
    """Label and class of the version of a row."""
    version = record.get("version")
    if version is None:
        return "<none>", "current"
    text = _text(row[version["column"]])
    if text == version["current"]:
        return _label(text), "current"
    return _label(text), "accepted" if text in version.get("accepted", []) else "other"


def _is_valid(world: World, record: Mapping[str, Any], row: Row) -> bool:
    listed = all(_text(row[column]) in values for column, values in record.get("accepted_values", {}).items())
    return listed and world.says(record.get("valid"), row)


def _state(world: World, session: Row, record: Mapping[str, Any], rows: Sequence[Row]) -> State:
    """The state of a record for an eligible session, `rows` being those of this session."""
    if not world.says(record.get("required_when"), session):
        return "not_required"
    classes = [(_version(record, row)[1], _is_valid(world, record, row)) for row in rows]
    found: State
    if ("current", True) in classes:
        found = "current"
    elif ("accepted", True) in classes:
        found = "accepted"
    elif ("current", False) in classes or ("accepted", False) in classes:
        found = "invalid"
    else:
        found = "outdated" if rows else "missing"
    if record.get("satisfied_by", "current_version") == "any_version":
        satisfied = bool(rows)
    else:
        satisfied = found in ("current", "accepted")
    return found if satisfied or not _has_time_left(world, session, record) else "pending"


def _has_time_left(world: World, session: Row, record: Mapping[str, Any]) -> bool:
    grace = _duration(record.get("grace", world.pipeline.get("grace", "0s")))
    completed = _completed(world, session)
    if completed is None:
        return False
    ago = world.clock - completed
    return ago < grace if ago >= timedelta(0) else -ago <= grace


def _is_gap(record: Mapping[str, Any], state: State) -> bool:
    if record.get("satisfied_by", "current_version") == "any_version":
        return state == "missing"
    return state in REASONS


def _coverage(world: World) -> dict[Series, float]:
    numbers: dict[Series, float] = {("eligible_sessions", state): 0 for state in ("complete", "pending", "gap")}
    eligible = _eligible(world)
    of_session: list[set[str]] = [set() for _ in eligible]
    for name, record, rows in _records(world):
        states = [_state(world, session, record, _rows_of(world, session, record, rows)) for session in eligible]
        gaps = [_is_gap(record, state) for state in states]
        for state in STATES:
            numbers["record_sessions", name, state] = states.count(state)
        for reason in REASONS:
            numbers["gap_sessions", name, reason] = list(zip(states, gaps, strict=True)).count((reason, True))
        since = [
            moment
            for session, gap in zip(eligible, gaps, strict=True)
            if gap and (moment := _completed(world, session) or _started(world, session))
        ]
        if since:
            numbers["gap_oldest_timestamp_seconds", name] = (min(since) - _EPOCH) / timedelta(seconds=1)
        for found, state, gap in zip(of_session, states, gaps, strict=True):
            found.add("gap" if gap else "pending" if state == "pending" else "complete")
    for found in of_session:
        numbers["eligible_sessions", "gap" if "gap" in found else "pending" if "pending" in found else "complete"] += 1
    return numbers


def _conformance(world: World) -> dict[Series, float]:
    eligible = _eligible(world)
    rows_of: Counter[tuple[str, ...]] = Counter()
    sessions_of: Counter[tuple[str, ...]] = Counter()
    numbers: dict[Series, float] = {}
    for name, record, rows in _records(world):
        version = record.get("version")
        known = (
            [("<none>", "current")]
            if version is None
            else [
                (_label(version["current"]), "current"),
                *((_label(text), "accepted") for text in version.get("accepted", [])),
            ]
        )
        for counter in (rows_of, sessions_of):
            counter.update({(name, *labels): 0 for labels in known})
        rows_of.update((name, *_version(record, row)) for row in rows)
        for session in eligible:
            sessions_of.update({(name, *_version(record, row)) for row in _rows_of(world, session, record, rows)})
        if version is not None and "current_since" in version:
            since = _instant(version["current_since"])
            numbers["drifted_records", name] = sum(
                _version(record, row)[1] == "other"
                and ((written := _moment(row[record["created_at"]])) is None or written >= since)
                for row in rows
            )
    for metric, counter in (("records", rows_of), ("record_version_sessions", sessions_of)):
        folded = _fold(counter, 1, world.cap, lambda labels: labels[2] in ("current", "accepted"))
        numbers |= {(metric, *labels): count for labels, count in folded.items()}
    return numbers


def _integrity(world: World) -> dict[Series, float]:
    keys = {key for session in _all_sessions(world) if None not in (key := _session_key(world, session))}
    numbers: dict[Series, float] = {}
    for name, record, rows in _records(world):
        links = [_link(record, row) for row in rows]
        numbers["unlinked_records", name] = sum(None in link for link in links)
        numbers["orphaned_records", name] = sum(None not in link and link not in keys for link in links)
        numbers["foreign_key_enforced", name] = int(world.tables[record["table"]].linked)
    return numbers
