"""Keys: one equality wherever rows are grouped and joined by them, or a refusal with a remedy that works as printed."""

import re
from typing import Any

import asyncpg
import pytest
from conftest import Database, Numbers, of_orders

from exporter.model.fault import CollectionError
from exporter.model.keys import Cast, Equality, KeyType, UnlikeError, equality_of
from exporter.model.sections import KeyPart

CONFIG = of_orders(key="KEY", scores="version: {column: version, current: v2}")


async def tables(
    database: Database, own: str, theirs: str, orders: list[str], scores: list[str], prepare: str = ""
) -> None:
    """Orders with keys of the type `own`, all of them scored at v2 under keys of the type `theirs`."""
    await database.execute(
        f"""{prepare};
        create table orders (id {own} primary key, status text default 'paid', at timestamptz default '2025-05-01');
        create table scores (order_id {theirs}, version text default 'v2')"""
    )
    for table, column, values in (("orders", "id", orders), ("scores", "order_id", scores)):
        for value in values:
            await database.execute(f"insert into {table} ({column}) values ({value})")


async def measured(database: Database, key: str = "order_id") -> Numbers:
    return await database.measure(CONFIG.replace("KEY", key))


def gaps_and_orphans(numbers: Numbers) -> tuple[float | None, float | None]:
    assert numbers.snapshot.record_faults == {}
    return numbers("gap_sessions", "scores", "missing"), numbers("orphaned_records", "scores")


STRINGS = [
    # own, theirs, orders, scores, gaps, orphans
    ("char(10)", "varchar(40)", ["'abc'", "'xyz'"], ["'abc'", "'abc '", "'abc  '"], 1, 2),
    ("varchar(40)", "char(10)", ["'abc'", "'abc '"], ["'abc'"], 1, 0),
    ("char(10)", "char(4)", ["'abc'", "'xyz'"], ["'abc'"], 1, 0),
    ("text", "char(10)", ["'abc'", "'xyz'"], ["'abc'"], 1, 0),
    ("name", "text", ["'abc'", "'Abc'"], ["'abc'", "'ABC'"], 1, 1),
    ('text collate "C"', 'text collate "POSIX"', ["'abc'", "'xyz'"], ["'abc'", "'abd'"], 1, 1),
    ('varchar(9) collate "POSIX"', 'char(9) collate "C"', ["'abc'", "'xyz'"], ["'abc'"], 1, 0),
    ("smallint", "bigint", ["1", "2"], ["1", "3"], 1, 1),
    ("bigint", "numeric(9,2)", ["1", "2"], ["1.00", "2.5"], 1, 1),
    ("numeric", "integer", ["1.0", "2.5"], ["1", "2"], 1, 1),
    ("numeric", "numeric", ["1.0", "2.50"], ["1", "2.5"], 0, 0),
    ("bit(3)", "bit(3)", ["b'001'", "b'010'"], ["b'001'", "b'111'"], 1, 1),
    ("date", "date", ["'2025-01-01'", "'2025-01-02'"], ["'2025-01-01'"], 1, 0),
    ("uuid", "uuid", ["'" + "0" * 31 + "1'", "'" + "0" * 31 + "2'"], ["'" + "0" * 31 + "1'"], 1, 0),
]


@pytest.mark.parametrize(("own", "theirs", "orders", "scores", "gaps", "orphans"), STRINGS)
async def test_two_columns_are_compared_by_one_equality(
    empty: Database, own: str, theirs: str, orders: list[str], scores: list[str], gaps: int, orphans: int
) -> None:
    await tables(empty, own, theirs, orders, scores)

    numbers = await measured(empty)

    assert gaps_and_orphans(numbers) == (gaps, orphans)
    assert numbers.positive("sessions") == {("paid",): len(orders)}
    assert sum(numbers.family("records").values()) == len(scores)


async def test_domains_over_domains_count_as_the_type_below(empty: Database) -> None:
    await tables(
        empty,
        "order_key",
        "score_key",
        ["'abc'", "'xyz'"],
        ["'abc'", "'nobody'"],
        "create domain short as varchar(20); create domain order_key as short; create domain score_key as text",
    )

    assert gaps_and_orphans(await measured(empty)) == (1, 1)


EQUALITIES = "create extension citext; create domain folded as citext"


@pytest.mark.parametrize("theirs", ["citext", "folded"])
async def test_a_type_of_an_extension_is_compared_by_its_own_equality(empty: Database, theirs: str) -> None:
    await tables(empty, "citext", theirs, ["'Abc'", "'xyz'"], ["'aBC'", "'other'"], EQUALITIES)

    assert gaps_and_orphans(await measured(empty)) == (1, 1)


CASE_BLIND = "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


async def has_icu(database: Database) -> bool:
    try:
        await database.execute(CASE_BLIND)
    except asyncpg.PostgresError:
        return False
    return True


async def test_one_nondeterministic_collation_is_the_equality_of_both(empty: Database) -> None:
    if not await has_icu(empty):
        pytest.skip("the server has no ICU")
    await tables(empty, "text collate ci", "text collate ci", ["'Abc'", "'xyz'"], ["'aBC'", "'other'"])

    assert gaps_and_orphans(await measured(empty)) == (1, 1)


UNLIKE = [
    # own, theirs, the remedy that is printed, gaps and orphans once it is followed
    ("char(10)", "bigint", ["'1'", "'12'"], ["12", "13", "14"], "{column: order_id, cast: text}", 1, 2),
    ("char(36)", "uuid", ["'" + "a" * 32 + "'"], ["'" + "b" * 32 + "'"], "{column: order_id, cast: text}", 1, 1),
    ("uuid", "text", ["'" + "a" * 32 + "'"], ["'" + "A" * 32 + "'"], "{column: order_id, cast: uuid}", 0, 0),
    ("bigint", "varchar(9)", ["7", "8"], ["'7'", "'9'"], "{column: order_id, cast: bigint}", 1, 1),
    ("citext", "text", ["'Abc'", "'xyz'"], ["'aBC'"], "{column: order_id, cast: public.citext}", 1, 0),
    ("text", "citext", ["'Abc'", "'xyz'"], ["'aBC'"], "{column: order_id, cast: text}", 2, 1),
    ("bit(4)", "text", ["b'0001'", "b'0010'"], ["'0001'", "'1'"], "{column: order_id, cast: text}", 1, 1),
]


@pytest.mark.parametrize(("own", "theirs", "orders", "scores", "remedy", "gaps", "orphans"), UNLIKE)
async def test_columns_without_a_common_equality_are_refused_with_a_cast_that_works(  # noqa: PLR0917
    empty: Database, own: str, theirs: str, orders: list[str], scores: list[str], remedy: str, gaps: int, orphans: int
) -> None:
    await tables(empty, own, theirs, orders, scores, EQUALITIES)

    refused = await measured(empty)
    [fault] = refused.snapshot.record_faults.values()
    [printed] = re.findall(r"write (\{.*?\})", fault.message)
    followed = await measured(empty, printed)

    assert fault.reason == "type"
    assert "order_id is " in fault.message
    assert "sessions.key is " in fault.message
    assert printed == remedy
    assert gaps_and_orphans(followed) == (gaps, orphans)


OF_ONE_TYPE = {
    "real": ("'NaN'", "-0.0"),
    "double precision": ("'NaN'", "'Infinity'"),
    "money": ("1", "2"),
    '"char"': ("'a'", "'A'"),
    "bytea": (r"'\x00'", r"'\x0000'"),
    "timestamptz": ("'infinity'", "'-infinity'"),
    "timetz": ("'00:00+00'", "'00:00+01'"),
    "interval": ("'1 day'", "'25 hours'"),
    "boolean": ("true", "false"),
    "inet": ("'10.0.0.1'", "'10.0.0.1/24'"),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'", "'08:00:2b:01:02:03:04:06'"),
    "bit varying": ("b'101'", "b'1010'"),
    "int[]": ("'{1}'", "'{1,2}'"),
    "text[]": ("'{a}'", "'{NULL}'"),
    "int4range": ("'[1,2]'", "'empty'"),
    "tsvector": ("'a'", "'b'"),
    "regclass": ("'pg_class'", "'pg_proc'"),
    "pg_lsn": ("'0/1'", "'0/2'"),
    "jsonb": ("'1'", "'{}'"),
    "mood": ("'sad'", "'ok'"),
    "pair": ("'(1,a)'", "'(1,b)'"),
}


@pytest.mark.parametrize("kind", OF_ONE_TYPE)
async def test_two_columns_of_one_type_are_compared_by_its_equality(empty: Database, kind: str) -> None:
    scored, unscored = OF_ONE_TYPE[kind]
    made = "create type mood as enum ('sad', 'ok'); create type pair as (a int, b text)"
    await tables(empty, kind, kind, [scored, unscored], [scored], made)

    assert gaps_and_orphans(await measured(empty)) == (1, 0)


@pytest.mark.parametrize(("kind", "value"), [("json", "'1'"), ("point", "'(1,2)'"), ("path", "'[(0,0),(1,1)]'")])
async def test_a_key_of_a_type_without_equality_is_refused_and_measured_as_text(
    empty: Database, kind: str, value: str
) -> None:
    await empty.execute(
        f"""create table plain (id {kind}, status text, at timestamptz);
        create table scores (order_id {kind}, version text);
        insert into plain values ({value}, 'paid', '2025-05-01'); insert into scores values ({value}, 'v2');
        create view orders as select id, status, at from plain"""
    )
    with pytest.raises(CollectionError, match=r"type without equality .* a view with the column as text"):
        await measured(empty)

    await empty.execute(
        "drop view orders; create view orders as select id::text, status, at from plain;"
        "create view scored as select order_id::text, version from scores"
    )
    mended = await empty.measure(CONFIG.replace("KEY", "order_id").replace("public.scores", "public.scored"))
    assert gaps_and_orphans(mended) == (0, 0)


@pytest.mark.parametrize("cast", ["character", "char(1)", "varchar(1)", "text"])
async def test_a_cast_to_a_string_cuts_nothing(empty: Database, cast: str) -> None:
    await tables(empty, "text", "bigint", ["'1'", "'12'"], ["12", "13", "14"])

    assert gaps_and_orphans(await measured(empty, f"{{column: order_id, cast: {cast}}}")) == (1, 2)


@pytest.mark.parametrize(
    ("own", "theirs", "cast", "words"),
    [
        ("integer", "numeric", "integer", "write session_key: order_id, without a cast"),
        ("date", "timestamptz", "date", "whose values a cast to date changes"),
        ("bigint", "double precision", "bigint", "name a column of type bigint, or read a view that converts it"),
        ("uuid", "text", "bigint unsigned", "the server has no type bigint unsigned"),
        ("uuid", "text", "no_such_type", "the server has no type no_such_type"),
    ],
)
async def test_a_cast_that_changes_values_or_is_none_costs_its_record_alone(
    empty: Database, own: str, theirs: str, cast: str, words: str
) -> None:
    await tables(empty, own, theirs, [], [])

    numbers = await measured(empty, f"{{column: order_id, cast: {cast}}}")

    [(record, fault)] = numbers.snapshot.record_faults.items()
    assert (record, fault.reason) == ("scores", "type")
    assert words in fault.message
    assert numbers.family("sessions") == {}


async def test_a_cast_to_a_type_without_its_schema_is_found_like_a_table(empty: Database) -> None:
    await tables(empty, "citext", "text", ["'Abc'"], ["'aBC'"], EQUALITIES)

    assert gaps_and_orphans(await measured(empty, "{column: order_id, cast: citext}")) == (0, 0)


async def test_an_index_by_another_equality_proves_nothing(empty: Database) -> None:
    """Two orders that the column's collation calls equal, told apart by the index alone."""
    if not await has_icu(empty):
        pytest.skip("the server has no ICU")
    await tables(empty, "text", "text", ["'abc'", "'ABC'"], ["'abc'"])
    await empty.execute(
        "alter table orders drop constraint orders_pkey, alter id type text collate ci; "
        'alter table scores alter order_id type text collate ci; create unique index on orders (id collate "C")'
    )

    with pytest.raises(Exception, match="several rows share a value") as refused:
        await measured(empty)

    assert refused.value.fault.reason == "duplicate_key"  # type: ignore[attr-defined]


async def test_a_join_that_repeats_a_session_is_never_counted(empty: Database) -> None:
    """An index that says unique and is not: what corruption, or a collation of another library, leaves behind."""
    await tables(empty, "int", "int", ["1", "2"], ["1"])
    await empty.execute(
        "alter table orders drop constraint orders_pkey; create index it on orders (id); insert into orders values (1)"
    )
    await empty.execute("update pg_index set indisunique = true where indexrelid = 'it'::regclass")

    numbers = await measured(empty)

    [(record, fault)] = numbers.snapshot.record_faults.items()
    assert (record, fault.reason) == ("scores", "duplicate_key")
    assert "several sessions have the same key" in fault.message
    assert numbers.family("records") == {}


def key(name: str, **changes: Any) -> KeyType:
    return KeyType(name, name, "operator(pg_catalog.=)", **changes)


def test_strings_of_other_collations_are_compared_byte_by_byte() -> None:
    one, two = key("text", collation='"C"'), key("text", collation="de_DE")

    assert equality_of(one, one, KeyPart(column="k"), None) == Equality("{}", "{}")
    assert equality_of(one, two, KeyPart(column="k"), None) == Equality('{}::text collate "C"', '{}::text collate "C"')


@pytest.mark.parametrize("name", ["text", "character varying", "character", "name"])
def test_a_nondeterministic_collation_is_equal_to_itself_alone(name: str) -> None:
    blind, plain = key("text", collation="ci", is_deterministic=False), key(name, collation='"default"')

    with pytest.raises(UnlikeError, match=r"text collate ci.*cast: text") as error:
        equality_of(plain, blind, KeyPart(column="k"), None)

    assert f'sessions.key is {name} collate "default": ' in str(error.value)
    as_text = Cast(key("text"), "text", is_lossless=True)
    assert equality_of(plain, blind, KeyPart(column="k", cast="text"), as_text).of_session == '{}::text collate "C"'
