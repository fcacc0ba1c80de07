"""The sections of a config as frozen values.  `exporter.config.read` reads a file into the sections.

An editor shows the text below a key: `exporter.config.editor`.
No message quotes a text from the config: the text may come from the environment, and be a secret.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from exporter.model.sql import RowSource
from exporter.model.values import (
    COUNT,
    RATIO,
    AcceptedValues,
    ColumnName,
    Columns,
    Duration,
    Expression,
    Flag,
    Holds,
    InstantUTC,
    Interval,
    KeyPath,
    LabelName,
    Name,
    RowBound,
    Schemas,
    Share,
    TableReference,
    Text,
    TextList,
    Timeout,
    TimeZone,
    TypeName,
    Url,
    check_not_empty,
    parse_key_parts,
)
from exporter.text.figures import LimitUnit


class Section(BaseModel):
    """A mapping of the config: unknown keys are errors, values are never converted silently.

    `refused` has keys with a better message than "unknown", `absent` keys with a better message than "required" or
    "empty".  `renamed` has former names of keys, with the current
    name: a file may use former names for one release, and the exporter logs the use.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        defer_build=True,
    )
    refused: ClassVar[Mapping[str, str]] = {}
    absent: ClassVar[Mapping[str, str]] = {}
    renamed: ClassVar[Mapping[str, str]] = {}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """A key that a dimension adds to the sessions or to a record: `kind` is the type of its value.

    The type says which texts are SQL (`Expression`) and which name columns (`ColumnName`), however deep they are.
    `help` is the text in an editor, `example` a value to copy.  `needs`: a key below, the key of the section that the
    key below needs, and the remedy.
    """

    section: Literal["sessions", "record"]
    name: str
    kind: Any
    default: T
    help: str
    example: Any
    needs: tuple[tuple[str, str, str], ...] = ()

    def of(self, section: "Sessions | Record") -> T:
        """The value in a config."""
        value: T = getattr(section, self.name)
        return value

    def texts(self, section: "Sessions | Record", holds: Holds) -> Iterator[tuple[KeyPath, str]]:
        """Every text of the value that is SQL, or that names a column, with its keys below the section."""
        yield from (((self.name, *path), text) for path, text in _texts(self.kind, self.of(section), holds))


def _texts(kind: Any, value: Any, holds: Holds) -> Iterator[tuple[KeyPath, str]]:  # noqa: ANN401 - any type
    origin, parts = get_origin(kind), get_args(kind)
    if value is None:
        return
    if origin is Annotated:
        if holds in kind.__metadata__:
            yield (), value
        else:
            yield from _texts(parts[0], value, holds)
    elif origin in (Union, UnionType):
        yield from (found for part in parts for found in _texts(part, value, holds))
    elif origin is dict:
        yield from (
            ((name, *path), text) for name, item in value.items() for path, text in _texts(parts[1], item, holds)
        )
    elif origin is tuple:
        yield from (found for item in value for found in _texts(parts[0], item, holds))
    elif isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, kind):
        for name, below in get_type_hints(kind, include_extras=True).items():
            if name in kind.model_fields:
                # A section may have its SQL under `sql`: the short form of the section is that text alone.
                here: KeyPath = () if name == "sql" else (name,)
                yield from (((*here, *path), text) for path, text in _texts(below, getattr(value, name), holds))


class Database(Section):
    """How to connect to a database; the PG* environment variables fill missing keys."""

    refused: ClassVar[Mapping[str, str]] = {
        "password": "does not belong into a config: write password_file, or a url from the environment",
    }

    url: Url | None = Field(default=None, repr=False)
    """postgresql://user@host:5432/database, best from ${DATABASE_URL}.  Without a url, the PG* variables apply."""
    url_file: Text | None = None
    """A file with the url, in place of url.  Read at each connect: a rotated secret needs no restart."""
    password_file: Text | None = None
    """A file with the password; overrides a password in the url.  Read at each connect."""
    connect_timeout: Timeout = timedelta(seconds=5)
    """Longest time to connect to each host, at most 1d.  If not set, the connect_timeout of the url applies."""
    statement_timeout: Timeout = timedelta(seconds=30)
    """The server cancels a statement that runs longer; at most 1d."""
    lock_timeout: Timeout = timedelta(seconds=1)
    """Longest wait for a lock, for example behind an ALTER TABLE; at most 1d."""
    max_replica_lag: Timeout = timedelta(minutes=5)
    """A replica with a larger lag is not measured; at most 1d."""
    max_connections: Annotated[int, Field(ge=1, le=1000), COUNT] = 4
    """Most connections at once.  A pipeline has one during a collection; further pipelines wait for their turn."""
    busy_when: Expression | None = None
    """SQL without a table: while true, serve does not measure.  NULL is not true.  If not set: always measure."""
    search_path: Schemas = ()
    """Schemas for unqualified names in SQL.  A user with CREATE in a schema can run code as the exporter's role."""
    allow_superuser: Flag = False
    """Allow serve to use a superuser, or a role that can read and write files."""
    row_security: Literal["strict", "allow"] = "strict"
    """If a policy hides rows from the role: fail (strict), or measure only the visible rows (allow)."""


class CollectionSettings(Section):
    """When to collect, how much, and how many values to keep."""

    refused: ClassVar[Mapping[str, str]] = {
        "rest_ratio": "is replaced by duty, a share of the time: write duty: 5% (rest_ratio: 10 was duty: 9%)"
    }

    interval: Interval = timedelta(seconds=30)
    """Time from the start of a collection of a pipeline to the next start."""
    max_age: Interval = timedelta(minutes=5)
    """Age at which the exporter withdraws a snapshot; must be longer than every interval."""
    max_label_values: Annotated[int, Field(ge=1, le=1000), COUNT] = 50
    """Most versions or values per metric of a pipeline; the exporter adds up the rest in <other>."""
    mode: Literal["auto", "full", "tiered"] = "auto"
    """Measure everything at once (full), or what changes and slices of the rest (tiered); auto: by measured cost."""
    duty: Share = 0.05
    """Share of the time that collections of a pipeline may take, above 0: 5% or 0.05."""
    state_dir: Text | None = None
    """Directory for the counts of slices, so that a restart does not count again.  If not set: kept in memory."""
    pause_file: Text | None = None
    """While this file exists, serve does not measure: touch the file in an incident.  If not set: no switch."""


class Window(Section):
    """The sessions to measure, by start: exactly one of since and last."""

    since: InstantUTC | None = None
    """A date or a time, UTC unless it has an offset: 2025-08-01 or 2025-08-01T12:00:00Z."""
    last: Interval | None = None
    """A duration before now: 90d."""

    def start(self, clock: float) -> float:
        """The start of the window at `clock`; both in Unix seconds."""
        return self.since.timestamp() if self.since else clock - (self.last or timedelta()).total_seconds()


class Sessions(Section):
    """The table of sessions: one row is one unit of a user's work."""

    table: TableReference
    """The table or view, as in SQL: schema.table, with double quotes around a part that needs them."""
    key: Columns
    """The column, or the list of columns, that identifies a session."""
    status: ColumnName | None = None
    """The column with the status; sessions are counted by status.  If not set: all have the status <none>."""
    started_at: ColumnName
    """The column with the start time; the window selects by start."""
    completed_at: ColumnName | None = None
    """The column with the completion time; grace and delay count from it.  If not set: they count from started_at."""
    due_at: ColumnName | None = None
    """The column with the time at which records are due; grace counts from it.  NULL or not set: from completion."""
    timezone: TimeZone | None = None
    """Time zone of columns of times without a zone, such as Europe/Berlin.  If not set: UTC."""
    where: Expression | None = None
    """SQL over this table: true for rows that are sessions; rows of records always count.  If not set: every row."""
    computed: dict[ColumnName, Expression] = Field(default_factory=dict)
    """Column: SQL over this table.  Other keys, and other SQL, may name the column as one of the table."""
    eligible: Expression
    """SQL over this table alone: true for sessions that must have records; NULL is not eligible."""

    @property
    def source(self) -> RowSource:
        """The rows of the table with the computed columns."""
        return RowSource(self.table, "session", tuple(self.computed.items()))

    @property
    def ended_at(self) -> str:
        """The column with the completion time, or else with the start time."""
        return self.completed_at or self.started_at


class KeyPart(Section):
    """A column that points at one column of the sessions' key."""

    column: ColumnName
    """The column of the record table."""
    cast: TypeName | None = None
    """The SQL type for a conversion, such as uuid, if the types differ."""


class Version(Section):
    """The good versions of a record."""

    column: ColumnName
    """The column with the version."""
    current: Text
    """The current version, as text: "1.10", not 1.10."""
    accepted: TextList = ()
    """Older versions that are still good, as text."""
    current_since: InstantUTC | None = None
    """Rows created later with another version are drift (UTC; needs created_at).  If not set: not measured."""


class RowCount(Section):
    """How many good rows a session needs: numbers, or columns of sessions.  0 in a column: none needed; NULL: a gap."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [key]} for key in ("exactly", "at_least", "at_most")],
            "dependentSchemas": {"exactly": {"properties": {"at_least": False, "at_most": False}}},
        }
    )

    exactly: RowBound | None = None
    """The number of good rows; excludes at_least and at_most."""
    at_least: RowBound | None = None
    """Fewer good rows are too few.  If not set: 1."""
    at_most: RowBound | None = None
    """More good rows are too many.  If not set: any number."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "RowCount":
        if self.exactly is not None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("has exactly beside at_least or at_most: write exactly alone, or the other two")
        if self.exactly is self.at_least is self.at_most is None:
            raise ValueError("needs a number: write exactly, at_least or at_most")
        if isinstance(self.at_least, int) and isinstance(self.at_most, int) and self.at_most < self.at_least:
            raise ValueError("has at_most below at_least, so that no session is satisfied: exchange the two numbers")
        return self

    @property
    def least(self) -> int | str:
        """The fewest good rows: a number, or a column of the sessions."""
        return self.exactly or self.at_least or 1

    @property
    def most(self) -> int | str | None:
        """The most good rows: a number, or a column of the sessions; None without a bound."""
        return self.exactly or self.at_most

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the sessions table that have a number."""
        return tuple(dict.fromkeys(bound for bound in (self.least, self.most) if isinstance(bound, str)))


def _parse_rows(value: object) -> object:
    return value if isinstance(value, dict | RowCount) else {"exactly": value}


SatisfiedBy = Literal["any_version", "current_version", "every_row"]


class Record(Section):
    """A table whose rows must be derived from sessions, or a condition that sessions must meet."""

    absent: ClassVar[Mapping[str, str]] = {
        "table": "is required: add it, or write exists (SQL over the sessions) in place of table and session_key",
    }

    name: SkipJsonSchema[str]
    table: TableReference
    """The table or view, as in SQL: schema.table, with double quotes around a part that needs them; or exists."""
    session_key: Annotated[
        tuple[KeyPart, ...],
        BeforeValidator(
            parse_key_parts,
            json_schema_input_type=ColumnName | KeyPart | Annotated[list[ColumnName | KeyPart], Field(min_length=1)],
        ),
        AfterValidator(check_not_empty),
    ]
    """The column, or the list of columns, that points at sessions.key; {column, cast} where the types differ."""
    database: Text | None = None
    """The name of the database with the table.  If not set: the database of the pipeline."""
    exists: Expression | None = None
    """SQL over the sessions table, not table and session_key: true for sessions with the record; NULL is false."""
    created_at: ColumnName | None = None
    """The column with the time at which the row was written."""
    timezone: TimeZone | None = None
    """Time zone of created_at if the column has no zone, such as Europe/Berlin.  If not set: UTC."""
    version: Version | None = None
    """The good versions.  If not set: every valid row is current."""
    accepted_values: dict[ColumnName, AcceptedValues] = Field(default_factory=dict)
    """Column: list of texts.  Another value, or NULL, makes a row invalid."""
    valid: Expression | None = None
    """SQL over this table: true for valid rows.  If not set: every row is valid."""
    where: Expression | None = None
    """SQL over this table: true for the rows to measure.  If not set: every row."""
    computed: dict[ColumnName, Expression] = Field(default_factory=dict)
    """Column: SQL over this table.  Other keys, and other SQL, may name the column as one of the table."""
    required_when: Expression | None = None
    """SQL over the sessions table: true for eligible sessions that need this record.  If not set: every session."""
    satisfied_by: SatisfiedBy = "current_version"
    """any_version: any row.  current_version: a valid row of a good version.  every_row: only such rows."""
    rows: Annotated[RowCount, BeforeValidator(_parse_rows, json_schema_input_type=RowBound | RowCount)] | None = None
    """Good rows that a session needs: a number, a column of the sessions, or {at_least, at_most}.  If not set: any."""
    grace: Duration = timedelta(0)
    """Time after completion before a missing record becomes a gap.  If not set: the pipeline's grace."""

    @property
    def source(self) -> RowSource:
        """The rows of the table with the computed columns."""
        return RowSource(self.table, "record", tuple(self.computed.items()))

    @property
    def is_optional(self) -> bool:
        """Whether eligible sessions may not need the record."""
        return self.required_when is not None or bool(self.rows and self.rows.columns)


class Cohort(Section):
    """Sessions old enough to be complete: started in [now - maturity - window, now - maturity)."""

    window: Interval
    """Length of the cohort's time range: 24h."""
    maturity: Duration
    """Age of the youngest session; longer than a session and the processing take: 1h."""


Severity = Literal["warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)


class CountThresholds(Section):
    """Thresholds of a count: at least one of warning and critical."""

    warning: Annotated[int, Field(ge=0), COUNT] | None = None
    """A larger count is a warning."""
    critical: Annotated[int, Field(ge=0), COUNT] | None = None
    """A larger count is critical."""


class RatioThresholds(Section):
    """Thresholds of a share from 0 to 1: at least one of warning and critical."""

    warning: Annotated[float, Field(ge=0, le=1), RATIO] | None = None
    """A share beyond the threshold is a warning."""
    critical: Annotated[float, Field(ge=0, le=1), RATIO] | None = None
    """A share beyond the threshold is critical."""
    min_sessions: Annotated[int, Field(ge=1), COUNT] = 1
    """Least number of sessions for a judgement."""


class AgeThresholds(Section):
    """Thresholds of a duration: at least one of warning and critical."""

    warning: Duration | None = None
    """A longer duration is a warning."""
    critical: Duration | None = None
    """A longer duration is critical."""


Thresholds = CountThresholds | RatioThresholds | AgeThresholds
THRESHOLDS: Final[Mapping[LimitUnit, type[Thresholds]]] = {
    "count": CountThresholds,
    "ratio": RatioThresholds,
    "seconds": AgeThresholds,
}


class Limits(Section):
    """Thresholds by limit; the dimensions define the limits."""

    def of(self, name: str) -> Thresholds | None:
        """The thresholds of a limit, None if not set."""
        return self.given.get(name)

    @property
    def given(self) -> dict[str, Thresholds]:
        """The thresholds of every limit in the config, by name of the limit."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: thresholds for name, thresholds in found.items() if thresholds is not None}


class Pipeline(Section):
    """A table of sessions with the tables of derived records."""

    absent: ClassVar[Mapping[str, str]] = {
        "records": "needs at least one record: a table, or a condition such as {done: {exists: result is not null}}",
    }

    name: SkipJsonSchema[str]
    database: Text
    """The name of the database; optional with only one database."""
    interval: Interval
    """Time between collections of this pipeline.  If not set: collection.interval."""
    window: Window
    """The sessions to measure, by start: exactly one of since and last."""
    grace: Duration = timedelta(0)
    """Time after completion before a missing record becomes a gap."""
    sessions: Sessions
    """The table of sessions: one row is one unit of a user's work."""
    records: Annotated[dict[Name, Record], Field(min_length=1)]
    """The records of each session: a name of your choice, then the table."""
    cohort: Cohort | None = None
    """Sessions for conversion and processing delay.  If not set: not measured."""
    limits: Limits = Field(default_factory=Limits)
    """Thresholds for warning and critical; no limit has a default."""
    owner: Text | None = None
    """The team that repairs the pipeline: the label `owner` of alerts, for routes of Alertmanager."""
    labels: dict[LabelName, Text] = Field(default_factory=dict)
    """Further labels of the pipeline's alerts, such as tier: gold."""

    @model_validator(mode="before")
    @classmethod
    def _place_conditions(cls, given: Any) -> Any:  # noqa: ANN401 - any input
        """A record without a table has the table and the key of the sessions."""
        match given:
            case {"sessions": dict(sessions), "records": dict(records)}:
                table, key = sessions.get("table", "sessions"), sessions.get("key", "id")
                place = {"table": table, "session_key": key}
                placed = {
                    name: {**place, **record} if isinstance(record, dict) and "exists" in record else record
                    for name, record in records.items()
                }
                return {**given, "records": placed}
        return given

    @property
    def stored(self) -> dict[str, Record]:
        """The records with a table; the other records are conditions (`exists`)."""
        return {name: record for name, record in self.records.items() if not record.exists}

    @property
    def here(self) -> dict[str, Record]:
        """The records with a table in the database of the pipeline."""
        return {name: record for name, record in self.stored.items() if record.database is None}

    @property
    def elsewhere(self) -> dict[str, Record]:
        """The records with a table in another database."""
        return {name: record for name, record in self.stored.items() if record.database is not None}

    @property
    def alert_labels(self) -> dict[str, str]:
        """The labels that alerts on the pipeline carry."""
        return {**({"owner": self.owner} if self.owner is not None else {}), **self.labels}


class Config(Section):
    """The whole file."""

    refused: ClassVar[Mapping[str, str]] = {"database": "excludes databases: keep one of them"}

    databases: Annotated[dict[Name, Database], Field(min_length=1)]
    """The databases: a name of your choice, then the connection."""
    collection: CollectionSettings = Field(default_factory=CollectionSettings)
    """When to collect, how much, and how many values to keep."""
    pipelines: Annotated[dict[Name, Pipeline], Field(min_length=1)]
    """The pipelines: a name of your choice, then sessions and records."""
