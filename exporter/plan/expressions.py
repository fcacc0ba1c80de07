"""The SQL of a config, one expression at a time: the place, and the check by the server.  No I/O.

The server plans an expression before any row is read.  A refusal then concerns the text of the config, and costs no
pass over the tables.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from pydantic import BaseModel

from exporter.model.dimension import Dimension
from exporter.model.sections import Pipeline, Record, Sessions
from exporter.model.sql import (
    OURS,
    STRINGS,
    Bindings,
    RowSource,
    computed_value,
    condition,
    lexemes,
    quote,
    unquoted,
    with_values,
)
from exporter.model.values import SQL, KeyPath
from exporter.plan.statement import Statement


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression of the config over one row of `source`.

    `path`: the keys below the pipeline.  `section`: the keys of the section with the table.  `record`: the record that
    needs the expression, None for an expression about sessions.  `is_column`: a computed column, not a condition.
    """

    path: KeyPath
    section: KeyPath
    source: RowSource
    sql: str
    record: str | None = None
    is_column: bool = False

    @property
    def operand(self) -> str:
        """The expression as one operand."""
        return computed_value(self.sql) if self.is_column else condition(self.sql)


COMPUTED: Final = "computed"
"""The key of the computed columns of a section."""


def expressions(pipeline: Pipeline, dimensions: Iterable[Dimension]) -> Iterator[Expression]:
    """Every expression of a pipeline: expressions about sessions first, and of a section the computed columns."""
    keys = [key for dimension in dimensions for key in dimension.keys]
    sessions = pipeline.sessions

    def own(section: Sessions | Record, kind: str) -> Iterator[tuple[KeyPath, str]]:
        for key in keys:
            if key.section == kind:
                yield from key.texts(section, SQL)

    def columns(source: RowSource, path: KeyPath, record: str | None = None) -> Iterator[Expression]:
        bare = replace(source, computed=())
        for column, sql in source.computed:
            yield Expression((*path, COMPUTED, column), path, bare, sql, record, is_column=True)

    here: KeyPath = ("sessions",)
    yield from columns(sessions.source, here)
    of_sessions = [((key,), getattr(sessions, key)) for key in ("eligible", "where") if getattr(sessions, key)]
    for path, sql in (*of_sessions, *own(sessions, "sessions")):
        yield Expression((*here, *path), here, sessions.source, sql)
    for name, record in pipeline.records.items():
        there: KeyPath = ("records", name)
        for key in ("required_when", "exists"):
            if sql := getattr(record, key):
                yield Expression((*there, key), here, sessions.source, sql, name)
        if not record.exists:
            yield from columns(record.source, there, name)
        of_record = [((key,), getattr(record, key)) for key in ("where", "valid") if getattr(record, key)]
        for path, sql in (*of_record, *own(record, "record")):
            yield Expression((*there, *path), there, record.source, sql, name)


def written(pipeline: Pipeline, one: Expression) -> Pipeline:
    """The pipeline with the SQL of an expression at the place of the expression."""
    return _written(pipeline, one.path, one.sql)


T = TypeVar("T", bound=BaseModel)


def _written(section: T, path: KeyPath, sql: str) -> T:
    key, *below = map(str, path)
    held = getattr(section, key)
    match held, below:
        case _, []:
            held = sql
        case BaseModel(), _:
            held = _written(held, tuple(below), sql)
        case dict(), [name]:
            inner = held[name]
            held = {**held, name: sql if isinstance(inner, str) else inner.model_copy(update={"sql": sql})}
        case dict(), [name, *deeper]:
            held = {**held, name: _written(held[name], tuple(deeper), sql)}
    return section.model_copy(update={key: held})


def unfound(one: Expression, position: int) -> tuple[int, str] | None:
    """The offset in the expression and the text of the bare name that the server did not find.

    `position`: the server's position, from 1, in `planned` of only this expression.  None for a position without a bare
    name.
    """
    before, _, _ = one.operand.partition("\n")
    at = position - 1 - planned([one]).sql.index(one.operand) - len(f"{before}\n")
    begins, pieces = 0, list[tuple[str, str]]()
    for kind, text in lexemes(one.sql.strip()):
        if begins == at or pieces:
            pieces.append((kind, text))
        begins += len(text)
    if not pieces or pieces[0][0] not in ("word", "quoted") or (pieces[1:] and pieces[1][1] == "."):
        return None
    kind, name = pieces[0]
    return at, name.lower() if kind == "word" else unquoted(name)


def qualified(one: Expression, at: int, schema: str) -> Expression:
    """The expression with a schema before the name that begins at `at`."""
    text = one.sql.strip()
    return replace(one, sql=f"{text[:at]}{quote(schema)}.{text[at:]}")


_APART: Final = "session-health-exporter: computed apart"
"""A text compared with itself: the planner removes the comparison, unless the values of a row are computed apart."""


def planned(asked: Sequence[Expression]) -> Statement:
    """The EXPLAIN statement of expressions; the server refuses invalid expressions.

    A volatile function (random(), clock_timestamp()) is computed apart for each row: see `is_volatile`.
    """
    sources: dict[RowSource, list[Expression]] = {}
    for expression in asked:
        sources.setdefault(expression.source, []).append(expression)
    looks = []
    for source, over in sources.items():
        values = [(f"value_{n}", one.operand) for n, one in enumerate(over)]
        wanted = [f"{OURS}.value_{n}{' is not null' if one.is_column else ''}" for n, one in enumerate(over)]
        values.append(("apart", f"'{_APART}'::text"))
        wanted.append(f"{OURS}.apart = '{_APART}'::text")
        looks.append(f"(select count(*) from {with_values(source, values)} where {' and '.join(wanted)})")
    return Statement("expressions", "explain (costs off) select\n  " + ",\n  ".join(looks), is_ours=False)


def is_volatile(plan: Sequence[str]) -> bool:
    """Whether an expression of a plan is volatile; `plan` has the lines of EXPLAIN."""
    return any(_APART in line for line in plan)


def is_detached(plan: Sequence[str]) -> bool:
    """Whether a sub-query of the only expression of a plan uses no column of the row, and is computed once."""
    return sum(line.lstrip().startswith("InitPlan") for line in plan) > 1


def is_sampled(plan: Sequence[str]) -> bool:
    """Whether a plan reads a random part of a table (TABLESAMPLE)."""
    return any(line.lstrip(" ->").startswith("Sample Scan") for line in plan)


_OF_ITS_STATEMENT: Final = frozenset({"statement_timestamp", "current_query"})


def is_of_its_statement(sql: str) -> bool:
    """Whether an expression calls a stable function whose value changes between statements of a transaction."""
    return not _OF_ITS_STATEMENT.isdisjoint(called(sql))


def has_sub_query(sql: str) -> bool:
    """Whether an expression has a sub-query."""
    return any(kind == "word" and text.lower() in ("select", "table") for kind, text in lexemes(sql))


def compared(sql: str) -> Iterator[str]:
    """Names and words in an expression that operators of their type may compare, in the spelling of the catalog.

    Without names followed by a cast to a string or by IS NULL.
    """
    pieces = [(kind, text) for kind, text in lexemes(sql) if kind != "comment" and not text.isspace()]
    for at, (kind, text) in enumerate(pieces):
        if kind in ("word", "quoted") and not _is_decided(
            [next_one.lower() for _, next_one in pieces[at + 1 : at + 6]]
        ):
            yield text.lower() if kind == "word" else unquoted(text)


def _is_decided(texts: Sequence[str]) -> bool:
    if texts[:2] == [":", ":"]:
        kind = texts[4:5] if texts[2:4] == ["pg_catalog", "."] else texts[2:3]
        return not STRINGS.isdisjoint(kind)
    return texts[:2] == ["is", "null"] or texts[:3] == ["is", "not", "null"]


def called(sql: str) -> tuple[str, ...]:
    """The names of called functions, without schema, in the spelling of the catalog."""
    names, before = [], ""
    for kind, text in lexemes(sql):
        if text == "(" and before:
            names.append(before)
        if kind == "word":
            before = text.lower()
        elif kind == "quoted":
            before = unquoted(text)
        elif not text.isspace() and kind != "comment":
            before = ""
    return tuple(dict.fromkeys(names))


def harmless(names: Sequence[str]) -> Statement:
    """Whether every volatile function with one of the names returns void (pg_sleep): no value depends on the call."""
    bind = Bindings()
    sql = f"""select coalesce(bool_and(p.prorettype operator(pg_catalog.=) 'void'::regtype), false)
from pg_catalog.pg_proc p
where p.provolatile = 'v' and p.proname = any({bind(tuple(names), "text[]")})"""
    return Statement("volatile functions", sql, tuple(bind.values))
