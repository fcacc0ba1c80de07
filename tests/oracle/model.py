"""A second opinion on every number: what the gauges mean, said again in plain Python.

Written from the meanings alone, row by row and without haste.  It shares no code with the exporter, so that a
mistake must be made twice to go unseen.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

Row = Mapping[str, Any]
"""Values by column.  A time is a datetime (UTC where it has no zone), a date, `infinity`, `-infinity` or None; of
the type char(n) a text is without its trailing blanks."""

Series = tuple[str, ...]
"""The name of a gauge, then the values of its labels."""

Truth = bool | None
"""What SQL says: None is NULL."""

State = Literal[
    "current", "accepted", "outdated", "invalid", "missing", "too_few", "too_many", "pending", "not_required"
]
STATES: Final[tuple[State, ...]] = (
    "current",
    "accepted",
    "outdated",
    "invalid",
    "missing",
    "too_few",
    "too_many",
    "pending",
    "not_required",
)
REASONS: Final[tuple[State, ...]] = ("missing", "outdated", "invalid", "too_few", "too_many")
RESULTS: Final = ("pass", "fail", "pending")

LABEL_LENGTH: Final = 256
"""Longer texts that begin alike are one label."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


Base = Literal[
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "uuid",
    "date",
    "timestamptz",
    "mood",
    "text",
    "varchar",
    "char",
    "name",
    "citext",
    "boolean",
    "timestamp",
]
"""The types without their lengths; `mood` is an enum."""

STRINGS: Final = ("text", "varchar", "char", "name")
NUMBERS: Final = ("smallint", "integer", "bigint", "numeric")
"""From the narrowest to the widest: each holds whatever one before holds."""


@dataclass(frozen=True)
class Type:
    """The type of a column: `sql` is how it is declared, `base` what that is without length, domains and collation.

    `is_deterministic` where its collation calls no two texts equal that differ.  `needs` are the statements that
    make its domain, enum or collation.
    """

    sql: str
    base: Base
    collation: str = ""
    is_deterministic: bool = True
    needs: tuple[str, ...] = ()


CASTS: Final[Mapping[str, Base]] = {
    "text": "text",
    "varchar(3)": "varchar",
    "character varying": "varchar",
    "character": "char",
    "char(2)": "char",
    "name": "name",
    "uuid": "uuid",
    "bigint": "bigint",
    "integer": "integer",
    "numeric": "numeric",
    "date": "date",
    "mood": "mood",
}
"""What a `cast` may say."""

INPUTS: Final[Mapping[str, Callable[[str], object]]] = {
    "uuid": UUID,
    "bigint": int,
    "integer": int,
    "numeric": Decimal,
    "date": date.fromisoformat,
    "mood": str,
}
"""How a text becomes a value of a type."""


@dataclass(frozen=True)
class Table:
    """Rows; `linked` where a validated foreign key points at the sessions."""

    rows: Sequence[Row]
    linked: bool = False


@dataclass(frozen=True)
class World:
    """All that decides the numbers of a pipeline.

    `pipeline` is its part of the config, as one would write it.  `types` has those of the columns of each table.
    `truths` says what each SQL expression in it says of a row.  `cap` is `max_label_values`.
    """

    clock: datetime
    pipeline: Mapping[str, Any]
    tables: Mapping[str, Table]
    types: Mapping[str, Mapping[str, Type]]
    truths: Mapping[str, Callable[[Row], Truth]]
    cap: int

    def says(self, expression: str | None, row: Row) -> bool:
        """Whether a condition is surely true of a row; one that is not there is."""
        return expression is None or self.truths[expression](row) is True


def gauges(world: World) -> dict[Series, float]:
    """Every series there must be, with its value.

    Of a record that is refused there is none, nor is there a total that rests on it.
    """
    found: dict[Series, float] = {
        **_volume(world),
        **_coverage(world),
        **_segments(world),
        **_conformance(world),
        **_validity(world),
        **_uniqueness(world),
        **_integrity(world),
        **_detachment(world),
        **_stuck(world),
        **_timeliness(world),
        **_conversion(world),
        **_freshness(world),
    }
    totals = {("eligible_sessions", "complete"), ("eligible_sessions", "pending"), ("eligible_sessions", "gap")}
    totals.add(("cohort_sessions", "covered"))
    if not refused(world):
        return found
    return {series: n for series, n in found.items() if series not in totals and series[0] != "segment_sessions"}


# --- Values


def _moment(value: object, zone: str | None = None) -> datetime | None:
    """A time of a row in UTC; None where it says nothing.  A time without a zone is of `zone`.

    An hour that is there twice is the later one, and one that is not there is an hour later.
    """
    match value:
        case None | "infinity" | "-infinity":
            return None
        case datetime() if value.tzinfo:
            return value.astimezone(UTC)
        case datetime():
            local = ZoneInfo(zone or "UTC")
            return max(value.replace(tzinfo=local, fold=fold).astimezone(UTC) for fold in (0, 1))
        case date():
            return _moment(datetime.combine(value, time()), zone)
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


# --- Keys


class Comparison(NamedTuple):
    """How a column of a record is compared with the column of the key: what is compared of the one and of the other."""

    rule: Literal["own", "texts", "numbers", "cast to text", "cast"]
    of_session: Callable[[Any], object]
    of_record: Callable[[Any], object]


@cache
def comparison(session: Type, record: Type, cast: str | None = None) -> Comparison | None:
    """How two columns are compared, the record's after its cast; None where they must be refused."""
    if cast is None:
        return _uncast(session, record)
    wanted = Type(cast, CASTS[cast])
    if wanted.base in STRINGS:
        # The length of the type that is written would make longer keys one.
        return Comparison("cast to text", _text, _text)
    convert: Callable[[Any], object] = _itself
    if record.base in STRINGS:
        convert = INPUTS[wanted.base]
    elif record.base != wanted.base and not _holds(wanted.base, record.base):
        return None
    found = _uncast(session, wanted)
    return found and Comparison("cast", found.of_session, lambda value: found.of_record(convert(value)))


def _holds(wide: Base, narrow: Base) -> bool:
    """Whether every value of a type is one of a wider type."""
    return {wide, narrow} <= {*NUMBERS} and NUMBERS.index(narrow) < NUMBERS.index(wide)


def _uncast(session: Type, record: Type) -> Comparison | None:
    if (session.base, session.collation) == (record.base, record.collation):
        return Comparison("own", own_value(session), own_value(record))
    if {session.base, record.base} <= {*STRINGS} and session.is_deterministic and record.is_deterministic:
        return Comparison("texts", _itself, _itself)
    if {session.base, record.base} <= {*NUMBERS}:
        return Comparison("numbers", _itself, _itself)
    return None


def own_value(kind: Type) -> Callable[[Any], Any]:
    """What the equality of a type looks at."""
    return str.lower if kind.base == "citext" or not kind.is_deterministic else _itself


def _itself(value: Any) -> Any:
    return value


def refused(world: World) -> set[str]:
    """The records whose key cannot be compared with that of the sessions."""
    records = world.pipeline["records"].items()
    return {name for name, record in records if "exists" not in record and None in comparisons(world, record)}


def comparisons(world: World, record: Mapping[str, Any]) -> list[Comparison | None]:
    """How each column of the key of a record is compared."""
    ours, theirs = world.types[world.pipeline["sessions"]["table"]], world.types[record["table"]]
    return [
        comparison(ours[key], theirs[column], cast)
        for key, (column, cast) in zip(_key_columns(world), _link_columns(record), strict=True)
    ]


# --- Sessions


def _started(world: World, session: Row) -> datetime | None:
    sessions = world.pipeline["sessions"]
    return _moment(session[sessions["started_at"]], sessions.get("timezone"))


def _completed(world: World, session: Row) -> datetime | None:
    sessions = world.pipeline["sessions"]
    return _moment(session[sessions.get("completed_at", sessions["started_at"])], sessions.get("timezone"))


def _due(world: World, session: Row) -> datetime | None:
    sessions = world.pipeline["sessions"]
    return _moment(session[sessions["due_at"]], sessions.get("timezone")) if "due_at" in sessions else None


def _all_sessions(world: World) -> Sequence[Row]:
    return world.tables[world.pipeline["sessions"]["table"]].rows


def window_start(world: World) -> datetime:
    window = world.pipeline["window"]
    return _instant(window["since"]) if "since" in window else world.clock - _duration(window["last"])


def _sessions(world: World) -> list[Row]:
    """The rows that are sessions: `where` is surely true of them."""
    return [row for row in _all_sessions(world) if world.says(world.pipeline["sessions"].get("where"), row)]


def _begun_in_window(world: World) -> list[Row]:
    """Every row whose start is in the window, a session or not."""
    first = window_start(world)
    return [row for row in _all_sessions(world) if (started := _started(world, row)) is not None and started >= first]


def _in_window(world: World) -> list[Row]:
    return [row for row in _begun_in_window(world) if world.says(world.pipeline["sessions"].get("where"), row)]


def _eligible(world: World) -> list[Row]:
    return [row for row in _in_window(world) if world.says(world.pipeline["sessions"]["eligible"], row)]


def _status(world: World, session: Row) -> str:
    """The label of the status of a session."""
    column = world.pipeline["sessions"].get("status")
    return "<none>" if column is None else _label(_text(session[column]))


def _volume(world: World) -> dict[Series, float]:
    sessions = world.pipeline["sessions"]
    statuses: Counter[tuple[str, ...]] = Counter((_status(world, row),) for row in _in_window(world))
    undated = [row for row in _sessions(world) if _started(world, row) is None]
    future = [
        row
        for row in _in_window(world)
        if any(moment is not None and moment > world.clock for moment in (_started(world, row), _completed(world, row)))
    ]
    folded = _fold(statuses, 0, world.cap, lambda _labels: False)
    return {
        **{("sessions", *labels): count for labels, count in folded.items()},
        ("undated_sessions",): len(undated),
        ("undated_eligible_sessions",): sum(world.says(sessions["eligible"], row) for row in undated),
        ("future_sessions",): len(future),
    }


# --- Records


def _records(world: World) -> Iterator[tuple[str, Mapping[str, Any], list[Row]]]:
    """Name and config of each record that is not refused, with those rows that exist for us; a condition has none."""
    lost = refused(world)
    for name, record in world.pipeline["records"].items():
        if "exists" in record:
            yield name, record, []
        elif name not in lost:
            rows = world.tables[record["table"]].rows
            yield name, record, [row for row in rows if world.says(record.get("where"), row)]


def _tables(world: World) -> Iterator[tuple[str, Mapping[str, Any], list[Row]]]:
    """The same for the records that have a table."""
    return (found for found in _records(world) if "exists" not in found[1])


def _key_columns(world: World) -> list[str]:
    columns = world.pipeline["sessions"]["key"]
    return [columns] if isinstance(columns, str) else columns


def _link_columns(record: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The columns that a record has in place of the key of its session, each with its cast."""
    parts = record["session_key"]
    return [
        (part, None) if isinstance(part, str) else (part["column"], part.get("cast"))
        for part in (parts if isinstance(parts, list) else [parts])
    ]


def _session_key(world: World, session: Row) -> tuple[object, ...]:
    return tuple(session[column] for column in _key_columns(world))


def _compared_key(world: World, record: Mapping[str, Any], session: Row) -> tuple[object, ...]:
    """What of the key of a session is compared with a record; None for what is NULL."""
    return tuple(
        None if session[column] is None or how is None else how.of_session(session[column])
        for column, how in zip(_key_columns(world), comparisons(world, record), strict=True)
    )


def _compared_link(world: World, record: Mapping[str, Any], row: Row) -> tuple[object, ...]:
    """What of a row is compared with the key of a session; None for what is NULL."""
    return tuple(
        None if row[column] is None or how is None else how.of_record(row[column])
        for (column, _), how in zip(_link_columns(record), comparisons(world, record), strict=True)
    )


def _rows_of(world: World, session: Row, record: Mapping[str, Any], rows: Iterable[Row]) -> list[Row]:
    """The rows that point at a session; NULL points at nothing, and nothing points at NULL.

    A record without a table is one row without a column for each session of which its condition is true.
    """
    if "exists" in record:
        return [{}] if world.says(record["exists"], session) else []
    key = _compared_key(world, record, session)
    return [] if None in key else [row for row in rows if _compared_link(world, record, row) == key]


def _version(record: Mapping[str, Any], row: Row) -> tuple[str, str]:
    """Label and class of the version of a row."""
    version = record.get("version")
    if version is None:
        return "<none>", "current"
    text = _text(row[version["column"]])
    if text == version["current"]:
        return _label(text), "current"
    return _label(text), "accepted" if text in version.get("accepted", []) else "other"


def _written(record: Mapping[str, Any], row: Row) -> datetime | None:
    return _moment(row[record["created_at"]], record.get("timezone"))


def _is_valid(world: World, record: Mapping[str, Any], row: Row) -> bool:
    listed = all(_text(row[column]) in values for column, values in record.get("accepted_values", {}).items())
    return listed and world.says(record.get("valid"), row)


def _needs(world: World, session: Row, record: Mapping[str, Any]) -> bool:
    """Whether a session needs the record: a number of rows in a column may be none."""
    numbers = [session[bound] for bound in _bounds(record).values() if isinstance(bound, str)]
    is_none = any(number is not None and number <= 0 for number in numbers)
    return world.says(record.get("required_when"), session) and not is_none


def _bounds(record: Mapping[str, Any]) -> dict[str, Any]:
    """How many good rows a session needs, as written: `least` and, if there is a bound, `most`."""
    rows = record.get("rows", {})
    rows = rows if isinstance(rows, dict) else {"exactly": rows}
    if "exactly" in rows:
        return {"least": rows["exactly"], "most": rows["exactly"]}
    return {"least": rows.get("at_least", 1)} | ({"most": rows["at_most"]} if "at_most" in rows else {})


def _miscounted(record: Mapping[str, Any], session: Row, good: int) -> State | None:
    """What is wrong with a number of good rows; a number that is not known is wrong."""
    bounds = {name: session[bound] if isinstance(bound, str) else bound for name, bound in _bounds(record).items()}
    if bounds["least"] is None or good < bounds["least"]:
        return "too_few"
    if "most" in bounds and (bounds["most"] is None or good > bounds["most"]):
        return "too_many"
    return None


def _found(world: World, session: Row, record: Mapping[str, Any], rows: Sequence[Row]) -> tuple[State, bool]:
    """What there is of a record, and whether that satisfies; `rows` are those of the session."""
    classes = [(_version(record, row)[1], _is_valid(world, record, row)) for row in rows]
    if not rows:
        return "missing", False
    found = _worst(classes) if record.get("satisfied_by") == "every_row" else _best(classes)
    if record.get("satisfied_by") != "any_version" and found not in ("current", "accepted"):
        return found, False
    wrong = _miscounted(record, session, sum(_is_good(world, record, row) for row in rows))
    return (wrong, False) if wrong else (found, True)


def _state(world: World, session: Row, record: Mapping[str, Any], rows: Sequence[Row]) -> State:
    """The state of a record for an eligible session, `rows` being those of this session."""
    if not _needs(world, session, record):
        return "not_required"
    found, satisfied = _found(world, session, record, rows)
    return found if satisfied or not _has_time_left(world, session, record.get("grace")) else "pending"


def _best(classes: Sequence[tuple[str, bool]]) -> State:
    """The state by the best of some rows: class of the version, and whether the row is valid."""
    if ("current", True) in classes:
        return "current"
    if ("accepted", True) in classes:
        return "accepted"
    return "invalid" if {("current", False), ("accepted", False)}.intersection(classes) else "outdated"


def _worst(classes: Sequence[tuple[str, bool]]) -> State:
    """The state by the worst of some rows: no row may be anything else than good."""
    if any(version == "other" for version, _ in classes):
        return "outdated"
    if not all(valid for _, valid in classes):
        return "invalid"
    return "current" if all(version == "current" for version, _ in classes) else "accepted"


def _has_time_left(world: World, session: Row, own_grace: str | None) -> bool:
    """Whether a session completed less than the grace ago: a record's or a check's own, else the pipeline's."""
    grace = _duration(own_grace or world.pipeline.get("grace", "0s"))
    due = _due(world, session)
    if due is not None:
        return due > world.clock - grace
    completed = _completed(world, session)
    if completed is None:
        return False
    ago = world.clock - completed
    return ago < grace if ago >= timedelta(0) else -ago <= grace


def _is_gap(record: Mapping[str, Any], state: State) -> bool:
    if record.get("satisfied_by", "current_version") == "any_version":
        return state in ("missing", "too_few", "too_many")
    return state in REASONS


def _coverage(world: World) -> dict[Series, float]:
    numbers: dict[Series, float] = {("eligible_sessions", state): 0 for state in ("complete", "pending", "gap")}
    eligible = _eligible(world)
    of_session: list[set[str]] = [set() for _ in eligible]
    for name, record, rows in _records(world):
        states = [_state(world, session, record, _rows_of(world, session, record, rows)) for session in eligible]
        gaps = [_is_gap(record, state) for state in states]
        never = {"too_few"} if _bounds(record)["least"] == 1 else set()
        never |= set() if "most" in _bounds(record) else {"too_many"}
        for state in [state for state in STATES if state not in never]:
            numbers["record_sessions", name, state] = states.count(state)
        for reason in [reason for reason in REASONS if reason not in never]:
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


def _segments(world: World) -> dict[Series, float]:
    """The sessions and the gaps of each segment that is shown, and of the others together."""
    segment = world.pipeline["sessions"].get("segment")
    if segment is None:
        return {}
    eligible = _eligible(world)
    names = [_segment(segment, session) for session in eligible]
    states: list[set[str]] = [set() for _ in eligible]
    gaps: dict[str, list[bool]] = {}
    for name, record, rows in _records(world):
        of_record = [_state(world, session, record, _rows_of(world, session, record, rows)) for session in eligible]
        gaps[name] = [_is_gap(record, state) for state in of_record]
        for found, state, gap in zip(states, of_record, gaps[name], strict=True):
            found.add("gap" if gap else "pending" if state == "pending" else "complete")
    whole = ["gap" if "gap" in found else "pending" if "pending" in found else "complete" for found in states]
    sizes = Counter(names)
    worst = Counter(name for name, state in zip(names, whole, strict=True) if state == "gap")
    complete = Counter(name for name, state in zip(names, whole, strict=True) if state == "complete")
    large = [name for name in sizes if sizes[name] >= segment.get("least", 1)]
    large.sort(key=lambda name: (-worst[name], -sizes[name], name or ""))
    top = segment.get("top", 20)
    shown, others = large[: (top + 1) // 2], large[(top + 1) // 2 :]
    others.sort(key=lambda name: worst[name] / (worst[name] + complete[name] or 1), reverse=True)
    shown += others[: top - len(shown)]
    labels = [_label(name) if name in shown else "<other>" for name in names]
    numbers: dict[Series, float] = {}
    for label in {*labels} or {"<other>"}:
        numbers |= {("segment_sessions", label, state): 0 for state in ("complete", "pending", "gap")}
        numbers |= {("segment_gap_sessions", of, label): 0 for of in gaps}
    for label, of_session in zip(labels, whole, strict=True):
        numbers["segment_sessions", label, of_session] += 1
    for of, lacking in gaps.items():
        for label, gap in zip(labels, lacking, strict=True):
            numbers["segment_gap_sessions", of, label] += gap
    return numbers


def _segment(segment: Mapping[str, Any], session: Row) -> str | None:
    """The segment of a session."""
    columns = [segment["columns"]] if isinstance(segment["columns"], str) else segment["columns"]
    texts = [_text(session[column]) for column in columns]
    text = texts[0] if len(texts) == 1 else ", ".join("<null>" if one is None else one for one in texts)
    return text and text[:LABEL_LENGTH]


@dataclass(frozen=True)
class Gap:
    """A session that is a gap: key and completion as texts, why for each record, since when it is due, the segment."""

    session: tuple[str | None, ...]
    reasons: Mapping[str, State]
    completed_at: str | None
    since: datetime
    segment: str | None


def gaps(world: World) -> list[Gap]:
    """Every session that is a gap, in no order."""
    found = []
    for session in _eligible(world):
        states = {
            name: (record, _state(world, session, record, _rows_of(world, session, record, rows)))
            for name, record, rows in _records(world)
        }
        reasons = {name: state for name, (record, state) in states.items() if _is_gap(record, state)}
        completed = _completed(world, session)
        since = completed or _started(world, session)
        assert since is not None
        if reasons:
            key = tuple(map(_text, _session_key(world, session)))
            is_told = completed is not None and "completed_at" in world.pipeline["sessions"]
            of_segment = world.pipeline["sessions"].get("segment")
            segment = _label(_segment(of_segment, session)) if of_segment else None
            told = completed.isoformat() if completed and is_told else None
            found.append(Gap(key, reasons, told, since, segment))
    return found


@dataclass(frozen=True)
class Fate:
    """What became of a session that was a gap, and of each record that it lacked; `lacks` is why it is a gap now."""

    session: str
    records: Mapping[str, str]
    lacks: Mapping[str, State]


def fate(world: World, key: tuple[str | None, ...], lacked: Iterable[str], wanted: Iterable[State] = REASONS) -> Fate:
    """What became of a session that lacked some records and was put on a list of gaps for `wanted` reasons."""

    def found(sessions: Iterable[Row]) -> list[Row]:
        return [session for session in sessions if tuple(map(_text, _session_key(world, session))) == key]

    for place, name in ((_all_sessions, "gone"), (_begun_in_window, "left_window"), (_eligible, "not_eligible")):
        if not found(place(world)):
            return Fate(name, dict.fromkeys(lacked, name), {})
    [session] = found(_eligible(world))
    lacks, states = {}, {}
    for name, record, rows in _records(world):
        state = states[name] = _state(world, session, record, _rows_of(world, session, record, rows))
        if _is_gap(record, state) and (name in lacked or state in wanted):
            lacks[name] = state
    of_records = {
        name: lacks[name] if name in lacks else "pending" if states[name] == "pending" else "fixed" for name in lacked
    }
    return Fate("gap" if lacks else "pending" if "pending" in states.values() else "fixed", of_records, lacks)


def _conformance(world: World) -> dict[Series, float]:
    eligible = _eligible(world)
    rows_of: Counter[tuple[str, ...]] = Counter()
    sessions_of: Counter[tuple[str, ...]] = Counter()
    numbers: dict[Series, float] = {}
    for name, record, rows in _tables(world):
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
                _version(record, row)[1] == "other" and ((written := _written(record, row)) is None or written >= since)
                for row in rows
            )
    for metric, counter in (("records", rows_of), ("record_version_sessions", sessions_of)):
        folded = _fold(counter, 1, world.cap, lambda labels: labels[2] in ("current", "accepted"))
        numbers |= {(metric, *labels): count for labels, count in folded.items()}
    return numbers


def _integrity(world: World) -> dict[Series, float]:
    numbers: dict[Series, float] = {}
    for name, record, rows in _tables(world):
        keys = {_compared_key(world, record, session) for session in _all_sessions(world)}
        links = [_compared_link(world, record, row) for row in rows]
        numbers["unlinked_records", name] = sum(None in link for link in links)
        numbers["orphaned_records", name] = sum(None not in link and link not in keys for link in links)
        numbers["foreign_key_enforced", name] = int(world.tables[record["table"]].linked)
    return numbers


# --- Rows


def _validity(world: World) -> dict[Series, float]:
    numbers: dict[Series, float] = {}
    eligible = _eligible(world)
    for name, check in world.pipeline["sessions"].get("checks", {}).items():
        results = Counter(_result(world, check, session) for session in eligible)
        for result in RESULTS:
            numbers["check_sessions", name, result] = results[result]
    of_rows: Counter[tuple[str, ...]] = Counter()
    of_sessions: Counter[tuple[str, ...]] = Counter()
    for name, record, rows in _tables(world):
        numbers["invalid_records", name] = sum(not _is_valid(world, record, row) for row in rows)
        for column, accepted in record.get("accepted_values", {}).items():

            def labels(row: Row, column: str = column, accepted: Sequence[str] = accepted) -> tuple[str, str]:
                text = _text(row[column])
                return _label(text), "accepted" if text in accepted else "invalid"

            for counter in (of_rows, of_sessions):
                counter.update({(name, column, _label(text), "accepted"): 0 for text in accepted})
            of_rows.update((name, column, *labels(row)) for row in rows)
            for session in eligible:
                of_sessions.update(
                    {(name, column, *labels(row)) for row in _rows_of(world, session, record, rows)},
                )
    for metric, counter in (("record_value_rows", of_rows), ("record_value_sessions", of_sessions)):
        folded = _fold(counter, 2, world.cap, lambda labels: labels[3] == "accepted")
        numbers |= {(metric, *labels): count for labels, count in folded.items()}
    return numbers


def _result(world: World, check: str | Mapping[str, str], session: Row) -> str:
    expression, grace = (check, None) if isinstance(check, str) else (check["sql"], check.get("grace"))
    if world.says(expression, session):
        return "pass"
    return "pending" if _has_time_left(world, session, grace) else "fail"


def _uniqueness(world: World) -> dict[Series, float]:
    numbers: dict[Series, float] = {}
    for name, record, rows in _tables(world):
        columns = record.get("unique")
        if columns is None:
            continue
        columns = [columns] if isinstance(columns, str) else columns
        types = world.types[record["table"]]
        present = [row for row in rows if all(row[column] is not None for column in columns)]
        keys = Counter(tuple(own_value(types[column])(row[column]) for column in columns) for row in present)
        numbers["duplicate_records", name] = sum(count - 1 for count in keys.values())
    return numbers


def _detachment(world: World) -> dict[Series, float]:
    expression = world.pipeline["sessions"].get("deleted")
    if expression is None:
        return {}
    deleted = [session for session in _all_sessions(world) if world.says(expression, session)]
    return {
        ("detached_records", name): sum(len(_rows_of(world, session, record, rows)) for session in deleted)
        for name, record, rows in _tables(world)
    }


def _stuck(world: World) -> dict[Series, float]:
    sessions = world.pipeline["sessions"]
    stuck = sessions.get("stuck")
    if stuck is None:
        return {}
    last = world.clock - _duration(stuck["after"])

    def is_stuck(row: Row) -> bool:
        since = _moment(row[stuck.get("since", sessions["started_at"])], sessions.get("timezone"))
        if "where" in stuck:
            must_change = world.says(stuck["where"], row)
        else:
            must_change = _text(row[sessions["status"]]) in stuck["statuses"]
        return must_change and since is not None and since <= last

    counts: Counter[tuple[str, ...]] = Counter()
    named = {(_label(status),) for status in stuck.get("statuses", ())}
    counts.update(dict.fromkeys(named, 0))
    for row in _in_window(world):
        label = (_status(world, row),)
        if "where" in stuck or label in named:
            counts[label] += is_stuck(row)
    folded = _fold(counts or {("<none>",): 0}, 0, world.cap, lambda _labels: False)
    return {("stuck_sessions", *labels): count for labels, count in folded.items()}


# --- Time


def _cohort(world: World) -> list[Row]:
    cohort = world.pipeline["cohort"]
    end = world.clock - _duration(cohort["maturity"])
    start = end - _duration(cohort["window"])
    return [row for row in _sessions(world) if (at := _started(world, row)) is not None and start <= at < end]


def _is_good(world: World, record: Mapping[str, Any], row: Row) -> bool:
    if record.get("satisfied_by", "current_version") == "any_version":
        return True
    return _version(record, row)[1] in ("current", "accepted") and _is_valid(world, record, row)


def _arrived(world: World, session: Row, record: Mapping[str, Any], rows: Sequence[Row]) -> datetime | None:
    """When the rows of a session were what the record needs: with the first that is good, or with the last of all."""
    written = [at for row in rows if _is_good(world, record, row) and (at := _written(record, row)) is not None]
    if not written or not _found(world, session, record, rows)[1]:
        return None
    return max(written) if record.get("satisfied_by") == "every_row" or "rows" in record else min(written)


def _timeliness(world: World) -> dict[Series, float]:
    if "cohort" not in world.pipeline:
        return {}
    numbers: dict[Series, float] = {}
    for name, record, rows in _tables(world):
        delays: list[float] = []
        for session in _cohort(world):
            arrived = _arrived(world, session, record, _rows_of(world, session, record, rows))
            completed = _completed(world, session)
            needed = _needs(world, session, record)
            if needed and arrived is not None and completed is not None and arrived >= completed:
                delays.append((arrived - completed) / timedelta(seconds=1))
        numbers["processing_delay_sessions", name] = len(delays)
        for percent in (50, 95, 99) if delays else ():
            enough = [delay for delay in delays if 100 * sum(d <= delay for d in delays) >= percent * len(delays)]
            numbers["processing_delay_seconds", name, str(percent)] = min(enough)
    return numbers


def _conversion(world: World) -> dict[Series, float]:
    if "cohort" not in world.pipeline:
        return {}
    cohort = _cohort(world)
    expression = world.pipeline["sessions"].get("completed")

    def is_completed(session: Row) -> bool:
        if expression is None and "completed_at" in world.pipeline["sessions"]:
            return _completed(world, session) is not None
        return world.says(expression or world.pipeline["sessions"]["eligible"], session)

    def is_covered(session: Row) -> bool:
        return all(
            not _needs(world, session, record)
            or _found(world, session, record, _rows_of(world, session, record, rows))[1]
            for _, record, rows in _records(world)
        )

    completed = [session for session in cohort if is_completed(session)]
    return {
        ("cohort_sessions", "started"): len(cohort),
        ("cohort_sessions", "completed"): len(completed),
        ("cohort_sessions", "covered"): sum(map(is_covered, completed)),
    }


def _freshness(world: World) -> dict[Series, float]:
    def newest(moments: Iterable[datetime | None], latest: datetime = world.clock) -> datetime | None:
        return max((moment for moment in moments if moment is not None and moment <= latest), default=None)

    window = _in_window(world)
    found: dict[Series, datetime | None] = {
        ("newest_session_timestamp_seconds", "started"): newest(_started(world, row) for row in window),
    }
    if "completed_at" in world.pipeline["sessions"]:
        found["newest_session_timestamp_seconds", "completed"] = newest(_completed(world, row) for row in window)
    for name, record, rows in _tables(world):
        found["newest_record_timestamp_seconds", name] = newest(_written(record, row) for row in rows)
        needing = [row for row in _eligible(world) if _needs(world, row, record)]
        grace = _duration(record.get("grace", world.pipeline.get("grace", "0s")))
        if "created_at" in record:
            found["newest_due_timestamp_seconds", name] = newest(
                completed
                for row in needing
                if (completed := _completed(world, row)) and (_due(world, row) or completed) <= world.clock - grace
            )
    return {series: (at - _EPOCH) / timedelta(seconds=1) for series, at in found.items() if at is not None}


# --- The verdict


def verdict(world: World, numbers: Mapping[Series, float]) -> str:
    """What the numbers amount to under the limits of the pipeline; a record that is refused was not measured."""
    limits: Mapping[str, Mapping[str, Any]] = world.pipeline.get("limits", {})
    broken = {severity for judged in _judged(world, numbers) for severity in _broken(limits, *judged)}
    if "critical" in broken:
        return "unhealthy"
    if refused(world):
        return "unknown"
    settled = numbers["eligible_sessions", "gap"] + numbers["eligible_sessions", "complete"]
    says_nothing = {"gap_ratio"} if settled < limits.get("gap_ratio", {}).get("min_sessions", 1) else set()
    oldest = [value for series, value in numbers.items() if series[0] == "gap_oldest_timestamp_seconds"]
    if oldest and min(oldest) > (world.clock - _EPOCH) / timedelta(seconds=1):
        says_nothing.add("gap_age")
    judged = limits.keys() & {"sessions_with_gap", "gap_age", "gap_ratio"} - says_nothing
    if numbers["eligible_sessions", "gap"] and not judged:
        return "unknown"
    if numbers["undated_eligible_sessions",]:
        return "unknown"
    if "warning" in broken:
        return "degraded"
    analysed = [numbers["eligible_sessions", state] for state in ("complete", "pending", "gap")]
    return "healthy" if any(analysed) else "no_data"


def _broken(limits: Mapping[str, Mapping[str, Any]], limit: str, value: float, rests_on: float | None) -> Iterator[str]:
    given = limits.get(limit, {})
    if rests_on is not None and rests_on < given.get("min_sessions", 1):
        return
    for severity in {"warning", "critical"} & given.keys():
        bound = given[severity]
        number = float(bound) if isinstance(bound, int | float) else _duration(bound).total_seconds()
        if value < number if limit in ("conversion_ratio", "completion_ratio") else value > number:
            yield severity


def _judged(world: World, numbers: Mapping[Series, float]) -> Iterator[tuple[str, float, float | None]]:
    """Every value that a limit may judge: the limit, the value, and the sessions that a ratio rests on."""
    now = (world.clock - _EPOCH) / timedelta(seconds=1)
    lost = refused(world)
    if not lost:
        yield from _judged_of_gaps(numbers, now)
    for name in world.pipeline["records"].keys() - lost:
        yield from _judged_of_record(numbers, name, now)
    for name in world.pipeline["sessions"].get("checks", {}):
        yield "failed_checks", numbers["check_sessions", name, "fail"], None
    stuck = [value for series, value in numbers.items() if series[0] == "stuck_sessions"]
    if stuck:
        yield "stuck_sessions", sum(stuck), None
    steps = [numbers.get(("cohort_sessions", step)) for step in ("started", "completed", "covered")]
    for limit, base, reached in zip(("completion_ratio", "conversion_ratio"), steps, steps[1:], strict=False):
        if base and reached is not None:
            yield limit, reached / base, base
    began = (window_start(world) - _EPOCH) / timedelta(seconds=1)
    yield "newest_session_age", now - numbers.get(("newest_session_timestamp_seconds", "started"), began), None


def _judged_of_gaps(numbers: Mapping[Series, float], now: float) -> Iterator[tuple[str, float, float | None]]:
    gaps = numbers["eligible_sessions", "gap"]
    settled = gaps + numbers["eligible_sessions", "complete"]
    yield "sessions_with_gap", gaps, None
    oldest = [value for series, value in numbers.items() if series[0] == "gap_oldest_timestamp_seconds"]
    if oldest:
        yield "gap_age", now - min(oldest), None
    if settled:
        yield "gap_ratio", gaps / settled, settled
    for label in {series[1] for series in numbers if series[0] == "segment_sessions"}:
        of_segment = numbers["segment_sessions", label, "gap"]
        if settled := of_segment + numbers["segment_sessions", label, "complete"]:
            yield "segment_gap_ratio", of_segment / settled, settled


def _judged_of_record(
    numbers: Mapping[Series, float], name: str, now: float
) -> Iterator[tuple[str, float, float | None]]:
    yield "outdated_sessions", numbers["record_sessions", name, "outdated"], None
    for metric in (
        "drifted_records",
        "invalid_records",
        "duplicate_records",
        "orphaned_records",
        "unlinked_records",
        "detached_records",
    ):
        yield metric, numbers.get((metric, name), 0), None
    yield "processing_delay_p95", numbers.get(("processing_delay_seconds", name, "95"), 0), None
    due = numbers.get(("newest_due_timestamp_seconds", name))
    written = numbers.get(("newest_record_timestamp_seconds", name))
    if due is not None and (written is None or written < due):
        yield "newest_record_age", now - (due if written is None else written), None
