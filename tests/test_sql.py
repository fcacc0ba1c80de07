"""Names and values become SQL that PostgreSQL reads as they were meant."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from conftest import Database

from exporter.embedded import EmbeddedPostgres
from exporter.model.sql import (
    Bindings,
    Moment,
    TableName,
    condition,
    conjunction,
    parse_table_name,
    parse_type_name,
    quote,
)

AWKWARD = [
    "a",
    "A",
    "select",
    "a b",
    'a"b',
    '"',
    '""',
    "a;--",
    "a'b",
    "$1",
    "täble",
    "日本",
    "a\nb",
    "a\\b",
    ".",
    "a.b",
    "%",
    "1",
]


async def test_a_quoted_name_is_read_as_that_name(empty: Database) -> None:
    columns = ", ".join(f"{quote(name)} int" for name in AWKWARD)

    await empty.execute(f"create table t ({columns})")

    names = await empty.connection.fetch(
        "select attname from pg_attribute where attrelid = 't'::regclass and attnum > 0 order by attnum"
    )
    assert [name for (name,) in names] == AWKWARD


TABLE_NAMES = [
    ("orders", None, "orders"),
    ("Orders", None, "orders"),
    ("public.Orders", "public", "orders"),
    ('"Orders"', None, "Orders"),
    ('public."Orders"', "public", "Orders"),
    ('"My Schema"."Or ders"', "My Schema", "Or ders"),
    ('"a.b"', None, "a.b"),
    ('"a""b"', None, 'a"b'),
    ('""""', None, '"'),
    ('"x; drop table y"', None, "x; drop table y"),
    ("_a1$", None, "_a1$"),
    ("tÄble", None, "tÄble"),
    ("ÉTÉ.T", "ÉtÉ", "t"),
    ("日本", None, "日本"),
]


@pytest.mark.parametrize(("text", "schema", "name"), TABLE_NAMES)
def test_a_table_name_is_split_and_folded(text: str, schema: str | None, name: str) -> None:
    assert parse_table_name(text) == TableName(schema, name)


@pytest.mark.parametrize(("text", "schema", "name"), TABLE_NAMES)
async def test_the_server_splits_and_folds_it_alike(
    server: EmbeddedPostgres, text: str, schema: str | None, name: str
) -> None:
    connection = await asyncpg.connect(server.dsn())
    try:
        parts = await connection.fetchval("select parse_ident($1)", text)
    finally:
        await connection.close()

    assert parts == [part for part in (schema, name) if part is not None]


@pytest.mark.parametrize(("_text", "schema", "name"), TABLE_NAMES)
def test_a_table_name_survives_being_written_and_read(_text: str, schema: str | None, name: str) -> None:
    table = TableName(schema, name)

    assert parse_table_name(table.sql) == table
    assert str(table) == table.sql


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        " a",
        "a ",
        ".",
        "a.",
        ".a",
        "a..b",
        '""',
        '"a',
        'a"',
        '"a"b',
        "1a",
        "a-b",
        "a;",
        "a--",
        "$a",
        "a, b",
        "(select 1)",
        "a\n",
        '"a\0"',
        "a\0",
        "a.b.c",
        '"a"."b"."c"',
    ],
)
def test_what_is_no_table_name_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"write (it as in SQL|schema\.table)"):
        parse_table_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "uuid",
        "bigint",
        "double precision",
        "timestamp with time zone",
        "character (36)",
        "varchar(9)",
        "pg_catalog.int4",
        'public."Key"',
    ],
)
def test_the_name_of_a_type_passes(text: str) -> None:
    assert parse_type_name(text) == text


@pytest.mark.parametrize(
    ("text", "instead"),
    [("numeric(10, 2)", "numeric"), ("bit", "bit varying"), ("bit(8)", "bit varying"), ("interval year", "interval")],
)
def test_a_length_that_changes_values_is_refused_with_the_type_without(text: str, instead: str) -> None:
    with pytest.raises(ValueError, match=f"write {instead}$"):
        parse_type_name(text)


@pytest.mark.parametrize(
    "text", ["", "uuid;", "uuid)", "uuid::text", "uuid--", "uuid /*", "a, b", "'x'", "numeric(x)", "a\n;"]
)
def test_what_is_no_type_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="write it as in SQL"):
        parse_type_name(text)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", False),
        ("null::boolean", False),
        ("false or true", True),
        ("true -- certainly", True),
        ("  true  ", True),
        ("not false", True),
        ("1 = 1 and 2 = 2", True),
    ],
)
async def test_a_condition_is_true_or_false(server: EmbeddedPostgres, expression: str, value: bool) -> None:
    connection = await asyncpg.connect(server.dsn())
    try:
        alone = await connection.fetchval(f"select {condition(expression)} and true")
        other = await connection.fetchval(f"select not {condition(expression)}")
    finally:
        await connection.close()

    assert alone is value
    assert other is not value


async def test_a_condition_stays_together(server: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(server.dsn())
    try:
        value = await connection.fetchval(f"select false and {condition('false or true -- or else')}")
    finally:
        await connection.close()

    assert value is False


def test_a_conjunction_of_nothing_is_true() -> None:
    assert conjunction([]) == "true"
    assert conjunction(["a"]) == "a"
    assert conjunction(["a", "b"]) == "a and b"


def test_equal_values_of_one_type_share_a_placeholder() -> None:
    bind = Bindings()

    written = [bind("a", "text"), bind("b", "text"), bind("a", "text"), bind(("a",), "text[]"), bind("a", "name")]

    assert written == ["$1::text", "$2::text", "$1::text", "$3::text[]", "$4::name"]
    assert bind.values == ["a", "b", ("a",), "a"]


def test_values_of_different_kinds_never_share() -> None:
    bind = Bindings()

    written = {
        bind(Moment.CLOCK, "timestamptz"),
        bind(datetime(2025, 1, 1, tzinfo=UTC), "timestamptz"),
        bind(timedelta(0), "interval"),
        bind(timedelta(days=1), "interval"),
        bind((), "text[]"),
    }

    assert len(written) == 5


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("schema", [None, "public", "My Schema"])
def test_a_table_is_written_as_a_config_reads_it(schema: str | None, name: str) -> None:
    table = TableName(schema, name)

    assert parse_table_name(table.written) == table


def test_a_table_is_written_without_quotes_where_none_are_needed() -> None:
    assert TableName("public", "or_ders2").written == "public.or_ders2"
    assert TableName(None, "Or ders").written == '"Or ders"'
