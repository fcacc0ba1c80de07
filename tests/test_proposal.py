"""Names and values become a config that is read back as it was meant."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.read import parse_config
from exporter.model.sections import Config
from exporter.model.sql import TableName, quote
from exporter.setup.catalog import Index, Relation, TableColumn, VisibleTable
from exporter.setup.evidence import Columns, Group, RecordFacts, SessionFacts, Source, Value
from exporter.setup.naming import done, names_key, status_of, usable, words
from exporter.setup.proposal import RecordDraft, SessionsDraft, Share, eligible_of, name_for
from exporter.setup.proposed_yaml import propose
from exporter.setup.references import Link, Outline


def column(name: str, base: str = "text") -> TableColumn:
    return TableColumn(name, quote(name), base, base, ())


def relation(table: TableName, columns: tuple[TableColumn, ...]) -> Relation:
    index = Index((columns[0].name,), "btree", is_primary=True, is_partial=False, proves_unique=True)
    return Relation(
        table=table,
        kind="table",
        rows=None,
        is_populated=True,
        has_child_tables=False,
        may_use_schema=True,
        columns=columns,
        indexes=(index,),
        sources=(),
    )


def proposed(name: str, value: str) -> Config:
    """The config of tables and columns that are all called `name`, with `value` as status and as version."""
    table, own = TableName(name, name), column(name)
    groups = tuple(Group(text, None, False, 1, count, count, (count,)) for text, count in ((value, 3), (None, 2)))
    facts = SessionFacts(date(2025, 8, 1), is_recent=False, groups=groups)
    columns = Columns(status=own, flag=None, started=own, completed=own)
    sessions = SessionsDraft(
        relation=relation(table, (own,)),
        key=(own,),
        columns=columns,
        facts=facts,
        eligible=eligible_of(columns, facts),
        others=(table,),
    )
    outline = Outline(VisibleTable(table, "table", may_use_schema=True, may_select=True), (own,))
    record = RecordDraft(
        relation=relation(table, (own,)),
        source=Source(Link(outline, (own,), by_foreign_key=False), ("character varying",)),
        share=Share(3, 5, 0.6),
        created=own,
        version=own,
        facts=RecordFacts(
            (Value(value, 2), Value("", 1), Value(None, 1)), per_session=((1, 20), (2, 3)), delays=(1.0, 2.0)
        ),
    )
    text = propose(sessions, [record, record], has_url=True, left_out=[name])
    return parse_config(text, {"DATABASE_URL": "postgresql://nowhere", "X": "filled in"})


AWKWARD = ["a", "A b", "true", "null", "1.10", "2025-01-01", "${X}", "$x", "a'b", 'a"b', "a: b", "a #b", "- a", "täble"]
AWKWARD += [
    "a\u2028b",
    "a\nb",
    "\x07",
    "{a}",
    "[a]",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a`",
    "|",
    ">",
    "\\",
    "日本",
    "🙂",
    "\ufeff",
]

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(str.strip)
NAMES = TEXTS.filter(lambda name: bool(usable([column(name)])))


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_name_is_read_back_as_itself(name: str) -> None:
    assert_reads_back(name, name)


@given(NAMES, TEXTS)
def test_any_name_and_value_are_read_back_as_themselves(name: str, value: str) -> None:
    assert_reads_back(name, value)


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def assert_reads_back(name: str, value: str) -> None:
    config = proposed(name, value)

    [pipeline] = config.pipelines.values()
    sessions = pipeline.sessions
    assert sessions.table == TableName(name, name)
    assert (sessions.key, sessions.status, sessions.started_at, sessions.completed_at) == ((name,), *[name] * 3)
    ends = f"= {literal(value)}" if done([value]) else "is not null"
    assert sessions.eligible == f"{quote(name)} {ends}"
    assert len(pipeline.records) == 2
    for record in pipeline.records.values():
        assert record.table == TableName(name, name)
        assert record.created_at == name
        assert [(part.column, part.cast) for part in record.session_key] == [(name, "character varying")]
        assert record.version
        assert (record.version.column, record.version.current) == (name, value)


@pytest.mark.parametrize("value", ["completed", "Paid", "it's done", "DONE; ${X} $1", "order_completed", "done\n"])
def test_a_status_that_says_done_makes_a_session_eligible(value: str) -> None:
    [pipeline] = proposed("state", value).pipelines.values()

    assert pipeline.sessions.eligible == f"{quote('state')} = {literal(value)}"


@pytest.mark.parametrize(
    "value", ["open", "not_paid", "in completion", "to_be_completed", "unpaid", "incomplete", "undone"]
)
def test_a_status_that_says_otherwise_does_not(value: str) -> None:
    [pipeline] = proposed("state", value).pipelines.values()

    assert pipeline.sessions.eligible == f"{quote('state')} is not null"


def test_every_status_that_says_done_counts() -> None:
    assert done(["paid", "open", "", "SHIPPED", "confirmed"]) == ["paid", "SHIPPED"]
    assert done(["draft", "confirmed", "not_confirmed"]) == ["confirmed"]


@pytest.mark.parametrize("name", ["orderId", "order_id", "Order ID", "ORDER_ID", "order-id"])
def test_words_are_told_apart_however_they_are_joined(name: str) -> None:
    assert words(name) == ["order", "id"]


@pytest.mark.parametrize(
    ("column", "table", "key", "named"),
    [
        ("order_id", "orders", "id", True),
        ("orderId", "Orders", "Id", True),
        ("session_id", "assessment_sessions", "id", True),
        ("assessment_session_id", "assessment_sessions", "id", True),
        ("category_id", "categories", "id", True),
        ("process_id", "processes", "id", True),
        ("order_uuid", "orders", "id", True),
        ("order_number", "orders", "number", True),
        ("order_no", "orders", "order_no", True),
        ("id", "orders", "id", False),
        ("assessment_id", "assessment_sessions", "id", False),
        ("customer_id", "orders", "id", False),
        ("number", "orders", "number", False),
        ("reorder_id", "orders", "id", False),
        ("payment_id", "payments", "external_key", False),
        ("payment_key", "payments", "external_key", True),
        ("rental_id", "rental", "rental_id", True),
    ],
)
def test_a_column_is_named_after_a_table(column: str, table: str, key: str, named: bool) -> None:
    assert names_key(column, table, key) is named


def test_names_for_records_are_names_and_differ() -> None:
    taken: list[str] = []
    for name in ("Or ders", "or_ders", "日本", "x" * 60, "x" * 70, "a$b", "1.10", "No"):
        taken.append(name_for(TableName("public", name), taken))

    assert taken == ["or_ders", "or_ders_2", "records", "x" * 30, "x" * 30 + "_2", "a_b", "table_1_10", "table_no"]


@pytest.mark.parametrize(
    ("others", "status"),
    [
        ("shipment_state bill_address_id last_ip_address", "state"),
        ("city zip", None),
        ("address_line1 country", None),
        ("billing_state billing_city", "state"),
    ],
)
def test_a_state_beside_a_city_is_one_of_an_address(others: str, status: str | None) -> None:
    found = status_of([column(name, "text") for name in ("id", "state", *others.split())])

    assert (found.name if found else None) == status
