"""The statements that count the rows of one record: by facet, the sessions of many values, and repeated rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from exporter.model.counting import Cells, Facet, Fact, GroupColumn, Repeats, Scope, Total, Value
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.metric import LABEL_LENGTH, Folded, LabelValue
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import Bindings, conjunction, cut, one_of, quote, text_literal
from exporter.model.states import is_valid
from exporter.plan.cells import counting_statement
from exporter.plan.fragments import column_of, comma_list, named_keys, newest_in_sql, record_keys, rows_from
from exporter.plan.joined import in_window, joined_with, session_rows, wanted_sessions
from exporter.plan.packing import Place, places, words
from exporter.plan.statement import Statement, marker

VALUES_AT_ONCE: Final = 24
"""Values of a facet, at most, that the statement about sessions tells apart; more need a statement of their own."""

UNGROUPED: Final = Facet("rows")
"""The facet of a record without a facet of a dimension."""


def facets_of(dimensions: tuple[Dimension, ...], record: Record) -> tuple[Facet, ...]:
    """The facets of a record, at least one."""
    return tuple(facet for dimension in dimensions for facet in dimension.facets(record)) or (UNGROUPED,)


Only = Callable[[Bindings], Sequence[str]]
"""SQL conditions that leave rows of a table out."""


def every_row(_bind: Bindings) -> Sequence[str]:
    """Leaves no row out."""
    return ()


def rows_statement(
    pipeline: Pipeline, record: Record, link: Link, dimensions: tuple[Dimension, ...], only: Only = every_row
) -> Statement:
    """One pass over the table of a record, without a join: its rows by facet, value and category.

    A row becomes one number: its conditions, and the place of each text among the known texts of the facet.  Other
    texts stand beside the number.
    """
    bind = Bindings()
    facets = facets_of(dimensions, record)
    facts = [Fact("keyed", lambda _bind: _keyed(record, link)), Fact("valid", lambda bind: is_valid(record, bind))]
    facts += [fact for dimension in dimensions for fact in dimension.row_facts(record)]
    fields = [(fact.name, 1) for fact in facts]
    fields += [(_code(facet), len(facet.known).bit_length()) for facet in facets if facet.known]
    laid = places(fields)
    row = words(
        [
            *((laid[fact.name], laid[fact.name].flag(fact.sql(bind))) for fact in facts),
            *((laid[_code(facet)], _coded(facet, laid[_code(facet)], bind)) for facet in facets if facet.known),
        ]
    )
    others = {f"other_{n}": _other(facet, bind) for n, facet in enumerate(facets, start=1)}
    newest = newest_in_sql(record, bind)
    source, wanted = rows_from(record)
    by = ", ".join([*row, *others])
    selected = [f"{sql} as {name}" for name, sql in {**row, **others, "newest": newest}.items()]
    packed = f"""packed as (
  select
    {by}, count(*) as rows, max(newest) as newest
  from (
    select
      {comma_list(selected, 6)}
    from {source}
    where {conjunction([wanted, *only(bind)])}
    offset 0
  ) coded
  group by {by}
)"""
    totals = [Total("rows", "sum(rows)::bigint")]
    totals += [total for dimension in dimensions for total in dimension.row_totals(record)]
    listed = [_listed(facet, n, laid, bind) for n, facet in enumerate(facets, start=1)]
    read = [f"{laid[fact.name].has()} as {quote(fact.name)}" for fact in facts]
    cells = f"""cells as (
  select
    {comma_list(["facet", "value", "category", "keyed", *(f"{t.sql} as {quote(t.name)}" for t in totals)], 4)}
  from (select *, {", ".join(read)} from packed) counted
  cross join lateral (values
    {comma_list(listed, 4)}
  ) as faceted (facet, value, category)
  group by facet, value, category, keyed
)"""
    groups = [GroupColumn(name, name, open=name == "value") for name in ("facet", "value", "category", "keyed")]
    known = f"category in ({', '.join(sorted({text_literal(c) for f in facets for c in f.known.values()}))})"
    return counting_statement(
        f"rows of {record.name}",
        pipeline,
        bind,
        (packed, cells),
        (groups, totals),
        "facet",
        known_first=known if any(facet.known for facet in facets) else "",
    )


def _keyed(record: Record, link: Link) -> str:
    return conjunction([f"{key} is not null" for key in record_keys(record, link)])


def _code(facet: Facet) -> str:
    return f"code of {facet.name}"


def _coded(facet: Facet, place: Place, bind: Bindings) -> str:
    """SQL for the word with the place of the text among the known texts, from 1; 0 for other texts."""
    cases = " ".join(
        f"when {facet.text} = {bind(text, 'text')} then {place.value(number)}"
        for number, text in enumerate(facet.known, start=1)
    )
    return f"case {cases} else 0 end"


def _other(facet: Facet, bind: Bindings) -> str:
    """SQL for the text of a row that is not known, cut to the length of a label."""
    label = cut(facet.text, LABEL_LENGTH)
    if not facet.known:
        return label
    return f"case when {one_of(facet.text, tuple(facet.known), bind)} then null else {label} end"


def _listed(facet: Facet, n: int, laid: Mapping[str, Place], bind: Bindings) -> str:
    """SQL for the facet, the value and the category of a packed number."""
    other = text_literal(facet.other) if facet.other is not None else "null::text"
    value, category = f"other_{n}", other
    if facet.known:
        code = laid[_code(facet)].number()
        numbered = list(enumerate(facet.known.items(), start=1))
        texts = [f"when {number} then {bind(text[:LABEL_LENGTH], 'text')}" for number, (text, _) in numbered]
        kinds = [f"when {number} then {text_literal(kind)}" for number, (_, kind) in numbered]
        value = f"case {code} {' '.join(texts)} else other_{n} end"
        category = f"case {code} {' '.join(kinds)} else {other} end"
    return f"({text_literal(facet.name)}, {value}, {category})"


def values_of(rows: Cells, facets: Sequence[Facet]) -> dict[str, tuple[Value, ...]]:
    """The values of each facet: the known, then the others in its counted rows, the most frequent first.

    Without the facets that have too many values, see `VALUES_AT_ONCE`.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for facet in facets:
        of_facet = rows.only("facet", [facet.name]).totals("rows", "value", "category")
        if any(isinstance(text, Folded) for text, _ in of_facet):
            continue
        others = sorted(of_facet.items(), key=lambda item: -item[1])
        values = [*presumed_values(facet), *(Value(_plain(text), _plain(kind)) for (text, kind), _ in others)]
        if len(once := tuple(dict.fromkeys(values))) <= VALUES_AT_ONCE:
            found[facet.name] = once
    return found


def presumed_values(facet: Facet) -> tuple[Value, ...]:
    """The values of a facet before its rows are counted: those that the config names."""
    return tuple(Value(text[:LABEL_LENGTH], kind) for text, kind in facet.known.items())


def _plain(text: LabelValue) -> str | None:
    return text if text is None else str(text)


def has_value(facet: Facet, values: Sequence[Value], bind: Bindings) -> list[str]:
    """SQL over one row for each value, in order: whether the row has the value; the first that is true applies."""
    known: dict[Value, list[str]] = {}
    for text, kind in facet.known.items():
        known.setdefault(Value(text[:LABEL_LENGTH], kind), []).append(text)
    conditions = []
    for value in values:
        if value in known:
            conditions.append(one_of(facet.text, known[value], bind))
        elif value.text is None:
            conditions.append(f"{facet.text} is null")
        elif len(value.text) < LABEL_LENGTH:
            conditions.append(one_of(facet.text, (value.text,), bind))
        else:
            conditions.append(f"{cut(facet.text, LABEL_LENGTH)} = {bind(value.text, 'text')}")
    return conditions


def many_values_statement(scope: Scope, link: Link, facets: Sequence[Facet]) -> Statement:
    """Counts the analysed sessions of the only record of `scope` by the values of facets with many values."""
    bind = Bindings()
    [record] = scope.records
    source, wanted = rows_from(record)
    listed = []
    for facet in facets:
        cases = " ".join(
            f"when {facet.text} = {bind(text, 'text')} then {text_literal(kind)}" for text, kind in facet.known.items()
        )
        other = text_literal(facet.other) if facet.other is not None else "null::text"
        category = f"case {cases} else {other} end" if cases else other
        listed.append(f"({text_literal(facet.name)}, {cut(facet.text, LABEL_LENGTH)}, {category})")
    keys = [f"key_{k}" for k in range(1, len(link) + 1)]
    by = ", ".join([*keys, *_FACETED])
    names = ", ".join(_FACETED)
    rows = f"""
    select {by}
    from (
      select
        {comma_list([*named_keys(record, link), *_FACETED], 8)}
      from {source}
      cross join lateral (values
        {comma_list(listed, 8)}
      ) as faceted ({names})
      where {conjunction([wanted, *(f"{key} is not null" for key in record_keys(record, link))])}
      offset 0
    ) rows
    group by {by}"""
    sessions = session_rows(Scope(scope.pipeline, (), ()), bind, ())
    owner = [
        *sessions.key,
        f"{sessions.started} as started",
        f"{sessions.told[quote('eligible')]} as eligible",
    ]
    owners = f"""
    select
      {comma_list(owner, 6)}
    from {sessions.source}
    where {wanted_sessions(scope.pipeline, sessions, bind)}
    offset 0"""
    cells = f"""cells as (
  select facet, value, category, count(*) as sessions
  from (
    select {", ".join(f"r_1.{name} as {plain}" for name, plain in _FACETED.items())},
      s.eligible and {in_window(scope.pipeline, bind)} as analysed
    from {joined_with(owners, {1: (rows, link)})}
    offset 0
  ) joined
  where analysed and facet is not null
  group by facet, value, category
)"""
    groups = [GroupColumn(name, name, open=name == "value") for name in ("facet", "value", "category")]
    known = sorted({text_literal(kind) for facet in facets for kind in facet.known.values()})
    return counting_statement(
        f"values of {record.name}",
        scope.pipeline,
        bind,
        (cells,),
        (groups, [Total("sessions", "")]),
        "facet",
        known_first=f"category in ({', '.join(known)})" if known else "",
    )


# Names beside the columns of the platform, so unusual that no column has the same name.
_FACETED: Final = {quote(f"our {name}"): name for name in ("facet", "value", "category")}


def repeats_statement(pipeline: Pipeline, record: Record, repeats: Repeats, only: Only = every_row) -> Statement:
    """Counts the rows of a record beyond the first for each value of some columns."""
    bind = Bindings()
    columns = [column_of(record, column) for column in repeats.columns]
    source, wanted = rows_from(record)
    # As in a UNIQUE constraint, a NULL equals nothing.
    present = [f"{column} is not null" for column in columns]
    title = f"{repeats.name} of {record.name}"
    sql = f"""select {marker(pipeline.name, title)} coalesce(sum(times - 1), 0)::bigint
from (
  select count(*) as times
  from {source}
  where {conjunction([wanted, *present, *only(bind)])}
  group by {", ".join(columns)}
  having count(*) > 1
) repeated"""
    return Statement(title, sql, tuple(bind.values), is_ours=False)
