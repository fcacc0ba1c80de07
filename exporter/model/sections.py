"""What a config may say, as frozen values.  Reading a file into them: `exporter.config.read`.

The text below a key is what an editor shows of it: `exporter.config.editor`.
No message quotes a text from the config: it may have come from the environment, and be a secret.
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

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

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
    Name,
    Schemas,
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

    `refused` has the keys that deserve a better message than to be unknown.  `renamed` has former names of keys, with
    the name of today: a file may use them for one release, and the exporter says so.
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
    renamed: ClassVar[Mapping[str, str]] = {}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """A key that a dimension adds to the sessions or to a record: `kind` is the type of its value.

    The type says which texts are SQL (`Expression`) and which name columns (`ColumnName`), however deep they are.
    `help` is the text in an editor, `example` a value to copy.
    """

    section: Literal["sessions", "record"]
    name: str
    kind: Any
    default: T
    help: str
    example: Any

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
    """Where to read; what is not given the PG* environment variables decide."""

    refused: ClassVar[Mapping[str, str]] = {
        "password": "does not belong into a config: write password_file, or a url from the environment",
    }

    url: Url | None = Field(default=None, repr=False)
    """postgresql://user@host:5432/database, best from ${DATABASE_URL}; without it the PG* variables decide."""
    url_file: Text | None = None
    """A file with the url, instead of it; read again at each connect, so that a rotated secret needs no restart."""
    password_file: Text | None = None
    """A file with the password, which wins over the url's; read again at each connect."""
    connect_timeout: Timeout = timedelta(seconds=5)
    """How long each host may take to let us in, at most 1d; where it is not given, that of the url counts."""
    statement_timeout: Timeout = timedelta(seconds=30)
    """The server ends a slower statement by itself, at most 1d."""
    lock_timeout: Timeout = timedelta(seconds=1)
    """How long to wait behind an ALTER TABLE, at most 1d."""
    max_replica_lag: Timeout = timedelta(minutes=5)
    """A replica that is further behind is not measured; at most 1d."""
    search_path: Schemas = ()
    """Schemas in which the config's SQL finds names without one; whoever may CREATE there can run code as our role."""
    allow_superuser: Flag = False
    """Whether serve may use a role that can do more than read: a superuser, or one that can read and write files."""
    row_security: Literal["strict", "allow"] = "strict"
    """A policy that would hide rows from us is an error (strict), or only what it shows is measured (allow)."""


class CollectionSettings(Section):
    """When to collect, and how much of it to keep."""

    interval: Interval = timedelta(seconds=30)
    """How often each pipeline is measured, from the start of one collection to the next."""
    max_age: Interval = timedelta(minutes=5)
    """Without a new snapshot for so long the values are withdrawn; longer than every interval."""
    max_label_values: Annotated[int, Field(ge=1, le=1000), COUNT] = 50
    """How many versions or values a metric of a pipeline may tell apart; the rest is summed in <other>."""
    rest_ratio: Annotated[int, Field(ge=0, le=1000), COUNT] = 10
    """The database is left in peace for so many times the duration of a collection."""


class Window(Section):
    """Which sessions are looked at, by their start: exactly one of since and last."""

    since: InstantUTC | None = None
    """A date or a time, UTC unless it has an offset: 2025-08-01 or 2025-08-01T12:00:00Z."""
    last: Interval | None = None
    """A duration back from now: 90d."""

    def start(self, clock: float) -> float:
        """Where it begins, seen from `clock`; both in Unix seconds."""
        return self.since.timestamp() if self.since else clock - (self.last or timedelta()).total_seconds()


class Sessions(Section):
    """The table of sessions: one row is one unit of a user's work."""

    table: TableReference
    """The table or view, as in SQL: schema.table, with double quotes around a part that needs them."""
    key: Columns
    """The column, or the list of columns, that tells sessions apart."""
    status: ColumnName
    """The column with the status, by which sessions are counted."""
    started_at: ColumnName
    """The column with the start, by which the window chooses."""
    completed_at: ColumnName
    """The column with the completion, from which the grace of a record runs."""
    timezone: TimeZone | None = None
    """The time zone of the columns of times that have none, such as Europe/Berlin; UTC unless given."""
    eligible: Expression
    """SQL over this table alone: which sessions must have records; NULL is not eligible."""


class KeyPart(Section):
    """A column that points at one column of the sessions' key."""

    column: ColumnName
    """The column of the record table."""
    cast: TypeName | None = None
    """The SQL type to convert it to, such as uuid, where the types differ."""


class Version(Section):
    """Which versions of a record count."""

    column: ColumnName
    """The column with the version."""
    current: Text
    """The version that is written today, as text: "1.10", not 1.10."""
    accepted: TextList = ()
    """Older versions that are good enough, as text."""
    current_since: InstantUTC | None = None
    """Rows created later at another version are drift (UTC; needs created_at); not measured unless given."""


class Record(Section):
    """A table whose rows must be derived from sessions."""

    name: SkipJsonSchema[str]
    table: TableReference
    """The table or view, as in SQL: schema.table, with double quotes around a part that needs them."""
    session_key: Annotated[
        tuple[KeyPart, ...],
        BeforeValidator(
            parse_key_parts,
            json_schema_input_type=ColumnName | KeyPart | Annotated[list[ColumnName | KeyPart], Field(min_length=1)],
        ),
        AfterValidator(check_not_empty),
    ]
    """The column, or the list of columns, that points at sessions.key; {column, cast} where the types differ."""
    created_at: ColumnName | None = None
    """The column that says when a row was written."""
    timezone: TimeZone | None = None
    """The time zone of created_at where it has none, such as Europe/Berlin; UTC unless given."""
    version: Version | None = None
    """Which versions count; without it any valid row is current."""
    accepted_values: dict[ColumnName, AcceptedValues] = Field(default_factory=dict)
    """Column: list of texts; any other value, NULL too, makes a row invalid."""
    valid: Expression | None = None
    """SQL over this table: which rows are valid; every one unless given."""
    where: Expression | None = None
    """SQL over this table: which rows exist for us; every one unless given."""
    required_when: Expression | None = None
    """SQL over the sessions table: which eligible sessions need this record; every one unless given."""
    satisfied_by: Literal["any_version", "current_version"] = "current_version"
    """Whether a session is complete with any row, even an invalid one, or only with one of a version that counts."""
    grace: Duration = timedelta(0)
    """How late this record may be before it counts as a gap; the pipeline's grace unless given."""


class Cohort(Section):
    """Sessions old enough that their fate is settled: started in [now - maturity - window, now - maturity)."""

    window: Interval
    """How long the cohort is: 24h."""
    maturity: Duration
    """How old its youngest session is; longer than sessions and their records take: 1h."""


Severity = Literal["warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)


class CountThresholds(Section):
    """How many are too many: at least one of warning and critical."""

    warning: Annotated[int, Field(ge=0), COUNT] | None = None
    """More than so many are a warning."""
    critical: Annotated[int, Field(ge=0), COUNT] | None = None
    """More than so many are critical."""


class RatioThresholds(Section):
    """Which share, 0 to 1, is too large or too small: at least one of warning and critical."""

    warning: Annotated[float, Field(ge=0, le=1), RATIO] | None = None
    """The share from which on it is a warning."""
    critical: Annotated[float, Field(ge=0, le=1), RATIO] | None = None
    """The share from which on it is critical."""
    min_sessions: Annotated[int, Field(ge=1), COUNT] = 1
    """From how many sessions on the share says anything."""


class AgeThresholds(Section):
    """How long is too long: at least one of warning and critical."""

    warning: Duration | None = None
    """Longer is a warning."""
    critical: Duration | None = None
    """Longer is critical."""


Thresholds = CountThresholds | RatioThresholds | AgeThresholds
THRESHOLDS: Final[Mapping[LimitUnit, type[Thresholds]]] = {
    "count": CountThresholds,
    "ratio": RatioThresholds,
    "seconds": AgeThresholds,
}


class Limits(Section):
    """When a number is a warning and when it is critical; the limits themselves belong to the dimensions."""

    def of(self, name: str) -> Thresholds | None:
        """The thresholds of one limit, None where the config sets none."""
        return self.given.get(name)

    @property
    def given(self) -> dict[str, Thresholds]:
        """The thresholds of every limit that the config sets, by the name of the limit."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: thresholds for name, thresholds in found.items() if thresholds is not None}


class Pipeline(Section):
    """A table of sessions with the tables of the records that must be derived from it."""

    name: SkipJsonSchema[str]
    database: Text
    """The name of its database; may be left out where there is only one."""
    interval: Interval
    """How often this pipeline is measured; collection.interval unless given."""
    window: Window
    """Which sessions are looked at, by their start: exactly one of since and last."""
    grace: Duration = timedelta(0)
    """How late a record may be before it counts as a gap, from the completion of its session."""
    sessions: Sessions
    """The table of sessions: one row is one unit of a user's work."""
    records: Annotated[dict[Name, Record], Field(min_length=1)]
    """What must be derived from each session; a name of your choice, then its table."""
    cohort: Cohort | None = None
    """Which sessions tell how many complete and how long their records take; not measured unless given."""
    limits: Limits = Field(default_factory=Limits)
    """When a number is a warning and when it is critical; none has a default."""


class Config(Section):
    """The whole file."""

    refused: ClassVar[Mapping[str, str]] = {"database": "excludes databases: keep one of them"}

    databases: Annotated[dict[Name, Database], Field(min_length=1)]
    """Where to read; a name of your choice, then how to connect."""
    collection: CollectionSettings = Field(default_factory=CollectionSettings)
    """When to collect, and how much of it to keep."""
    pipelines: Annotated[dict[Name, Pipeline], Field(min_length=1)]
    """What is measured; a name of your choice, then its sessions and records."""
