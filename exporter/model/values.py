"""The types of config values: conversion from YAML, and messages with a remedy for wrong values.

No message quotes a text from the config: the text may come from the environment, and be a secret.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticKnownError

from exporter.connection.url import read_url
from exporter.model.alert_labels import PASSING_LABELS, RESERVED_LABELS
from exporter.model.sql import TableName, lexemes, parse_table_name, parse_type_name
from exporter.text.times import DURATION, parse_duration, parse_moment

KeyPath = tuple[str | int, ...]
"""The keys and list indices from the top of a config to a value."""

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""A valid name of a database, a pipeline or a record."""
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*")
_NUMBERED: Final = r"(?:Etc/)?GMT[+\-]?[0-9]{1,2}|EST5EDT|CST6CDT|MST7MDT|PST8PDT"
_OFFSET: Final = re.compile(rf"(?!(?:{_NUMBERED})$).*[0-9].*")
"""A name with a number.  Except for a few names, PostgreSQL reads the number as an offset to the west."""
_SHORT: Final = "UTC|UCT|GMT|PRC|ROC|ROK|Cuba|Eire|Iran|Zulu|Egypt|Japan|Libya"
_ABBREVIATION: Final = re.compile(rf"(?!(?:{_SHORT})$)[A-Za-z]{{3,5}}")
"""A short name outside the zone database, or a short name that PostgreSQL reads as an abbreviation.
https://www.postgresql.org/docs/current/datetime-config-files.html"""
_PLACEHOLDER: Final = re.compile(r"\$[0-9]")
_MOST: Final = 1_000_000_000
_LONGEST_TIMEOUT: Final = timedelta(days=1)


def _check_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a NUL character in it, which PostgreSQL cannot store: remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode: write it, or set the variable, as UTF-8") from None
    return value


def _parse_count(value: object) -> object:
    # The value of a variable is always text.
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value


def _parse_ratio(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,3}(\.[0-9]{1,9})?) ?%", value)):
        # Not divided as a float: 0.7% is 0.007, and not 0.006999….
        return float(Decimal(match[1]) / 100)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a share, such as 5% or 0.05")  # noqa: TRY004 - pydantic reads ValueError
    try:
        return float(value)
    except OverflowError:
        raise ValueError("is too large: write a share, such as 5% or 0.05") from None


def _check_share(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError("must be above 0 and at most 100%")
    return value


def _parse_flag(value: object) -> object:
    return value == "true" if value in ("true", "false") else value


def _parse_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _parse_columns(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,)


def parse_key_parts(value: object) -> object:
    """One column, or a list of columns, as a tuple of sections."""
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
    # A name may have a $ and a digit, also without quotes.
    code = "".join(text if kind == "other" else " " for kind, text in lexemes(value))
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


_NO_BOUND: Final = "must be a whole number, or the name of a column of the sessions table"


def _parse_bound(value: object) -> object:
    found = _parse_count(value)
    if isinstance(found, str):
        return _check_column(_check_not_blank(_check_value(found)))
    if isinstance(found, bool) or not isinstance(found, int):
        raise ValueError(_NO_BOUND)  # noqa: TRY004 - pydantic reads ValueError
    if found < 1:
        raise ValueError(
            "must be 1 or more: to allow sessions without a row, write required_when; to forbid rows, write a check, "
            "as in sessions.checks: {no_row: not exists (select from TABLE r where r.KEY = session.KEY)}"
        )
    if found >= _MOST:
        raise ValueError(f"is too large: at most {_MOST - 1}")
    return found


def check_not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list."""
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
    if not NAME.fullmatch(value):
        raise ValueError("cannot be a name: use letters, digits, _ and -, at most 40")
    return value


def _check_label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("cannot be a label of alerts: use letters, digits and _, at most 40, a letter first")
    if value in RESERVED_LABELS:
        raise ValueError("is a label of the exporter or of Prometheus: choose another name, such as tier")
    if value in PASSING_LABELS:
        raise ValueError("is a label of targets that the alerting rules leave out: choose another name, such as tier")
    return value


def _as(pattern: str) -> WithJsonSchema:
    """The pattern of a value for editors; a value with a variable may be any text."""
    return WithJsonSchema({"type": "string", "pattern": rf"{pattern}|\$\{{"})


_PART: Final = r'([^\s".;,()0-9][^\s".;,()]*|"([^"]|"")+")'
_AMOUNT: Final = f"{DURATION.pattern}$"
_MOMENT: Final = r"^[0-9]{4}(-(0?[1-9]|1[0-2])-[0-9]|-?W[0-9]{2}|[0-9]{4})"


@dataclass(frozen=True, slots=True)
class Holds:
    """A mark on the type of a text: the text is SQL, or names a column, of the table of its section."""

    what: Literal["sql", "column"]


SQL: Final = Holds("sql")
COLUMN: Final = Holds("column")

Value = Annotated[str, AfterValidator(_check_value)]
Text = Annotated[Value, AfterValidator(_check_not_blank), WithJsonSchema({"type": "string", "pattern": r"\S"})]
Expression = Annotated[Text, SQL, AfterValidator(_check_expression), _as(r"[^;\s]\s*$")]
Url = Annotated[Text, AfterValidator(_check_url), _as(r"^postgres(ql)?://\S*$")]
ColumnName = Annotated[Text, COLUMN, AfterValidator(_check_column), _as(r'^(?!"[\s\S]*"$)[\s\S]*\S')]
Name = Annotated[str, AfterValidator(_check_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})]
LabelName = Annotated[
    str, AfterValidator(_check_label), WithJsonSchema({"type": "string", "pattern": f"^{_LABEL.pattern}$"})
]
"""The name of a label of alerts.  https://prometheus.io/docs/concepts/data_model/"""
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
Share = Annotated[
    float,
    RATIO,
    AfterValidator(_check_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,9})? ?%$|^[01](\.[0-9]{1,9})?$|\$\{"},
            ]
        }
    ),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": rf"^{_AMOUNT}|\$\{{"}, {"const": 0}]}),
]
Interval = Annotated[Duration, AfterValidator(_check_positive), _as(f"^(?=.*[1-9]){_AMOUNT}")]
Timeout = Annotated[Interval, AfterValidator(_check_timeout)]
InstantUTC = Annotated[datetime, BeforeValidator(parse_moment), _as(_MOMENT)]
TableReference = Annotated[TableName, BeforeValidator(_parse_table), _as(rf"^({_PART}\.)?{_PART}$")]
Columns = Annotated[
    tuple[ColumnName, ...],
    BeforeValidator(
        _parse_columns, json_schema_input_type=ColumnName | Annotated[list[ColumnName], Field(min_length=1)]
    ),
    AfterValidator(check_not_empty),
]
TextList = Annotated[tuple[Text, ...], BeforeValidator(_parse_list)]
Schemas = Annotated[tuple[SchemaName, ...], BeforeValidator(_parse_list)]
AcceptedValues = Annotated[
    tuple[Value, ...],
    BeforeValidator(_parse_list, json_schema_input_type=Annotated[list[Value], Field(min_length=1)]),
    AfterValidator(check_not_empty),
]
RowBound = Annotated[
    int | str,
    BeforeValidator(_parse_bound),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MOST - 1},
                {"type": "string", "pattern": r'^(?!"[\s\S]*"$)(?!0+$)[\s\S]*\S'},
            ]
        }
    ),
]
"""A number of rows: whole and above 0, or the name of a column of the sessions table with a number per session."""
TypeName = Annotated[Text, AfterValidator(parse_type_name), _as(r'^[\w."]+( \w+)*( ?\([0-9]+(, ?[0-9]+)?\))?$')]
