"""What a config may say, as frozen values.  Reading a file into them: `exporter.config`.

The text below a key is what an editor shows of it: `exporter.config_schema`.
No message quotes a text from the config: it may have come from the environment, and be a secret.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticKnownError

from exporter.connection.url import read_url
from exporter.names import known_names
from exporter.sql import TableName, lexemes, parse_table_name, parse_type_name

KeyPath = tuple[str | int, ...]
"""The keys and list indices that lead from the top of a config to a place in it."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*")
_NUMBERED: Final = r"(?:Etc/)?GMT[+\-]?[0-9]{1,2}|EST5EDT|CST6CDT|MST7MDT|PST8PDT"
_OFFSET: Final = re.compile(rf"(?!(?:{_NUMBERED})$).*[0-9].*")
"""A name with a number.  But for these few, PostgreSQL takes the number for an offset, and counts it westward."""
_SHORT: Final = "UTC|UCT|GMT|PRC|ROC|ROK|Cuba|Eire|Iran|Zulu|Egypt|Japan|Libya"
_ABBREVIATION: Final = re.compile(rf"(?!(?:{_SHORT})$)[A-Za-z]{{3,5}}")
"""A short name that is none of the zone database, or one of it that PostgreSQL reads as an abbreviation all the same.
https://www.postgresql.org/docs/current/datetime-config-files.html"""
_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:ms|s|m|h|d|w))+")
_DURATION_PART: Final = re.compile(r"([0-9]+)(ms|s|m|h|d|w)")
_PLACEHOLDER: Final = re.compile(r"\$[0-9]")
_LONGEST: Final = timedelta(days=36500)
_LONGEST_TIMEOUT: Final = timedelta(days=1)
_NOT_A_MOMENT: Final = "is not a date: write 2025-08-01 or 2025-08-01T12:00:00Z"


def parse_duration(value: object) -> timedelta:
    """Read `30s`, `5m`, `1h30m`, `90d`, or 0; raises ValueError with the remedy."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return timedelta(0)
        raise ValueError("needs a unit (ms, s, m, h, d, w): write 30s, 5m or 1h30m")
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(
            "is not a duration: write a whole number with a unit (ms, s, m, h, d, w), as in 30s, 5m or 1h30m"
        )
    try:
        duration = sum((int(n) * _UNITS[unit] for n, unit in _DURATION_PART.findall(value)), timedelta())
    except (OverflowError, ValueError):  # beyond timedelta; beyond int's limit of digits
        duration = timedelta.max
    if duration > _LONGEST:
        raise ValueError(f"is too long: at most {_LONGEST.days}d, a hundred years")
    return duration


def parse_moment(value: object) -> datetime:
    """Read a date or a time; a date is its midnight, and a time without an offset is UTC.  Raises ValueError."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(_NOT_A_MOMENT) from None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError(_NOT_A_MOMENT)


def moment_text(unix_seconds: float) -> str:
    """A moment as text, in UTC and to the second; the inverse of `parse_moment`."""
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a NUL character in it, which PostgreSQL cannot store: remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode: write it, or set the variable, as UTF-8") from None
    return value


def _parse_count(value: object) -> object:
    # What a variable fills in is text, whatever it looks like.
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value


def _parse_ratio(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _parse_flag(value: object) -> object:
    return value == "true" if value in ("true", "false") else value


def _parse_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _parse_columns(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,)


def _parse_key_parts(value: object) -> object:
    parts = value if isinstance(value, list) else [value]
    return tuple(part if isinstance(part, dict) else {"column": part} for part in parts)


def _parse_table(value: object) -> object:
    if isinstance(value, TableName):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return parse_table_name(_check_value(value))


def _check_positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


def _check_timeout(value: timedelta) -> timedelta:
    if value > _LONGEST_TIMEOUT:
        raise ValueError("is too long: at most 1d")
    return value


def _check_not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _check_expression(value: str) -> str:
    if value.rstrip().endswith(";"):
        raise ValueError("must be one SQL expression: remove the ; at its end")
    code = "".join(text for kind, text in lexemes(value) if kind not in ("literal", "comment"))
    if _PLACEHOLDER.search(code):
        raise ValueError("has a $ and a digit, which would be one of our own values: write the value out")
    return value


def _check_column(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        raise ValueError("must be the bare name of a column, without the double quotes of SQL: they are added for you")
    return value


def _check_schema(value: str) -> str:
    if value == "$user" or (len(value) > 1 and value[0] == value[-1] == '"'):
        raise ValueError("must be the bare name of a schema, such as public, without the double quotes of SQL")
    return value


def _check_url(value: str) -> str:
    read_url(value)
    return value


def _check_not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("must name at least one")
    return value


def _check_zone(value: str) -> str:
    if not _ZONE.fullmatch(value):
        raise ValueError("is not the name of a time zone: write it as in Europe/Berlin, America/New_York or UTC")
    if _OFFSET.fullmatch(value):
        raise ValueError(
            "is an offset, which PostgreSQL counts westward: name the zone, as in Europe/Berlin; always two hours "
            "ahead of UTC is Etc/GMT-2"
        )
    if _ABBREVIATION.fullmatch(value):
        raise ValueError(
            "is an abbreviation, which stands for a fixed offset without summer time, and for several countries: name "
            "the zone, as in Europe/Berlin or Asia/Kolkata"
        )
    return value


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("cannot be a name: use letters, digits, _ and -, at most 40")
    return value


def _as(pattern: str) -> WithJsonSchema:
    """How a value is written, for editors; with a variable in it, which is filled in later, it may be anything."""
    return WithJsonSchema({"type": "string", "pattern": rf"{pattern}|\$\{{"})


_PART: Final = r'([^\s".;,()0-9][^\s".;,()]*|"([^"]|"")+")'
_AMOUNT: Final = f"{_DURATION.pattern}$"
_MOMENT: Final = r"^[0-9]{4}(-(0?[1-9]|1[0-2])-[0-9]|-?W[0-9]{2}|[0-9]{4})"

Value = Annotated[str, AfterValidator(_check_value)]
Text = Annotated[Value, AfterValidator(_check_not_blank), WithJsonSchema({"type": "string", "pattern": r"\S"})]
Expression = Annotated[Text, AfterValidator(_check_expression), _as(r"[^;\s]\s*$")]
Url = Annotated[Text, AfterValidator(_check_url), _as(r"^postgres(ql)?://\S*$")]
Column = Annotated[Text, AfterValidator(_check_column), _as(r'^(?!"[\s\S]*"$)[\s\S]*\S')]
Name = Annotated[str, AfterValidator(_check_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
TimeZone = Annotated[
    Text,
    AfterValidator(_check_zone),
    _as(rf"^(?!{_OFFSET.pattern}$)(?!{_ABBREVIATION.pattern}$)[A-Za-z][A-Za-z0-9_+\-/]*$"),
]
Flag = Annotated[
    bool,
    BeforeValidator(_parse_flag),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": r"^(true|false)$|\$\{"}]}),
]
SchemaName = Annotated[Text, AfterValidator(_check_schema)]
COUNT: Final = BeforeValidator(_parse_count)
RATIO: Final = BeforeValidator(_parse_ratio)
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": rf"^{_AMOUNT}|\$\{{"}, {"const": 0}]}),
]
Interval = Annotated[Duration, AfterValidator(_check_positive), _as(f"^(?=.*[1-9]){_AMOUNT}")]
Timeout = Annotated[Interval, AfterValidator(_check_timeout)]
InstantUTC = Annotated[datetime, BeforeValidator(parse_moment), _as(_MOMENT)]
Table = Annotated[TableName, BeforeValidator(_parse_table), _as(rf"^({_PART}\.)?{_PART}$")]
Columns = Annotated[
    tuple[Column, ...],
    BeforeValidator(_parse_columns, json_schema_input_type=Column | Annotated[list[Column], Field(min_length=1)]),
    AfterValidator(_check_not_empty),
]
TextList = Annotated[tuple[Text, ...], BeforeValidator(_parse_list)]
Schemas = Annotated[tuple[SchemaName, ...], BeforeValidator(_parse_list)]
Values = Annotated[
    tuple[Value, ...],
    BeforeValidator(_parse_list, json_schema_input_type=Annotated[list[Value], Field(min_length=1)]),
    AfterValidator(_check_not_empty),
]
TypeName = Annotated[Text, AfterValidator(parse_type_name), _as(r'^[\w."]+( \w+)*( ?\([0-9]+(, ?[0-9]+)?\))?$')]


class Section(BaseModel):
    """A mapping of the config: unknown keys are errors, values are never converted silently.

    `refused` has the keys that deserve a better message than to be unknown.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )
    refused: ClassVar[Mapping[str, str]] = {}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """A key that a dimension adds to the sessions or to a record: `kind` is its annotated type.

    `holds` says what its texts are: SQL over the table of the section, or names of its columns.  `help` is what an
    editor shows of it, `example` what one may write.
    """

    section: Literal["sessions", "record"]
    name: str
    kind: Any
    holds: Literal["sql", "columns"]
    default: T
    help: str
    example: Any

    def of(self, section: "Sessions | Record") -> T:
        """What the config says."""
        value: T = getattr(section, self.name)
        return value

    def texts(self, section: "Sessions | Record") -> Iterator[tuple[KeyPath, str]]:
        """Every text that the config says there, with its keys below the section."""
        match self.of(section):
            case str(text):
                yield (self.name,), text
            case dict(named):
                for name, held in named.items():
                    # A section of its own says under `sql` what a bare text says.
                    yield (self.name, name), held if isinstance(held, str) else held.sql
            case tuple(listed):
                yield from (((self.name,), text) for text in listed)


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


class Collection(Section):
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

    table: Table
    """The table or view, as in SQL: schema.table, with double quotes around a part that needs them."""
    key: Columns
    """The column, or the list of columns, that tells sessions apart."""
    status: Column
    """The column with the status, by which sessions are counted."""
    started_at: Column
    """The column with the start, by which the window chooses."""
    completed_at: Column
    """The column with the completion, from which the grace of a record runs."""
    timezone: TimeZone | None = None
    """The time zone of the columns of times that have none, such as Europe/Berlin; UTC unless given."""
    eligible: Expression
    """SQL over this table alone: which sessions must have records; NULL is not eligible."""


class KeyPart(Section):
    """A column that points at one column of the sessions' key."""

    column: Column
    """The column of the record table."""
    cast: TypeName | None = None
    """The SQL type to convert it to, such as uuid, where the types differ."""


class Version(Section):
    """Which versions of a record count."""

    column: Column
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
    table: Table
    """The table or view, as in SQL: schema.table, with double quotes around a part that needs them."""
    session_key: Annotated[
        tuple[KeyPart, ...],
        BeforeValidator(
            _parse_key_parts,
            json_schema_input_type=Column | KeyPart | Annotated[list[Column | KeyPart], Field(min_length=1)],
        ),
        AfterValidator(_check_not_empty),
    ]
    """The column, or the list of columns, that points at sessions.key; {column, cast} where the types differ."""
    created_at: Column | None = None
    """The column that says when a row was written."""
    timezone: TimeZone | None = None
    """The time zone of created_at where it has none, such as Europe/Berlin; UTC unless given."""
    version: Version | None = None
    """Which versions count; without it any valid row is current."""
    accepted_values: dict[Column, Values] = Field(default_factory=dict)
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

LimitUnit = Literal["count", "ratio", "seconds"]


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
        thresholds: Thresholds | None = getattr(self, name, None)
        return thresholds


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
    collection: Collection = Field(default_factory=Collection)
    """When to collect, and how much of it to keep."""
    pipelines: Annotated[dict[Name, Pipeline], Field(min_length=1)]
    """What is measured; a name of your choice, then its sessions and records."""


Needs = Mapping[str, tuple[tuple[str, ...], ...]]


def contradictions(config: object, needs: Needs) -> Iterator[tuple[KeyPath, str]]:
    """What keys say against each other, with its place, whether or not the values are valid by themselves.

    `config` is what `Config` is validated from, so that these mistakes are found beside all others.  `needs` has for
    the name of a limit the paths of keys of its pipeline without which it would judge nothing.
    """
    for path, database in _mappings(config, "databases", "*"):
        if {"url", "url_file"} <= database.keys():
            yield (*path, "url_file"), "excludes url: keep one of them"
    max_age = Collection().max_age
    for path, collection in _mappings(config, "collection"):
        max_age = _duration(collection.get("max_age", max_age), timedelta.max)
        if max_age <= _duration(collection.get("interval", Collection().interval), timedelta(0)):
            key = "max_age" if "max_age" in collection else "interval"
            yield (*path, key), _WITHDRAWN
            max_age = timedelta.max
    databases = dict(_mappings(config, "databases")).get(("databases",), {})
    for path, pipeline in _mappings(config, "pipelines", "*"):
        wanted = pipeline.get("database")
        if databases and isinstance(wanted, str) and wanted not in databases:
            yield (
                (*path, "database"),
                f"is no database of this file{known_names(wanted, filter(_NAME.fullmatch, databases))}",
            )
        if _duration(pipeline.get("interval"), timedelta(0)) >= max_age:
            yield (*path, "interval"), f"collection.{_WITHDRAWN}"
        for place, window in _mappings(pipeline, "window"):
            if ("since" in window) == ("last" in window):
                yield (*path, *place), "needs exactly one of since (a date) and last (a duration)"
        width = _width(pipeline.get("sessions"), "key")
        for place, record in _mappings(pipeline, "records", "*"):
            found = _width(record, "session_key")
            if width and found and width != found:
                yield (
                    (*path, *place, "session_key"),
                    f"has {_columns(found)}, sessions.key has {_columns(width)}: name one for each, in the same order",
                )
            yield from _version_contradictions(record, (*path, *place))
        for place, limits in _mappings(pipeline, "limits"):
            yield from _limit_contradictions(pipeline, limits, (*path, *place), needs)


def _limit_contradictions(
    pipeline: Mapping[str, Any], limits: Mapping[str, Any], path: KeyPath, needs: Needs
) -> Iterator[tuple[KeyPath, str]]:
    for name, thresholds in limits.items():
        if not isinstance(thresholds, dict):
            continue
        if thresholds.keys().isdisjoint(SEVERITIES):
            yield (*path, name), "needs a threshold: give warning, critical or both"
        for keys in needs.get(name, ()):
            if not any(keys[-1] in section for _, section in _mappings(pipeline, *keys[:-1])):
                shown = ".".join("NAME" if key == "*" else key for key in keys)
                yield (*path, name), f"would judge nothing: it needs {shown} in this pipeline"


def _version_contradictions(record: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for place, version in _mappings(record, "version"):
        accepted = version.get("accepted")
        if isinstance(accepted, list) and version.get("current") and version["current"] in accepted:
            yield (*path, *place, "accepted"), "has the current version in it: remove it there, it counts anyway"
        if "current_since" in version and "created_at" not in record:
            yield (
                (*path, *place, "current_since"),
                "needs created_at beside version: name the column that says when a row was written",
            )


_WITHDRAWN: Final = (
    f"max_age ({Collection().max_age.total_seconds():.0f}s unless given) must be longer than interval: "
    "values would be withdrawn between two collections"
)


def _mappings(value: object, *keys: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Every mapping at `keys` (`*`: at any key), with its path; what is not a mapping is for `Config` to refuse."""
    if not isinstance(value, dict):
        return
    if not keys:
        yield (), value
        return
    for key in value if keys[0] == "*" else keys[:1]:
        for path, found in _mappings(value.get(key), *keys[1:]):
            yield (key, *path), found


def _duration(value: object, unreadable: timedelta) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError:
        return unreadable


def _width(section: object, key: str) -> int:
    """How many columns a key names; 0 when it cannot be told."""
    value = section.get(key) if isinstance(section, dict) else None
    if isinstance(value, list):
        return len(value)
    return 0 if value is None else 1


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"
