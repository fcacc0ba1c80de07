"""Random databases and configs for the oracle, weighted towards what is easily got wrong."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from conftest import another_clock
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from model import ZONES, Row, Table, Truth, World

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
VERSION_POOLS: Final[list[list[Any]]] = [VERSIONS, [*VERSIONS, *NEARLY], RESERVED, LONG, ODD, INTEGERS]
RECORDS: Final = [
    {"scores": "t1"},
    {"scores": "t1", "a-notes": "t2"},
    {"scores": "t1", "a-notes": "t2", "Z_3": "t3"},
    {"scores": "t1", "a-notes": "t1", "Z_3": "t2"},
]
"""Which record is in which table."""

CAPS: Final = [50, 3, 2, 1]
TIME_TYPES: Final = ["timestamptz", "timestamp", "date"]
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
}
"""Defaults of a database, none of which may change a number."""

MOMENT: Final = datetime(2025, 6, 1, 12, tzinfo=UTC)
CLOCKS: Final = [
    MOMENT,
    datetime(2025, 6, 1, tzinfo=UTC),
    datetime(2025, 3, 30, 1, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 30, 0, 1, tzinfo=UTC),
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


Expressions = dict[str, Callable[[Row], Truth]]
"""What SQL says of a row: three-valued."""

ELIGIBLE: Final[Expressions] = {
    "flag": lambda row: row["flag"],
    "status = 'done'": lambda row: equals(row["status"], "done"),
    "flag and not points < 2": lambda row: both(row["flag"], invert(less(row["points"], 2))),
    "completed_at is not null or points < 1": lambda row: either(
        row["completed_at"] is not None, less(row["points"], 1)
    ),
    "true": lambda _row: True,
}
REQUIRED_WHEN: Final[Expressions] = {
    "points < 2": lambda row: less(row["points"], 2),
    "not flag": lambda row: invert(row["flag"]),
    "status <> 'open'": lambda row: invert(equals(row["status"], "open")),
    "null": lambda _row: None,
}
VALID: Final[Expressions] = {
    "points < 2": lambda row: less(row["points"], 2),
    "flag or kind = 'b'": lambda row: either(row["flag"], equals(row["kind"], "b")),
    "kind is not null": lambda row: row["kind"] is not None,
}
WHERE: Final[Expressions] = {
    "flag": lambda row: row["flag"],
    "flag is not true": lambda row: row["flag"] is not True,
    "not (flag and points < 2)": lambda row: invert(both(row["flag"], less(row["points"], 2))),
}
COMPLETED: Final[Expressions] = {
    "status = 'done'": lambda row: equals(row["status"], "done"),
    "flag": lambda row: row["flag"],
}
CHECKS: Final[Expressions] = {
    "points > 1": lambda row: invert(less(row["points"], 2)),
    "completed_at is not null": lambda row: row["completed_at"] is not None,
    "flag or status = 'done'": lambda row: either(row["flag"], equals(row["status"], "done")),
}
TRUTHS: Final = ELIGIBLE | REQUIRED_WHEN | VALID | WHERE | COMPLETED | CHECKS
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
    "gap_sessions": (COUNTS, None),
    "gap_age": (AGES, None),
    "gap_ratio": (SHARES, None),
    "outdated_sessions": (COUNTS, None),
    "drifted_records": (COUNTS, "current_since"),
    "invalid_records": (COUNTS, None),
    "duplicate_records": (COUNTS, "unique"),
    "orphaned_records": (COUNTS, None),
    "unlinked_records": (COUNTS, None),
    "detached_records": (COUNTS, "deleted"),
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

FLAGS: Final = st.sampled_from([True, True, True, False, None])
POINTS: Final = st.sampled_from([1, 2, 0, None, 10])

Values = tuple[Any, ...]
Columns = Mapping[str, st.SearchStrategy[Any]]
Rows = st.SearchStrategy[list[Row]]


@dataclass(frozen=True)
class KeyKind:
    """How sessions are told apart: the columns of the key with their types, and the possible keys.

    A record may have the key in columns of other `types`; then `casts` lead back, None where there is none to
    do, and a key may have several `spellings` there.
    """

    columns: Mapping[str, str]
    types: tuple[str, ...]
    casts: tuple[str | None, ...]
    spellings: Mapping[Values, tuple[Values, ...]]

    @property
    def of(self) -> tuple[str, ...]:
        """The columns of a record that point here."""
        return tuple(f"of_{name}" for name in self.columns)


def plain(columns: Mapping[str, str], *keys: Values) -> KeyKind:
    return KeyKind(columns, tuple(columns.values()), (None,) * len(columns), {key: (key,) for key in keys})


def spellings(key: UUID) -> tuple[str, ...]:
    return str(key), str(key).upper(), key.hex, f"{{{key}}}"


UUIDS: Final = [UUID(int=n) for n in (1, 2, 0, 10, 2**128 - 1, 2**64)]
KEYS: Final = [
    plain({"id": "bigint"}, *((n,) for n in (1, 2, 3, 0, -1, 2**53, 2**53 + 1, 2**63 - 1, None))),
    plain({"id": "uuid"}, *((key,) for key in [*UUIDS, None])),
    plain({"id": "text"}, *((text,) for text in ("a", "b", "A", "a ", "", "ä", "<null>", "1", "01", None))),
    plain(
        {"part": "bigint", "id": "text"},
        *((1, "1"), (1, "2"), (2, "1"), (2, "2"), (1, None), (None, "1"), (None, None), (12, ""), (1, "2 ")),
    ),
    KeyKind(
        {"id": "uuid"},
        ("text",),
        ("uuid",),
        {(None,): ((None,),)} | {(key,): tuple((text,) for text in spellings(key)) for key in UUIDS},
    ),
    KeyKind(
        {"id": "bigint"},
        ("varchar(20)",),
        ("bigint",),
        {(None,): ((None,),)} | {(n,): ((str(n),), (f" {n} ",), (f"+00{n}",)) for n in (1, 2, 3, 10)},
    ),
    KeyKind(
        {"part": "bigint", "id": "uuid"},
        ("bigint", "text"),
        (None, "uuid"),
        {(None, UUIDS[0]): ((None, str(UUIDS[0])),), (1, None): ((1, None),)}
        | {(n, key): tuple((n, text) for text in spellings(key)) for n in (1, 2) for key in UUIDS[:3]},
    ),
]

# --- A database and a config


@dataclass(frozen=True)
class Case:
    """A world, and how to make a database of it; shown as a script and a config that one can try by hand."""

    world: World
    defaults: Mapping[str, str]
    columns: Mapping[str, Mapping[str, str]]
    constraints: tuple[str, ...]

    def config(self) -> str:
        lines = [
            'database: {url: "${DATABASE_URL}"}',
            f"collection: {{max_label_values: {self.world.cap}}}",
            "pipelines:",
            "  random:",
        ]
        for key, value in self.world.pipeline.items():
            if key == "records":
                lines += ["    records:", *(f"      {name}: {quoted(record)}" for name, record in value.items())]
            else:
                lines.append(f"    {key}: {quoted(value)}")
        return "\n".join(lines) + "\n"

    def script(self) -> str:
        lines = ["drop schema if exists public cascade;", "create schema public;"]
        lines += [f"alter database oracle set {name} = {value};" for name, value in self.defaults.items()]
        lines.append(another_clock(f"select timestamptz {literal(self.world.clock)}"))
        for table, columns in self.columns.items():
            lines.append(f"create table {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())});")
            rows = [f"({', '.join(literal(row[name]) for name in columns)})" for row in self.world.tables[table].rows]
            if rows:
                lines.append(f"insert into {table} values\n  " + ",\n  ".join(rows) + ";")
        return "\n".join([*lines, *filter(None, self.constraints)])

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: bool) -> None:
        printer.text(f"\n{self.script()}\n\n{self.config()}")


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
    local = moment.astimezone(ZONES[zone]) if zone else moment
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


def times(kind: str, usual: datetime, anchors: Sequence[datetime], zone: str | None = None) -> st.SearchStrategy[Any]:
    """Usual times; and those at, just before and just after the moments at which an answer changes."""
    instant = timedelta(microseconds=1)
    moments = [anchor + step for anchor in anchors for step in (timedelta(0), -instant, instant)]
    moments += [usual - timedelta(minutes=5), datetime(1, 1, 3, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)]
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


@st.composite
def records(draw: st.DrawFn, table: str, keys: KeyKind, pool: list[Any]) -> dict[str, Any]:
    parts: list[Any] = [
        name if cast is None else {"column": name, "cast": cast} for name, cast in zip(keys.of, keys.casts, strict=True)
    ]
    values = draw(one(ACCEPTED_VALUES))
    uniques: list[Any] = [list(keys.of), [*keys.of, "version"], "kind", ["version", "kind", *keys.of]]
    return {
        "table": table,
        "session_key": draw(one_or_list(parts)),
        "created_at": "created_at",
        **draw(perhaps("timezone", one(list(ZONES)))),
        **draw(perhaps("unique", one(uniques))),
        **draw(perhaps("version", versions(pool))),
        **({"accepted_values": values} if values else {}),
        **draw(perhaps("valid", one(list(VALID)))),
        **draw(perhaps("where", one(list(WHERE)))),
        **draw(perhaps("required_when", one(list(REQUIRED_WHEN)))),
        **draw(perhaps("satisfied_by", one(["current_version", "any_version"]))),
        **draw(perhaps("grace", one(GRACES))),
    }


@st.composite
def pipelines(
    draw: st.DrawFn, keys: KeyKind, tables: Mapping[str, str], pools: Mapping[str, list[Any]]
) -> dict[str, Any]:
    windows = [*({"since": since} for since in SINCES), *({"last": last} for last in LASTS)]
    return {
        "window": draw(one(windows)),
        **draw(perhaps("grace", one(GRACES))),
        "sessions": {
            "table": "visits",
            "key": draw(one_or_list(list(keys.columns))),
            "status": "status",
            "started_at": "started_at",
            "completed_at": "completed_at",
            **draw(perhaps("timezone", one(list(ZONES)))),
            **draw(perhaps("completed", one(list(COMPLETED)))),
            **draw(perhaps("deleted", one(list(COMPLETED)))),
            "eligible": draw(one(list(ELIGIBLE))),
            **draw(perhaps("checks", st.dictionaries(one(["a", "b-2"]), one(list(CHECKS)), min_size=1))),
        },
        "records": {name: draw(records(table, keys, pools[table])) for name, table in tables.items()},
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
    if version is None or record["table"] != table:
        return []
    return [value for value in pool if str(value) in (version["current"], *version.get("accepted", []))]


def window_start(pipeline: Mapping[str, Any], clock: datetime) -> datetime:
    window = pipeline["window"]
    return utc(window["since"]) if "since" in window else clock - span(window["last"])


def anchors_of(pipeline: Mapping[str, Any], clock: datetime) -> list[datetime]:
    """The moments at which an answer changes."""
    anchors = [clock, window_start(pipeline, clock)]
    for record in pipeline["records"].values():
        grace = span(record.get("grace", pipeline.get("grace", "0s")))
        anchors += [clock - grace, clock + grace]
        if "current_since" in record.get("version", {}):
            anchors.append(utc(record["version"]["current_since"]))
    if cohort := pipeline.get("cohort"):
        end = clock - span(cohort["maturity"])
        anchors += [end, end - span(cohort["window"])]
    return list(dict.fromkeys(anchors))


def rows(columns: Sequence[str], keys: Sequence[Values], rest: Columns, *, unique: bool = False) -> Rows:
    """No row, few, or many: `columns` have one of the keys, the others whatever they draw."""
    pairs = st.tuples(one(keys), st.fixed_dictionaries(dict(rest)))
    by = (lambda pair: pair[0]) if unique else None
    fewest = one([min(number, len(keys)) for number in (1, 4, 7, 0)])
    found = fewest.flatmap(lambda number: st.lists(pairs, min_size=number, max_size=10, unique_by=by))
    return found.map(lambda found: [dict(zip(columns, key, strict=True)) | values for key, values in found])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    clock = draw(one(CLOCKS))
    keys = draw(one(KEYS))
    tables_of = draw(one(RECORDS))
    pools = {table: draw(one(VERSION_POOLS)) for table in dict.fromkeys(tables_of.values())}
    pipeline = draw(pipelines(keys, tables_of, pools))
    pipeline |= draw(limits(pipeline))
    anchors = anchors_of(pipeline, clock)
    usual = max(window_start(pipeline, clock), clock - timedelta(hours=4))

    index = draw(one(["primary key", "unique", ""]))
    constraints = [f"alter table visits add {index} ({', '.join(keys.columns)});"] if index else []
    kinds = {"started_at": draw(one(TIME_TYPES)), "completed_at": draw(one(TIME_TYPES))}
    columns = {"visits": {**keys.columns, "status": "text", "flag": "boolean", "points": "int", **kinds}}
    possible = [key for key in keys.spellings if index != "primary key" or None not in key]
    rest = {
        "status": st.just("done") | one(STATUSES),
        "flag": FLAGS,
        "points": POINTS,
        **{name: times(kind, usual, anchors, pipeline["sessions"].get("timezone")) for name, kind in kinds.items()},
    }
    tables = {"visits": Table(draw(rows(list(keys.columns), possible, rest, unique=True)))}
    taken = {tuple(row[name] for name in keys.columns) for row in tables["visits"].rows}

    for table, pool in pools.items():
        known = [value for record in pipeline["records"].values() for value in known_of(record, table, pool)]
        link = draw(one(list(LINKS))) if index and not any(keys.casts) else "none"
        constraints.append(LINKS[link].format(table=table, of=", ".join(keys.of), key=", ".join(keys.columns)))
        kind = draw(one(TIME_TYPES))
        zone = next(
            (r["timezone"] for r in pipeline["records"].values() if r["table"] == table and "timezone" in r), None
        )
        columns[table] = {
            **dict(zip(keys.of, keys.types, strict=True)),
            "version": "int" if pool is INTEGERS else draw(one(["text", "varchar(300)"])),
            "kind": "text",
            "flag": "boolean",
            "points": "int",
            "created_at": kind,
        }
        rest = {
            "version": one(pool) | one(known or pool),
            "kind": st.just("a") | one(KINDS),
            "flag": FLAGS,
            "points": POINTS,
            "created_at": times(kind, usual, anchors, zone),
        }
        pointing = [spelling for key in keys.spellings if key in taken for spelling in keys.spellings[key]]
        astray = [
            spelling
            for key in keys.spellings
            if key not in taken and (None in key or link not in ("validated", "elsewhere"))
            for spelling in keys.spellings[key]
        ]
        tables[table] = Table(draw(rows(keys.of, [*pointing * 3, *astray], rest)), link == "validated")

    defaults = {name: draw(one(texts)) for name, texts in HABITS.items()}
    world = World(clock, pipeline, tables, TRUTHS, draw(one(CAPS)))
    return Case(world, defaults, columns, tuple(constraints))


@st.composite
def later(draw: st.DrawFn, case: Case) -> Case:
    """The same at another time: of every table some rows are gone, some are like others now, and some were added."""
    world, tables = case.world, {}
    sessions = world.tables["visits"].rows
    for name, table in world.tables.items():
        columns = case.columns[name]
        found: list[Row] = []
        for row in table.rows:
            other = draw(one([row, row, row, None, *table.rows]))
            if other is not None:
                found.append({**other, **{key: row[key] for key in ("id", "part") if key in columns}})
        if name != "visits" and table.rows and sessions:
            found += draw(st.lists(st.builds(mended, st.just(case), st.just(name), one(table.rows), one(sessions))))
        tables[name] = Table(found)
    moved = [timedelta(0), timedelta(seconds=1), timedelta(days=1), timedelta(minutes=-10), timedelta(minutes=10)]
    # Where sessions are gone, no foreign key would hold.
    constraints = tuple(text for text in case.constraints if "foreign key" not in text)
    return replace(
        case, world=replace(world, clock=world.clock + draw(one(moved)), tables=tables), constraints=constraints
    )


def mended(case: Case, table: str, like: Row, session: Row) -> Row:
    """A row like another that points at a session, of a version that its record calls current."""
    visits, columns = case.columns["visits"], case.columns[table]
    keys = {name: session[name] for name in ("id", "part") if name in visits}
    links = {
        f"of_{name}": key if key is None or columns[f"of_{name}"] == visits[name] else str(key)
        for name, key in keys.items()
    }
    records = [record for record in case.world.pipeline["records"].values() if record["table"] == table]
    current = next((record["version"]["current"] for record in records if "version" in record), None)
    known = {} if current is None else {"version": int(current) if columns["version"] == "int" else current}
    return {**like, **links, **known, "flag": True}


@st.composite
def changes(draw: st.DrawFn) -> tuple[Case, Case]:
    """A database, and what became of it."""
    case = draw(cases())
    return case, draw(later(case))
