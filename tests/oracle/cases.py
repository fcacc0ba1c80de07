"""Random databases and configs for the oracle, weighted towards what is easily got wrong."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from conftest import another_clock
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from model import (
    CASTS,
    INPUTS,
    NUMBERS,
    STRINGS,
    Base,
    Row,
    Table,
    Truth,
    Type,
    World,
    comparison,
    comparisons,
    own_value,
)

T = TypeVar("T")

# --- What a database may hold, the plainest first: there hypothesis ends when it simplifies.

STATUSES: Final = [
    "done",
    "open",
    None,
    "",
    "Done",
    "<null>",
    r"\<empty>",
    "<other>",
    "two\nlines",
    "x" * 257,
    "x" * 258,
]
VERSIONS: Final = ["v2", "v1", "v0", None, ""]
NEARLY: Final = ["v2", "V2", "v2 ", " v2", "v2\n", "v2.0"]
RESERVED: Final = [
    "<null>",
    "<other>",
    "<empty>",
    "<none>",
    r"\<null>",
    r"\\<other>",
    "\\" * 249 + "<other>",
    "\\" * 250 + "<other>",
    None,
    "",
]
LONG: Final = ["x" * 256, "x" * 255, "x" * 256 + "a", "x" * 256 + "b", "ä" * 257]
ODD: Final = ["NaN", "'\"", "two\nlines", "${HOME} $1 {} %s", "null", "v2", None, ""]
KINDS: Final = ["a", "b", None, "", "A"]
INTEGERS: Final = [2, 1, 10, None, -1]
DECIMALS: Final = [Decimal("2.1"), Decimal("2.10"), Decimal(2), None]
VERSION_POOLS: Final[list[list[Any]]] = [
    VERSIONS,
    VERSIONS,
    VERSIONS,
    [*VERSIONS, *NEARLY],
    RESERVED,
    LONG,
    ODD,
    INTEGERS,
    DECIMALS,
]
RECORDS: Final = [
    {"scores": "t1"},
    {"scores": "t1", "a-notes": "t2"},
    {"scores": "t1", "a-notes": "t2", "Z_3": "t3"},
    {"scores": "t1", "a-notes": "t1", "Z_3": "t2"},
]
"""Which record is in which table."""

CAPS: Final = [50, 3, 2, 1]
TIME_TYPES: Final = ["timestamptz", "timestamp", "date"]
BASES: Final[Mapping[str, Base]] = {"timestamptz": "timestamptz", "timestamp": "timestamp", "date": "date"}
LINKS: Final = {
    "none": "",
    "validated": "alter table {table} add foreign key ({of}) references visits ({key});",
    "not valid": "alter table {table} add foreign key ({of}) references visits ({key}) not valid;",
    "not enforced": "alter table {table} add foreign key ({of}) references visits ({key}) not enforced;",
    "elsewhere": "create table {table}_visits as select {key} from visits; "
    "alter table {table}_visits add unique ({key}); "
    "alter table {table} add foreign key ({of}) references {table}_visits ({key});",
}
"""What may point from a record to its sessions; only `validated` is a proof."""

HABITS: Final = {
    "timezone": ["utc", "'Asia/Tokyo'", "'America/Los_Angeles'", "'Asia/Kathmandu'", "'Pacific/Kiritimati'"],
    "datestyle": ["ISO", "'SQL, DMY'", "German"],
    "intervalstyle": ["postgres", "iso_8601"],
    "standard_conforming_strings": ["on", "off"],
    "transform_null_equals": ["off", "on"],
    "default_transaction_isolation": ["'read committed'", "serializable"],
    "search_path": ["public", "public, kinds"],
}
"""Defaults of a database, none of which may change a number."""

MOMENT: Final = datetime(2025, 6, 1, 12, tzinfo=UTC)
CLOCKS: Final = [
    MOMENT,
    datetime(2025, 6, 1, tzinfo=UTC),
    datetime(2025, 3, 30, 1, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 30, 0, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 1, 30, tzinfo=UTC),
]
ZONES: Final = [
    "Etc/GMT-14",
    "Etc/GMT+7",
    "UTC",
    "Asia/Kolkata",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
]

GRACES: Final = ["10m", "0s", "36h", "1s"]
SINCES: Final = ["2025-01-01", "2025-05-31", "2025-05-31T21:00:00", "2025-06-01T09:00:00+09:00", "1970-01-01"]
LASTS: Final = ["90d", "48h", "36h", "1s"]


def less(one: int | None, other: int) -> Truth:
    return None if one is None else one < other


def either(one: Truth, other: Truth) -> Truth:
    return True if one or other else None if one is None or other is None else False


def both(one: Truth, other: Truth) -> Truth:
    return False if one is False or other is False else None if one is None or other is None else True


def invert(one: Truth) -> Truth:
    return None if one is None else not one


def equals(one: object, other: object) -> Truth:
    return None if one is None else one == other


AGREED: Final = [(1, "a"), (2, "b"), (2, "c")]
"""The rows of a table that only sub-queries read: points and a name."""


def listed(points: int | None) -> int:
    """How many of them have these points."""
    return sum(points == row[0] for row in AGREED)


DONE: Final = "status::text collate \"C\" = 'done'"
"""Whatever the type of the column calls equal."""

Expressions = dict[str, Callable[[Row], Truth]]
"""What SQL says of a row: three-valued."""

ELIGIBLE: Final[Expressions] = {
    "flag": lambda row: row["flag"],
    DONE: lambda row: equals(row["status"], "done"),
    "flag and not points < 2": lambda row: both(row["flag"], invert(less(row["points"], 2))),
    "completed_at is not null or points < 1": lambda row: either(
        row["completed_at"] is not None, less(row["points"], 1)
    ),
    "true": lambda _row: True,
    "session.flag": lambda row: row["flag"],
    "visits.flag and exists (select from agreed a where a.points = session.points)": lambda row: both(
        row["flag"], listed(row["points"]) > 0
    ),
}
SESSIONS_WHERE: Final[Expressions] = {
    "points is distinct from 10": lambda row: row["points"] != 10,
    "not (flag and points < 1)": lambda row: invert(both(row["flag"], less(row["points"], 1))),
    "session.points in (select a.points from agreed a) or visits.points < 1": lambda row: either(
        None if row["points"] is None else listed(row["points"]) > 0, less(row["points"], 1)
    ),
}
REQUIRED_WHEN: Final[Expressions] = {
    "points < 2": lambda row: less(row["points"], 2),
    "not flag": lambda row: invert(row["flag"]),
    "status::text collate \"C\" <> 'open'": lambda row: invert(equals(row["status"], "open")),
    "null": lambda _row: None,
    "session.points in (select points from agreed)": lambda row: (
        None if row["points"] is None else listed(row["points"]) > 0
    ),
}
EXISTS: Final[Expressions] = {
    "exists (select from agreed a where a.points = session.points)": lambda row: listed(row["points"]) > 0,
    "not exists (select from agreed a where a.points > session.points)": lambda row: (
        row["points"] is None or row["points"] > 1
    ),
    "(select sum(a.points) from agreed a where a.name <> 'a') = visits.points + 2": lambda row: equals(
        row["points"], 2
    ),
    "points > 1": lambda row: invert(less(row["points"], 2)),
}
VALID: Final[Expressions] = {
    "points < 2": lambda row: less(row["points"], 2),
    "flag or kind::text collate \"C\" = 'b'": lambda row: either(row["flag"], equals(row["kind"], "b")),
    "kind is not null": lambda row: row["kind"] is not None,
    "record.points = (select max(points) from agreed)": lambda row: equals(row["points"], 2),
    'exists (select from agreed where name = record.kind::text collate "C")': lambda row: row["kind"] in ("a", "b"),
}
WHERE: Final[Expressions] = {
    "flag": lambda row: row["flag"],
    "flag is not true": lambda row: row["flag"] is not True,
    "not (flag and points < 2)": lambda row: invert(both(row["flag"], less(row["points"], 2))),
    "record.flag": lambda row: row["flag"],
    "record.points is distinct from (select min(a.points) from agreed a)": lambda row: row["points"] != 1,
}
COMPLETED: Final[Expressions] = {
    DONE: lambda row: equals(row["status"], "done"),
    "flag": lambda row: row["flag"],
    "session.points = (select count(*) - 1 from agreed)": lambda row: equals(row["points"], 2),
}
CHECKS: Final[Expressions] = {
    "points > 1": lambda row: invert(less(row["points"], 2)),
    "completed_at is not null": lambda row: row["completed_at"] is not None,
    f"flag or {DONE}": lambda row: either(row["flag"], equals(row["status"], "done")),
    "session.flag": lambda row: row["flag"],
    "(select count(*) from agreed a where a.points = session.points) >= 2": lambda row: listed(row["points"]) > 1,
    # Not the session's: nearer names are found first.
    "(select count(*) from agreed a where a.points = points) >= 2": lambda _row: True,
    "exists (select from (select points, row_number() over (partition by points order by name) as place from agreed) a "
    "where a.points = session.points and a.place = 2)": lambda row: listed(row["points"]) > 1,
}
TRUTHS: Final = ELIGIBLE | SESSIONS_WHERE | REQUIRED_WHEN | EXISTS | VALID | WHERE | COMPLETED | CHECKS
COHORTS: Final = [
    {"window": "24h", "maturity": "1h"},
    {"window": "90d", "maturity": "0s"},
    {"window": "3h", "maturity": "3h"},
    {"window": "1s", "maturity": "4h"},
]
COUNTS: Final = [0, 1, 2, 100]
AGES: Final = ["0s", "1s", "10m", "36h", "3650d"]
SHARES: Final = [0, 0.5, 0.34, 1]
LIMITS: Final[dict[str, tuple[Sequence[Any], str | None]]] = {
    "sessions_with_gap": (COUNTS, None),
    "gap_age": (AGES, None),
    "gap_ratio": (SHARES, None),
    "segment_gap_ratio": (SHARES, "segment"),
    "outdated_sessions": (COUNTS, None),
    "drifted_records": (COUNTS, "current_since"),
    "invalid_records": (COUNTS, None),
    "duplicate_records": (COUNTS, "unique"),
    "orphaned_records": (COUNTS, None),
    "unlinked_records": (COUNTS, None),
    "detached_records": (COUNTS, "deleted"),
    "stuck_sessions": (COUNTS, "stuck"),
    "failed_checks": (COUNTS, "checks"),
    "processing_delay_p95": (AGES, "cohort"),
    "conversion_ratio": (SHARES, "cohort"),
    "completion_ratio": (SHARES, "cohort"),
    "newest_session_age": (AGES, None),
    "newest_record_age": (AGES, None),
}
"""Every limit: what its threshold may be, and what a pipeline must have for it."""
ACCEPTED_VALUES: Final[list[dict[str, list[str]]]] = [
    {},
    {"kind": ["a"]},
    {"kind": ["b", ""], "points": ["1", "2"]},
    {"flag": ["true"]},
]

NUMBERS_OF_ROWS: Final = [
    # Often, for few sessions have several good rows.
    *[1, {"at_most": 1}] * 3,
    2,
    "points",
    {"at_least": 2},
    {"at_least": 1, "at_most": 2},
    {"exactly": "points"},
    {"at_least": "points"},
    {"at_most": "points"},
    {"at_least": 2, "at_most": "points"},
]
"""How many rows a session needs; the column is one of the sessions."""

FLAGS: Final = st.sampled_from([True, True, True, False, None])
POINTS: Final = st.sampled_from([1, 2, 0, None, 10])

Values = tuple[Any, ...]
Columns = Mapping[str, st.SearchStrategy[Any]]
Rows = st.SearchStrategy[list[Row]]


# --- Types, and values of them

TEXT: Final = Type("text", "text")
BOOLEAN: Final = Type("boolean", "boolean")
INTEGER: Final = Type("integer", "integer")
CITEXT: Final = Type("kinds.citext", "citext")
_BLIND: Final = "create collation {} (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
BLIND: Final = Type("text collate blind", "text", "blind", is_deterministic=False, needs=(_BLIND.format("blind"),))
DIM: Final = Type("text collate dim", "text", "dim", is_deterministic=False, needs=(_BLIND.format("dim"),))
"""Of collations that tell no capitals; they need a server with ICU."""

_LABEL: Final = "create domain label as text;"
KEY_TYPES: Final = [
    Type("bigint", "bigint"),
    Type("uuid", "uuid"),
    TEXT,
    INTEGER,
    Type("smallint", "smallint"),
    Type("numeric", "numeric"),
    Type("varchar(40)", "varchar"),
    Type("char(40)", "char"),
    Type("name", "name"),
    Type('text collate "C"', "text", "C"),
    Type('varchar(40) collate "POSIX"', "varchar", "POSIX"),
    Type('char(60) collate "C"', "char", "C"),
    CITEXT,
    Type("date", "date"),
    Type("mood", "mood"),
    Type("label", "text", needs=(_LABEL,)),
    Type("code", "text", needs=(_LABEL, "create domain code as label;")),
    Type("folded", "citext", needs=("create domain folded as kinds.citext;",)),
    Type("posix", "text", "POSIX", needs=('create domain posix as text collate "POSIX";',)),
    Type("big", "bigint", needs=("create domain big as bigint;",)),
]
TIMESTAMPTZ: Final = Type("timestamptz", "timestamptz")
VALUE_TYPES: Final = [TEXT, TEXT, Type("varchar(300)", "varchar"), Type("char(300)", "char"), CITEXT, BLIND]
"""What a status, a version or a value may be."""

Lacking = frozenset[Literal["citext", "icu", "not enforced"]]
"""What a server does not have."""


def there_are(kinds: Sequence[Type], lacks: Lacking) -> list[Type]:
    """Those of the types that the server has."""
    return [
        kind
        for kind in kinds
        if not ("citext" in lacks and kind.base == "citext") and not ("icu" in lacks and not kind.is_deterministic)
    ]


UUIDS: Final = [UUID(int=n) for n in (1, 2, 0, 10, 0xABCD, 2**128 - 1)]
MOODS: Final = ("a", "b", "A")
_WHOLE: Final = [1, 2, 3, 0, -1, 10]
_LARGE: Final = [2**53, 2**53 + 1, 2**63 - 1]
_STRINGS: Final = ["a", "b", "A", "a ", "", "ä", "<null>", "1", "01", "10", "1.0", "2025-01-01"]
_DATES: Final = [date(2025, 1, 1), date(2024, 2, 29), date(1999, 12, 31)]


def held(kind: Type, value: Any) -> Any:
    """A value as a column of this type holds it."""
    return value.rstrip(" ") if kind.base == "char" and value is not None else value


def pool_of(kind: Type) -> list[Any]:
    """What a key of this type may be, without NULL."""
    match kind.base:
        case "smallint" | "integer":
            return _WHOLE
        case "bigint":
            return [*_WHOLE, *_LARGE]
        case "numeric":
            return [*map(Decimal, ["1", "2.0", "3.5", "0", "10.00"]), Decimal(2**53 + 1)]
        case "uuid":
            return UUIDS
        case "date":
            return _DATES
        case "mood":
            return [*MOODS]
        case "timestamptz":
            return [datetime(2025, 1, 1, tzinfo=UTC), MOMENT]
    return list(dict.fromkeys(held(kind, text) for text in [*_STRINGS, str(UUIDS[0]), str(UUIDS[4])]))


def parsed(base: Base, text: str) -> Any:
    """A text as a value of a type; raises ValueError where it is none."""
    number = base in NUMBERS
    plain = text.strip(" ").lstrip("+-").replace(".", "", base == "numeric") if number else "1"
    if not (plain.isascii() and plain.isdigit()) or (base == "mood" and text not in MOODS):
        raise ValueError(text)
    value = INPUTS["integer" if base == "smallint" else base](text)
    if isinstance(value, int) and abs(value) >= 2 ** {"smallint": 15, "integer": 31}.get(base, 63):
        raise ValueError(text)
    return value


class Link(NamedTuple):
    """How a record has one column of the key: its type, and the cast that leads back."""

    type: Type
    cast: str | None = None


def spellings(link: Link, keys: Sequence[Any]) -> list[Any]:
    """What may be in the place of these keys: the same, nearly the same, and what never is; without NULL."""
    texts = [str(key) for key in keys]
    near = [[text, f"{text} ", f"0{text}", f" +0{text} ", f"{text}.0"] for text in texts]
    # What the capitals of other letters are depends on the locale of the database.
    near += [[text.upper(), text.lower()] for text in texts if text.isascii()]
    near += [[key.hex, f"{{{key}}}"] for key in keys if isinstance(key, UUID)]
    found = [key for key in pool_of(link.type) if link.type.base == "timestamptz" or _is_held(link, str(key))]
    found += [
        held(link.type, text) if is_string(link.type) else parsed(link.type.base, text)
        for text in itertools.chain(*near)
        if _is_held(link, text)
    ]
    # Numbers are equal whatever their scale.
    return [*{repr(value): value for value in found}.values()]


def is_string(kind: Type) -> bool:
    return kind.base in (*STRINGS, "citext")


def _is_held(link: Link, text: str) -> bool:
    """Whether a column holds such a text, and its cast takes it."""
    if link.type.base == "timestamptz":
        return False
    try:
        if not is_string(link.type):
            parsed(link.type.base, text)
        elif link.cast is not None and CASTS[link.cast] not in STRINGS:
            parsed(CASTS[link.cast], held(link.type, text))
    except ValueError:
        return False
    return len(text) <= 40


@cache
def links_to(session: Type, *, lacks: Lacking) -> dict[str, list[Link]]:
    """Every way of having this key in a record, by how it is compared; `refused` are those that must be."""
    found: dict[str, list[Link]] = {}
    kinds = there_are([*KEY_TYPES, BLIND, DIM, TIMESTAMPTZ], lacks)
    for link in itertools.starmap(Link, itertools.product(kinds, [None, *CASTS])):
        if not _is_open(link):
            how = comparison(session, link.type, link.cast)
            found.setdefault(how.rule if how else "refused", []).append(link)
    return found


def _is_open(link: Link) -> bool:
    """Whether nothing says what a cast means."""
    if link.cast is None:
        return False
    theirs, wanted = link.type.base, CASTS[link.cast]
    if wanted in STRINGS:
        return theirs == "timestamptz"
    # Nothing is lost where a number is too large, or blanks are too many, for then the server says so.
    return (
        theirs == "citext" or (theirs, wanted) == ("bigint", "integer") or (theirs == "char" and wanted not in NUMBERS)
    )


# --- A database and a config


@dataclass(frozen=True)
class Case:
    """A world, and how to make a database of it; shown as a script and a config that one can try by hand."""

    world: World
    defaults: Mapping[str, str]
    constraints: tuple[str, ...]
    is_computed: bool = False
    """Whether keys name computed columns that repeat columns of the tables."""
    is_apart: bool = False
    """Whether the records are read as those of another database, over a connection of their own."""

    def config(self) -> str:
        other = ', other: {url: "${DATABASE_URL}"}' if self.is_apart else ""
        lines = [
            f'databases: {{main: {{url: "${{DATABASE_URL}}"}}{other}}}',
            f"collection: {{max_label_values: {self.world.cap}}}",
            "pipelines:",
            "  random:",
        ]
        pipeline = computed(self.world.pipeline) if self.is_computed else self.world.pipeline
        for key, value in (apart(pipeline) if self.is_apart else pipeline).items():
            if key == "records":
                lines += ["    records:", *(f"      {name}: {quoted(record)}" for name, record in value.items())]
            else:
                lines.append(f"    {key}: {quoted(value)}")
        return "\n".join(lines) + "\n"

    def script(self) -> str:
        lines = ["create schema if not exists kinds;", "drop schema if exists public cascade;", "create schema public;"]
        if any(kind.base == "citext" for of in self.world.types.values() for kind in of.values()):
            lines.append("create extension if not exists citext schema kinds;")
        lines += [f"alter database oracle set {name} = {value};" for name, value in self.defaults.items()]
        lines.append(another_clock(f"select timestamptz {literal(self.world.clock)}"))
        lines.append(f"create type mood as enum ({', '.join(map(literal, MOODS))});")
        lines += dict.fromkeys(need for of in self.world.types.values() for kind in of.values() for need in kind.needs)
        for table, columns in self.world.types.items():
            lines.append(f"create table {table} ({', '.join(f'{name} {kind.sql}' for name, kind in columns.items())});")
            lines += inserted(table, [[row[name] for name in columns] for row in self.world.tables[table].rows])
        lines += ["create table agreed (points int, name text);", *inserted("agreed", AGREED)]
        return "\n".join([*lines, *filter(None, self.constraints)])

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: bool) -> None:
        printer.text(f"\n{self.script()}\n\n{self.config()}")


def apart(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline with every record table in another database."""
    records = {
        name: record if "exists" in record else {**record, "database": "other"}
        for name, record in pipeline["records"].items()
    }
    return {"database": "main", **pipeline, "records": records}


def computed(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline with computed columns in place of those of the tables."""
    sessions = with_copies(pipeline["sessions"], ("key", "status", "started_at", "completed_at", "due_at"))
    records = {
        name: record if "exists" in record else with_copies(record, ("session_key", "created_at", "version", "unique"))
        for name, record in pipeline["records"].items()
    }
    return {**pipeline, "sessions": sessions, "records": records}


def with_copies(section: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The section with a computed column for each column that one of the keys names."""
    copies: dict[str, str] = {}

    def copy(value: Any) -> Any:
        match value:
            case str():
                copies[f"copy of {value}"] = f'"{value}"'
                return f"copy of {value}"
            case list():
                return [copy(one) for one in value]
            case {"column": column}:
                return {**value, "column": copy(column)}
        return value

    found = {key: copy(value) if key in keys else value for key, value in section.items()}
    return {**found, "computed": copies}


def inserted(table: str, found: Sequence[Sequence[object]]) -> Iterator[str]:
    if found:
        values = ",\n  ".join(f"({', '.join(map(literal, row))})" for row in found)
        yield f"insert into {table} values\n  {values};"


def quoted(value: object) -> str:
    """JSON, which is YAML too, with every `$` doubled."""
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")


def literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int):
        return str(value).lower()
    text = value.isoformat(" ") if isinstance(value, datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"


def stored(moment: datetime, kind: str, zone: str | None = None) -> datetime | date:
    """The value for a moment in a column of this type; without a zone of its own it is of `zone`."""
    local = moment.astimezone(ZoneInfo(zone)) if zone else moment
    match kind:
        case "date":
            return local.date()
        case "timestamp":
            return local.replace(tzinfo=None)
    return moment


# --- Strategies


def one(values: Sequence[T]) -> st.SearchStrategy[T]:
    return st.sampled_from(values)


def perhaps(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with this key, or without."""
    return st.one_of(st.just({}), values.map(lambda value: {key: value}))


def sometimes(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping without this key, or, one time in four, with it."""
    return one([False, False, False, True]).flatmap(lambda has: values.map(lambda value: {key: value} if has else {}))


def times(kind: str, usual: datetime, anchors: Sequence[datetime], zone: str | None = None) -> st.SearchStrategy[Any]:
    """Usual times; and those at, just before and just after the moments at which an answer changes."""
    instant = timedelta(microseconds=1)
    moments = [anchor + step for anchor in anchors for step in (timedelta(0), -instant, instant)]
    # Of before there were zones, not all that know them say the same.
    oldest = datetime(1, 1, 3, tzinfo=UTC) if zone is None or "/GMT" in zone else datetime(1980, 1, 3, tzinfo=UTC)
    moments += [usual - timedelta(minutes=5), oldest, datetime(2999, 1, 1, tzinfo=UTC)]
    strange = [None, "infinity", "-infinity"]
    return st.just(stored(usual, kind, zone)) | one(
        [*dict.fromkeys(stored(moment, kind, zone) for moment in moments), *strange * 3]
    )


def one_or_list(values: list[Any]) -> st.SearchStrategy[Any]:
    """A list of one value may be written without the list."""
    return one([values[0], values]) if len(values) == 1 else st.just(values)


def span(text: str) -> timedelta:
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[text[-1]]: int(text[:-1])})


def utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@st.composite
def versions(draw: st.DrawFn, pool: list[Any]) -> dict[str, Any]:
    known = [str(value) for value in pool if value not in (None, "")]
    current, *accepted = draw(st.lists(one(known), min_size=1, max_size=3, unique=True))
    listed = {"accepted": accepted} if accepted else draw(perhaps("accepted", st.just([])))
    return {"column": "version", "current": current, **listed, **draw(perhaps("current_since", one(SINCES)))}


@dataclass(frozen=True)
class Shape:
    """The columns of a table of records: those that have the key, and the pool that its versions are from."""

    links: Mapping[str, Link]
    version: Type
    kind: Type
    pool: list[Any]

    @property
    def parts(self) -> list[Any]:
        """What `session_key` says."""
        return [name if link.cast is None else {"column": name, "cast": link.cast} for name, link in self.links.items()]

    @property
    def uniques(self) -> list[Any]:
        """What `unique` may say; nothing says whether versions or values that their type calls equal are."""
        of = [*self.links]
        found: list[Any] = [of]
        if own_value(self.version) is not str.lower:
            found.append([*of, "version"])
        if own_value(self.kind) is not str.lower:
            found.append("kind")
        return found if len(found) < 3 else [*found, ["version", "kind", *of]]


@st.composite
def records(draw: st.DrawFn, table: str, shape: Shape) -> dict[str, Any]:
    values = draw(one(ACCEPTED_VALUES))
    return {
        "table": table,
        "session_key": draw(one_or_list(shape.parts)),
        "created_at": "created_at",
        **draw(perhaps("timezone", one(ZONES))),
        **draw(perhaps("unique", one(shape.uniques))),
        **draw(perhaps("version", versions(shape.pool))),
        **({"accepted_values": values} if values else {}),
        **draw(perhaps("valid", one(list(VALID)))),
        **draw(perhaps("where", one(list(WHERE)))),
        **draw(perhaps("required_when", one(list(REQUIRED_WHEN)))),
        **draw(perhaps("satisfied_by", one(["current_version", "any_version", "every_row"]))),
        **draw(perhaps("rows", one(NUMBERS_OF_ROWS))),
        **draw(perhaps("grace", one(GRACES))),
    }


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    """A record without a table."""
    return {
        "exists": draw(one(list(EXISTS))),
        **draw(perhaps("required_when", one(list(REQUIRED_WHEN)))),
        **draw(perhaps("grace", one(GRACES))),
    }


def checks() -> st.SearchStrategy[Any]:
    """SQL alone, or with a grace of its own."""
    sql = one(list(CHECKS))
    return sql | st.fixed_dictionaries({"sql": sql, "grace": one(GRACES)})


@st.composite
def stuck(draw: st.DrawFn, *, has_status: bool) -> dict[str, Any]:
    """A status that must not last, by its texts or by SQL."""
    texts = [status for status in STATUSES if status]
    by_texts = st.lists(one(["open", *texts, "open"]), min_size=1, max_size=3, unique=True).map(
        lambda found: {"statuses": found}
    )
    by_sql = one(list(COMPLETED)).map(lambda sql: {"where": sql})
    return {
        **draw(by_texts | by_sql if has_status else by_sql),
        "after": draw(one([grace for grace in GRACES if grace != "0s"])),
        **draw(perhaps("since", one(["completed_at", "started_at"]))),
    }


def segments() -> st.SearchStrategy[dict[str, Any]]:
    """What tells segments apart, and how many are shown."""
    return st.fixed_dictionaries(
        {"columns": one(["status", "flag", "points", ["flag"], ["status", "points"], ["points", "flag", "status"]])},
        optional={"top": one([1, 2, 3, 20]), "least": one([1, 2, 5])},
    )


@st.composite
def pipelines(
    draw: st.DrawFn, keys: Sequence[str], tables: Mapping[str, str], shapes: Mapping[str, Shape]
) -> dict[str, Any]:
    windows = [*({"since": since} for since in SINCES), *({"last": last} for last in LASTS)]
    status = {"status": "status"} if draw(one([True] * 7 + [False])) else {}
    return {
        "window": draw(one(windows)),
        **draw(perhaps("grace", one(GRACES))),
        "sessions": {
            "table": "visits",
            "key": draw(one_or_list(list(keys))),
            **status,
            "started_at": "started_at",
            **draw(one([{"completed_at": "completed_at"}] * 3 + [{}])),
            **draw(sometimes("due_at", st.just("due_at"))),
            **draw(perhaps("timezone", one(ZONES))),
            **draw(sometimes("where", one(list(SESSIONS_WHERE)))),
            **draw(perhaps("completed", one(list(COMPLETED)))),
            **draw(perhaps("deleted", one(list(COMPLETED)))),
            **draw(perhaps("stuck", stuck(has_status="status" in status))),
            **draw(perhaps("segment", segments())),
            "eligible": draw(one(list(ELIGIBLE))),
            **draw(perhaps("checks", st.dictionaries(one(["a", "b-2"]), checks(), min_size=1))),
        },
        "records": {
            **{name: draw(records(table, shapes[table])) for name, table in tables.items()},
            **draw(sometimes("paid", conditions())),
        },
        **draw(perhaps("cohort", one(COHORTS))),
    }


@st.composite
def limits(draw: st.DrawFn, pipeline: Mapping[str, Any], *, every: bool = False) -> dict[str, Any]:
    """Some (or all) limits that a pipeline may have, their thresholds in order."""
    text = json.dumps(pipeline)
    possible = [name for name, (_, needed) in LIMITS.items() if needed is None or f'"{needed}"' in text]
    found: dict[str, Any] = {}
    for name in possible if every else draw(st.lists(one(possible), max_size=5, unique=True)):
        values = LIMITS[name][0]
        places = sorted(draw(st.lists(st.integers(0, len(values) - 1), min_size=2, max_size=2)))
        ordered = [values[place] for place in places] if values is not SHARES else sorted(values[p] for p in places)
        if name in ("conversion_ratio", "completion_ratio"):
            ordered.reverse()
        both = dict(zip(("warning", "critical"), ordered, strict=True))
        kept = draw(one([both, {"critical": both["critical"]}, {"warning": both["warning"]}]))
        found[name] = kept | (draw(perhaps("min_sessions", one([1, 2, 5]))) if values is SHARES else {})
    return {"limits": found} if found else {}


def known_of(record: Mapping[str, Any], table: str, pool: Sequence[Any]) -> list[Any]:
    """The values of a pool that the record calls current or accepted, if it is about this table."""
    version = record.get("version")
    if version is None or record.get("table") != table:
        return []
    return [value for value in pool if str(value) in (version["current"], *version.get("accepted", []))]


def window_start(pipeline: Mapping[str, Any], clock: datetime) -> datetime:
    window = pipeline["window"]
    return utc(window["since"]) if "since" in window else clock - span(window["last"])


def anchors_of(pipeline: Mapping[str, Any], clock: datetime) -> list[datetime]:
    """The moments at which an answer changes."""
    anchors = [clock, window_start(pipeline, clock)]
    graces = [check["grace"] for check in pipeline["sessions"].get("checks", {}).values() if isinstance(check, dict)]
    graces += [record.get("grace", pipeline.get("grace", "0s")) for record in pipeline["records"].values()]
    anchors += [end for grace in map(span, graces) for end in (clock - grace, clock + grace)]
    for record in pipeline["records"].values():
        if "current_since" in record.get("version", {}):
            anchors.append(utc(record["version"]["current_since"]))
    if cohort := pipeline.get("cohort"):
        end = clock - span(cohort["maturity"])
        anchors += [end, end - span(cohort["window"])]
    return list(dict.fromkeys(anchors))


def rows(
    columns: Sequence[str],
    keys: st.SearchStrategy[Values],
    rest: Columns,
    by: Callable[[Values], object] | None = None,
    at_most: int = 10,
) -> Rows:
    """No row, few, or many: `columns` have a key, the others whatever they draw.

    Of those keys that are equal `by` it only one has a row; `at_most` is how many there are.
    """
    pairs = st.tuples(keys, st.fixed_dictionaries(dict(rest)))
    unique_by = None if by is None else lambda pair: by(pair[0])
    fewest = one([min(number, at_most) for number in (1, 4, 7, 0)])
    found = fewest.flatmap(lambda number: st.lists(pairs, min_size=number, max_size=10, unique_by=unique_by))
    return found.map(lambda found: [dict(zip(columns, key, strict=True)) | values for key, values in found])


def own_key(kinds: Sequence[Type]) -> Callable[[Values], object]:
    """What tells keys of these types apart."""
    return lambda key: tuple(
        None if value is None else own_value(kind)(value) for kind, value in zip(kinds, key, strict=True)
    )


@st.composite
def shapes_of(draw: st.DrawFn, keys: Mapping[str, Type], *, lacks: Lacking, refusals: bool) -> Shape:
    """A table of records whose key is compared with this one, or, one time in a few, must be refused."""
    links = {}
    is_same = draw(st.booleans())
    for name, kind in keys.items():
        ways = links_to(kind, lacks=lacks)
        rules = [rule for rule in ways if rule != "refused"] + ["refused"] * (refusals and draw(one([0, 0, 0, 1])))
        links[f"of_{name}"] = Link(kind) if is_same else draw(one(ways[draw(one(rules))]))
    pool = draw(one(VERSION_POOLS))
    values = one(there_are(VALUE_TYPES, lacks))
    numbers = {id(INTEGERS): INTEGER, id(DECIMALS): Type("numeric", "numeric")}
    return Shape(links, numbers.get(id(pool)) or draw(values), draw(values), pool)


@st.composite
def cases(draw: st.DrawFn, *, lacks: Lacking = frozenset(), refusals: bool = False) -> Case:
    """A database and a config, of what the server has; one time in a few with keys that must be refused, if at all."""
    clock = draw(one(CLOCKS))
    kinds = there_are([*KEY_TYPES, BLIND, BLIND], lacks)
    keys = {name: draw(one(kinds)) for name in draw(one([["id"], ["id"], ["part", "id"]]))}
    tables_of = draw(one(RECORDS))
    shapes = {
        table: draw(shapes_of(keys, lacks=lacks, refusals=refusals)) for table in dict.fromkeys(tables_of.values())
    }
    pipeline = draw(pipelines([*keys], tables_of, shapes))
    pipeline |= draw(limits(pipeline))
    anchors = anchors_of(pipeline, clock)
    usual = max(window_start(pipeline, clock), clock - timedelta(hours=4))

    index = draw(one(["primary key", "unique", ""]))
    constraints = [f"alter table visits add {index} ({', '.join(keys)});"] if index else []
    times_of = {name: draw(one(TIME_TYPES)) for name in ("started_at", "completed_at", "due_at")}
    status = draw(one(there_are(VALUE_TYPES, lacks)))
    types = {"visits": {**keys, "status": status, "flag": BOOLEAN, "points": INTEGER, **time_types(times_of)}}
    null = [] if index == "primary key" else [None]
    rest = {
        "status": (st.just("done") | one(STATUSES)).map(partial(held, status)),
        "flag": FLAGS,
        "points": POINTS,
        **{name: times(kind, usual, anchors, pipeline["sessions"].get("timezone")) for name, kind in times_of.items()},
    }
    pools = [[*pool_of(kind), *null * 3] for kind in keys.values()]
    equal_by = own_key([*keys.values()])
    at_most = len({equal_by(key) for key in itertools.product(*pools)})
    sessions = draw(rows([*keys], st.tuples(*map(one, pools)), rest, equal_by, min(at_most, 10)))
    tables = {"visits": Table(sessions)}

    for table, shape in shapes.items():
        of_table = [record for record in pipeline["records"].values() if record.get("table") == table]
        known = [value for record in of_table for value in known_of(record, table, shape.pool)]
        is_same = [*shape.links.values()] == [Link(kind) for kind in keys.values()]
        link = draw(one([name for name in LINKS if name not in lacks])) if index and is_same else "none"
        constraints.append(LINKS[link].format(table=table, of=", ".join(shape.links), key=", ".join(keys)))
        kind = draw(one(TIME_TYPES))
        zone = next((record["timezone"] for record in of_table if "timezone" in record), None)
        types[table] = {
            **{name: link.type for name, link in shape.links.items()},
            "version": shape.version,
            "kind": shape.kind,
            "flag": BOOLEAN,
            "points": INTEGER,
            **time_types({"created_at": kind}),
        }
        rest = {
            "version": (one(shape.pool) | one(known or shape.pool)).map(partial(held, shape.version)),
            "kind": (st.just("a") | one(KINDS)).map(partial(held, shape.kind)),
            "flag": FLAGS,
            "points": POINTS,
            "created_at": times(kind, usual, anchors, zone),
        }
        pointing = [key for session in sessions for key in pointing_at(session, keys, shape)]
        places = zip(shape.links.values(), keys.values(), strict=True)
        astray = st.tuples(*(one([None, *spellings(of, pool_of(kind))]) for of, kind in places))
        if link in ("validated", "elsewhere"):
            astray = astray.filter(lambda key: None in key)
        found = st.one_of(*[one(pointing)] * 3, astray) if pointing else astray
        tables[table] = Table(draw(rows([*shape.links], found, rest)), link == "validated")

    defaults = {name: draw(one(texts)) for name, texts in HABITS.items()}
    world = World(clock, pipeline, tables, types, TRUTHS, draw(one(CAPS)))
    return Case(world, defaults, tuple(constraints))


def time_types(kinds: Mapping[str, str]) -> dict[str, Type]:
    return {name: Type(kind, BASES[kind]) for name, kind in kinds.items()}


def pointing_at(session: Row, keys: Mapping[str, Type], shape: Shape) -> list[Values]:
    """Some of what may be in a record in place of the key of this session."""
    ways = []
    for (name, kind), link in zip(keys.items(), shape.links.values(), strict=True):
        how, key = comparison(kind, link.type, link.cast), session[name]
        if how is None or key is None:
            return []
        ways.append([v for v in spellings(link, [key]) if how.of_record(v) == how.of_session(key)][:5])
    return list(itertools.product(*ways))


@st.composite
def later(draw: st.DrawFn, case: Case) -> Case:
    """The same at another time: of every table some rows are gone, some are like others now, and some were added."""
    world, tables = case.world, {}
    sessions = world.tables["visits"].rows
    for name, table in world.tables.items():
        columns = world.types[name]
        found: list[Row] = []
        for row in table.rows:
            again = completed_again(world, columns, row) if name == "visits" else row
            reopened = {**row, "status": None, "completed_at": None} if name == "visits" else row
            other = draw(one([row, row, again, again, again, reopened, None, None, draw(one(table.rows))]))
            if other is not None:
                found.append({**other, **{key: row[key] for key in ("id", "part") if key in columns}})
        if name != "visits" and table.rows and sessions:
            found += draw(st.lists(st.builds(mended, st.just(case), st.just(name), one(table.rows), one(sessions))))
        tables[name] = Table(found)
    moved = [timedelta(minutes=-10), timedelta(0), timedelta(seconds=1), timedelta(days=1), timedelta(seconds=-1)]
    # Where sessions are gone, no foreign key would hold.
    constraints = tuple(text for text in case.constraints if "foreign key" not in text)
    return replace(
        case, world=replace(world, clock=world.clock + draw(one(moved)), tables=tables), constraints=constraints
    )


def completed_again(world: World, columns: Mapping[str, Type], session: Row) -> Row:
    """A session that has just been completed once more, and has its grace before it."""
    zone = world.pipeline["sessions"].get("timezone")
    return {**session, "completed_at": stored(world.clock, columns["completed_at"].sql, zone)}


def mended(case: Case, table: str, like: Row, session: Row) -> Row:
    """A row like another that points at a session, if it can, of a version that its record calls current."""
    types = case.world.types
    records = [record for record in case.world.pipeline["records"].values() if record.get("table") == table]
    links = {}
    for name, how in zip(
        (name for name in ("part", "id") if name in types["visits"]), comparisons(case.world, records[0]), strict=True
    ):
        cast = next((part["cast"] for part in parts_of(records[0]) if part["column"] == f"of_{name}"), None)
        found = [] if session[name] is None else spellings(Link(types[table][f"of_{name}"], cast), [session[name]])
        equal = (value for value in found if how and how.of_record(value) == how.of_session(session[name]))
        links[f"of_{name}"] = next(equal, like[f"of_{name}"])
    current = next((record["version"]["current"] for record in records if "version" in record), None)
    kind = types[table]["version"]
    known = (
        {} if current is None else {"version": held(kind, current) if is_string(kind) else INPUTS[kind.base](current)}
    )
    return {**like, **links, **known, "flag": True}


def parts_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a key that have a cast."""
    parts = record["session_key"]
    return [part for part in (parts if isinstance(parts, list) else [parts]) if isinstance(part, dict)]


@st.composite
def changes(draw: st.DrawFn, *, lacks: Lacking = frozenset()) -> tuple[Case, Case]:
    """A database, and what became of it."""
    case = draw(cases(lacks=lacks))
    return case, draw(later(case))
