"""Config -> Plan: writes every statement of a collection, and knows how to read its rows.  No I/O."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from exporter.dimension import (
    LABEL_LENGTH,
    PERCENTILES,
    CatalogMeasure,
    Cells,
    Column,
    Dimension,
    Facet,
    Part,
    Rows,
    Scope,
    Spread,
    Total,
)
from exporter.expressions import Expression, expressions, planned
from exporter.keys import Link, key_columns, presumed_link
from exporter.replica import LOOK
from exporter.schema import Config, Database, KeyPath, Pipeline, Record, Sessions
from exporter.sql import (
    OURS,
    Bindings,
    Moment,
    condition,
    conjunction,
    moment,
    quote,
    relation,
    same_text,
    with_values,
)
from exporter.statement import FETCHED, Cursor, Statement, marker
from exporter.states import (
    GAP_REASONS,
    PASSES,
    RANK,
    GapReason,
    gap_reasons,
    is_valid,
    satisfies,
    state,
    version_class,
)
from exporter.transaction import (
    END,
    IDENTITY,
    LOCKS,
    NO_TRANSACTION_TIMEOUT,
    USUAL_DEADLOCK_TIMEOUT,
    before,
    begin,
    found_tables,
    lock,
    look_again,
    patience,
    search,
    shape,
    silent_types,
    tables_of,
    what_was_read,
)

SessionKey = tuple[str, ...]
"""The key of a session: a text for each column of `sessions.key`."""

VALUE_LIMIT: Final = 10_000
"""Values of an open column that cross the wire; the rarest are added up beyond it, so totals stay right."""


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """One scalar of the catalog statement: of which measure and record."""

    measure: CatalogMeasure
    record: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that collecting one pipeline takes; built once, from the config alone.

    `links` say how each record's key is compared with that of the sessions: as presumed, until the types are known.
    `look` is how this server tells how far it is behind.
    The order of a collection: `before`, `begin`, then the locks (no snapshot is taken by them), then `catalog`,
    which takes the snapshot and reads its clock, `keys`, `IDENTITY`, the expressions as the server plans them, then
    `sessions(...)` and `rows(...)`, then `touched`.
    """

    pipeline: Pipeline
    database: Database
    dimensions: tuple[Dimension, ...]
    max_label_values: int
    links: Mapping[str, Link]
    look: tuple[str, ...] = LOOK

    def about(self, pipeline: Pipeline) -> "Plan":
        """The same plan for tables of other names."""
        return replace(self, pipeline=pipeline)

    def looking(self, look: tuple[str, ...]) -> "Plan":
        """The same plan for a server that tells in this way how far it is behind."""
        return replace(self, look=look)

    def linked(self, links: Mapping[str, Link]) -> "Plan":
        """The same plan for keys of these types."""
        return replace(self, links={**self.links, **links})

    @property
    def begin(self) -> Statement:
        """The guarded transaction."""
        return begin(self.database)

    @property
    def lock_sessions(self) -> Statement:
        """Holds the table of the sessions."""
        return lock(self.pipeline, "sessions", self.pipeline.sessions.table)

    @property
    def lock_records(self) -> dict[str, Statement]:
        """What holds the table of each record."""
        return {name: lock(self.pipeline, name, record.table) for name, record in self.pipeline.records.items()}

    @property
    def catalog(self) -> Statement:
        """What the catalog says, and what the clock.

        Its one row: a `Look`, sections with a foreign table, sections whose time zone is an abbreviation, the locks
        that reading takes and the server's room for them, then the `catalog_readings`.
        """
        return _catalog_statement(self.pipeline, self.look, self.catalog_readings)

    @property
    def catalog_readings(self) -> tuple["CatalogReading", ...]:
        """What the dimensions ask of the catalog."""
        return tuple(
            CatalogReading(measure, record)
            for dimension in self.dimensions
            for measure in dimension.measures
            if isinstance(measure, CatalogMeasure)
            for record in self.pipeline.records
        )

    @property
    def lock_count(self) -> Statement:
        """How many locks reading takes at most, and how many the server has room for."""
        bind = Bindings()
        needed, room = _locks(self.pipeline, bind)
        return Statement("locks", f"select {needed}, {room}", tuple(bind.values))

    @property
    def keys(self) -> Statement:
        """The types of the columns of keys."""
        bind = Bindings()
        sql = key_columns(self.pipeline, bind)
        return Statement("types of keys", sql, tuple(bind.values))

    @property
    def unique(self) -> Statement:
        """Whether the key is unique; it may read the table, and so whatever a view calls."""
        return _unique_key(self.pipeline)

    @property
    def search(self) -> Statement | None:
        """Where the config's SQL finds names, None where it finds the server's own alone."""
        return search(self.database.search_path) if self.database.search_path else None

    @property
    def touched(self) -> Statement:
        """What was read."""
        return what_was_read(self.pipeline, is_strict=self.database.row_security == "strict")

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The SQL of the config that a collection computes."""
        parts = {part.path for part in self.parts}
        return tuple(
            one
            for one in expressions(self.pipeline, self.dimensions)
            if one.record or one.path == ELIGIBLE or self.part_of(one) in parts
        )

    @staticmethod
    def part_of(expression: Expression) -> str:
        """The path of the part that fails with an expression about sessions."""
        return ".".join(map(str, expression.path))

    @property
    def parts(self) -> tuple[Part, ...]:
        """What may fail by itself beside the records."""
        return tuple(part for dimension in self.dimensions for part in dimension.parts(self.pipeline))

    def sessions(self, records: Sequence[str], parts: Sequence[Part] = ()) -> Statement:
        """One pass over the sessions in the window and the cohort, and over the tables of `records`."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return _sessions_statement(scope, self.links, self.dimensions)

    def owners(self, parts: Sequence[Part]) -> Statement:
        """How many sessions there are for which `parts` hold, over all of them, wherever in time."""
        return _owners_statement(Scope(self.pipeline, (), tuple(parts)), self.dimensions)

    def rows(self, records: Sequence[str], parts: Sequence[Part] = ()) -> Statement:
        """One pass over the tables of `records` and over the keys of all sessions."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return _rows_statement(scope, self.links, self.dimensions)

    def gaps(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Cursor:
        """Every session that is a gap because of one of `records` for one of `reasons`: the longest due first.

        Its columns: the number of the session, which none shares, each part of the key as text, the completion as text
        (NULL where there is none), and for each of `records` the reason, NULL where it is none.
        """
        return _gap_cursor(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, reasons)

    def gap_count(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Statement:
        """How many rows `gaps` has, and of how many sessions."""
        return _gap_count(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, reasons)

    def gap_tally(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Statement:
        """The same by record and reason, for those sessions of `gaps` that have a key without NULL.

        Its one row: what `gap_count` has, how many they are, how many have a NULL in their key, and for each of
        `records` and each of GAP_REASONS how many sessions.
        """
        return _gap_tally(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, reasons)

    def states_of(self, records: Sequence[str], keys: Sequence[SessionKey]) -> Cursor:
        """What the sessions of these keys are now, as far as they are in the window or the cohort, in no order.

        Its columns: the place of the key in `keys`, from 0 on; whether the session is in the window, and eligible; and
        for each of `records` its state.
        """
        return _states_cursor(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, keys)

    def places_of(self, keys: Sequence[SessionKey]) -> Statement:
        """The places in `keys`, from 0 on, of those sessions that the table has, wherever in time."""
        return _places_statement(self.pipeline, keys)

    def rows_of(self, record: str, cells: Cells) -> Rows:
        """The rows of one record, from the cells of `rows(...)`."""
        facets = _facets(self.dimensions, self.pipeline.records[record], Bindings())
        return Rows(cells.only("record", [record]), next(facet.name for facet in facets if facet.per_session))

    def statements(self) -> Iterator[Statement]:
        """What a collection runs when nothing is broken, in order."""
        names = tuple(self.pipeline.records)
        yield before(self.look)
        yield found_tables(tables_of(self.pipeline), self.database.search_path)
        yield self.begin
        yield NO_TRANSACTION_TIMEOUT
        yield LOCKS
        yield self.lock_sessions
        yield patience(self.database, USUAL_DEADLOCK_TIMEOUT)
        yield from self.lock_records.values()
        yield patience(self.database, USUAL_DEADLOCK_TIMEOUT)
        yield self.catalog
        yield self.keys
        yield IDENTITY
        if self.search:
            yield self.search
        yield self.unique
        yield planned(self.expressions)
        yield silent_types((), ())
        yield self.sessions(names, self.parts)
        yield self.rows(names, self.parts)
        if self.search:
            yield search(())
        yield self.touched
        yield shape(())
        yield END
        yield look_again(self.database)
        yield shape(())
        yield END


ELIGIBLE: Final[KeyPath] = ("sessions", "eligible")


def compile_plan(config: Config, pipeline: Pipeline, dimensions: tuple[Dimension, ...]) -> Plan:
    """The plan of one pipeline."""
    return Plan(
        pipeline=pipeline,
        database=config.databases[pipeline.database],
        dimensions=dimensions,
        max_label_values=config.collection.max_label_values,
        links={name: presumed_link(record) for name, record in pipeline.records.items()},
    )


def compile_plans(config: Config, dimensions: tuple[Dimension, ...]) -> dict[str, Plan]:
    """The plan of each pipeline."""
    return {name: compile_plan(config, pipeline, dimensions) for name, pipeline in config.pipelines.items()}


def _pick(pipeline: Pipeline, names: Sequence[str]) -> tuple[Record, ...]:
    return tuple(pipeline.records[name] for name in names)


def _catalog_statement(pipeline: Pipeline, look: Sequence[str], readings: Sequence[CatalogReading]) -> Statement:
    bind = Bindings()
    # The clock is read after the snapshot was taken, so nothing that it shows is ahead of the clock.
    columns = [
        *look,
        _foreign_tables(pipeline, bind),
        _abbreviated_zones(pipeline, bind),
        *_locks(pipeline, bind),
        *(reading.measure.sql(pipeline, pipeline.records[reading.record], bind) for reading in readings),
    ]
    sql = f"select {marker(pipeline.name, 'clock and catalog')}\n  " + ",\n  ".join(columns)
    return Statement("clock and catalog", sql, tuple(bind.values))


def _unique_key(pipeline: Pipeline) -> Statement:
    """Whether the key tells sessions apart: proved by an index, else (a view, say) looked up."""
    bind, sessions = Bindings(), pipeline.sessions
    keys = ", ".join(map(quote, sessions.key))
    present = " and ".join(f"{quote(column)} is not null" for column in sessions.key)
    sql = f"""select {marker(pipeline.name, "unique key")} case
    when exists (
      select 1
      from pg_catalog.pg_index i
      where i.indrelid = {relation(sessions.table, bind)}
        and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
        -- Its equality is that of the column: of the type's own operators, and no collation between them.
        and not exists (
          select 1
          from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1], i.indclass::oid[], i.indcollation::oid[])
            indexed(number, class, collated)
          join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = indexed.number
          join pg_catalog.pg_opclass c on c.oid = indexed.class
          left join pg_catalog.pg_collation k on k.oid = a.attcollation
          where not c.opcdefault or (indexed.collated <> a.attcollation and not k.collisdeterministic)
        )
        -- Tables that inherit (partitions do not) are read with their parent, and are outside its index.
        and not exists (
          select 1
          from pg_catalog.pg_inherits h
          join pg_catalog.pg_class p on p.oid = h.inhparent
          where h.inhparent = i.indrelid and p.relkind = 'r'
        )
        and (
          select pg_catalog.array_agg(a.attname::text)
          from pg_catalog.pg_attribute a
          where a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
        ) operator(pg_catalog.<@) {bind(sessions.key, "text[]")}
    ) then true
    else not exists (
      select 1 from {sessions.table.sql} where {present} group by {keys} having count(*) > 1
    )
  end"""
    return Statement("unique key", sql, tuple(bind.values))


def _foreign_tables(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of those tables (NULL for the sessions) that are foreign ones, or have foreign partitions.

    Row security is switched off for us alone: what another server hides from the role that asks it cannot be seen.
    """
    tables = [f"(null, {relation(pipeline.sessions.table, bind)})"]
    tables += [f"({bind(name, 'text')}, {relation(r.table, bind)})" for name, r in pipeline.records.items()]
    return f"""array(
    select named.table_name
    from (values {", ".join(tables)}) named(table_name, id)
    where exists (
      select 1
      from pg_catalog.pg_class c
      where c.relkind = 'f' and (c.oid = id or c.oid in (select relid from pg_catalog.pg_partition_tree(id)))
    )
  )"""


def _abbreviated_zones(pipeline: Pipeline, bind: Bindings) -> str:
    """The names of those sections (NULL for the sessions) whose time zone the server would read as an abbreviation.

    https://www.postgresql.org/docs/current/datetime-config-files.html
    """
    zones = [(None, pipeline.sessions.timezone), *((name, r.timezone) for name, r in pipeline.records.items())]
    named = [f"({bind(name, 'text') if name else 'null'}, {bind(zone, 'text')})" for name, zone in zones if zone]
    if not named:
        return "array[]::text[]"
    return f"""array(
    select named.section
    from (values {", ".join(named)}) named(section, zone)
    where upper(named.zone) in (select upper(a.abbrev) from pg_catalog.pg_timezone_abbrevs a)
      and upper(named.zone) not in ('UTC', 'UCT', 'GMT', 'ZULU')
  )"""


def _locks(pipeline: Pipeline, bind: Bindings) -> tuple[str, str]:
    """How many locks reading takes at most, and how many the server has room for.

    https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-MAX-LOCKS-PER-TRANSACTION
    """
    named = [f"({relation(table, bind)})" for table in tables_of(pipeline)]
    needed = f"""(
    with recursive tree(id) as (
      select named.id from (values {", ".join(named)}) named(id)
      union
      select h.inhrelid from tree join pg_catalog.pg_inherits h on h.inhparent = tree.id
    )
    select count(distinct tree.id) + count(i.indexrelid)
    from tree
    left join pg_catalog.pg_index i on i.indrelid = tree.id
  )"""
    settings = ("max_locks_per_transaction", "max_connections", "max_prepared_transactions")
    each, connections, prepared = (f"current_setting('{name}')::bigint" for name in settings)
    return needed, f"{each} * ({connections} + {prepared})"


def _window_start(pipeline: Pipeline, bind: Bindings) -> str:
    if pipeline.window.since is not None:
        return bind(pipeline.window.since, "timestamptz")
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(pipeline.window.last or timedelta(0), 'interval')}"


def _session_keys(pipeline: Pipeline) -> list[str]:
    sessions = pipeline.sessions
    return [f"{_of(sessions, column)} as key_{n}" for n, column in enumerate(sessions.key, start=1)]


def _of(section: Sessions | Record, column: str) -> str:
    """A column of a section's table, told from what we compute beside it."""
    return f"{quote(section.table.name)}.{quote(column)}"


def _record_keys(record: Record, link: Link) -> list[str]:
    return [one.of_record.format(_of(record, part.column)) for part, one in zip(record.session_key, link, strict=True)]


def _named_keys(record: Record, link: Link) -> list[str]:
    return [f"{key} as key_{n}" for n, key in enumerate(_record_keys(record, link), start=1)]


def _on_keys(link: Link, sessions: str, rows: str) -> str:
    return " and ".join(one.holds(f"{sessions}.key_{n}", f"{rows}.key_{n}") for n, one in enumerate(link, start=1))


_EXISTS: Final = "exists for us"
"""Whether a row of a record exists for us."""


def _rows_from(record: Record) -> tuple[str, str]:
    """A FROM item with the rows of a record, each with whether it passes `valid`, and which of them exist for us."""
    values = [(name, condition(sql)) for name, sql in ((_EXISTS, record.where), (PASSES, record.valid)) if sql]
    return with_values(record.table, "record", values), f"{OURS}.{quote(_EXISTS)}" if record.where else "true"


def _list(items: Sequence[str], indent: int = 2) -> str:
    return (",\n" + " " * indent).join(items)


def _cohort_end(pipeline: Pipeline, bind: Bindings) -> str:
    maturity = pipeline.cohort.maturity if pipeline.cohort else timedelta(0)
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(maturity, 'interval')}"


def _cohort_start(pipeline: Pipeline, bind: Bindings) -> str:
    cohort = pipeline.cohort
    length = cohort.maturity + cohort.window if cohort else timedelta(0)
    return f"{bind(Moment.CLOCK, 'timestamptz')} - {bind(length, 'interval')}"


def _sessions_statement(scope: Scope, links: Mapping[str, Link], dimensions: tuple[Dimension, ...]) -> Statement:
    bind = Bindings()
    groups = [column for dimension in dimensions for column in dimension.session_columns(scope, bind)]
    totals = [
        Total("sessions", "count(*)"),
        *(t for d in dimensions for t in d.session_totals(scope, bind)),
        Total(NUMBERED, "max(numbered)", "max"),
    ]
    spreads = [spread for dimension in dimensions for spread in dimension.session_spreads(scope, bind)]
    facts = [fact for dimension in dimensions for fact in dimension.session_facts(scope, bind)]
    judged = _judged_sessions(scope, links, bind, facts)
    return _cells("sessions", scope.pipeline, bind, (judged, "judged"), groups, totals, spreads)


JOINED: Final = "joined"
"""How many rows a join has."""

NUMBERED: Final = "numbered"
"""The number of a row before a join; the largest says how many there were."""


def _judged_sessions(scope: Scope, links: Mapping[str, Link], bind: Bindings, facts: Sequence[Column] = ()) -> str:
    """Defines `judged`: the sessions in the window and the cohort, each with the best rank of its rows of every record.

    It alone names tables of the platform, and comes first, so that no name of ours can hide one of theirs.  Sessions
    are numbered: a join that repeats one shows, and the planner keeps the expressions of the config where they are,
    so that each is computed once for a session.
    """
    pipeline, records, sessions = scope.pipeline, scope.records, scope.pipeline.sessions
    started = moment(_of(sessions, sessions.started_at), sessions.timezone, bind)
    in_window = f"{started} >= {_window_start(pipeline, bind)}"
    in_cohort = "false"
    if pipeline.cohort:
        in_cohort = f"({started} >= {_cohort_start(pipeline, bind)} and {started} < {_cohort_end(pipeline, bind)})"
    values = [
        ("eligible", condition(sessions.eligible)),
        *(
            (f"required_{n}", condition(record.required_when) if record.required_when else "true")
            for n, record in enumerate(records, start=1)
        ),
        *((fact.name, fact.sql) for fact in facts),
    ]
    selected = [
        *_session_keys(pipeline),
        f"left({same_text(_of(sessions, sessions.status))}, {LABEL_LENGTH}) as status",
        f"{started} as started",
        f"{moment(_of(sessions, sessions.completed_at), sessions.timezone, bind)} as completed",
        f"({in_window}) is true as in_window",
        f"({in_cohort}) is true as in_cohort",
        f"{OURS}.*",
        f"row_number() over () as {NUMBERED}",
    ]
    joins = []
    for n, record in enumerate(records, start=1):
        link = links[record.name]
        keys = [f"key_{k}" for k in range(1, len(record.session_key) + 1)]
        row = [
            *_named_keys(record, link),
            f"{version_class(record, bind)} as class",
            f"{is_valid(record, bind)} as valid",
        ]
        first = "null::timestamptz"
        if pipeline.cohort and record.created_at:
            row.append(f"{moment(_of(record, record.created_at), record.timezone, bind)} as created")
            first = f"min(created) filter (where {satisfies(record, f'({RANK})')})"
        rows, wanted = _rows_from(record)
        joins.append(f"""
  left join (
    select {", ".join(keys)}, min({RANK}) as best_{n}, {first} as first_{n}
    from (
      select
        {_list(row, 8)}
      from {rows}
      where {wanted}
    ) rows
    group by {", ".join(keys)}
  ) best_{n}_rows on {_on_keys(link, "s", f"best_{n}_rows")}""")
    found = [f"best_{n}, first_{n}" for n in range(1, len(records) + 1)]
    return f"""judged as (
  select {", ".join(["s.*", *found])},
    eligible and in_window as analysed
  from (
    select
      {_list(selected, 6)}
    from {with_values(sessions.table, "session", values)}
    where {_wanted_sessions(pipeline, bind)}
  ) s{"".join(joins)}
)"""


def _wanted_sessions(pipeline: Pipeline, bind: Bindings) -> str:
    """Sessions in the window, in the cohort, or in none for want of a start.

    The column itself is compared, so that an index is of use; where its zone is the config's it is compared with a day
    to spare, for no zone is further from UTC.
    """
    started = _of(pipeline.sessions, pipeline.sessions.started_at)
    first = _window_start(pipeline, bind)
    if pipeline.cohort:
        first = f"least({first}, {_cohort_start(pipeline, bind)})"
    if pipeline.sessions.timezone:
        first = f"{first} - interval '1 day'"
    return (
        f"{started} operator(pg_catalog.>=) {first} or {started} is null"
        f" or {started} operator(pg_catalog.=) '-infinity'"
    )


def _gap_cursor(scope: Scope, links: Mapping[str, Link], reasons: Collection[GapReason]) -> Cursor:
    """In order of time, then of the key: the server sorts gaps in less time than it takes to find them."""
    bind = Bindings()
    pipeline, width = scope.pipeline, len(scope.pipeline.sessions.key)
    keys = [f"key_{n}" for n in range(1, width + 1)]
    selected = [
        NUMBERED,
        *(f"{key}::text as session_{n}" for n, key in enumerate(keys, start=1)),
        "completed::text as completed_at",
        *(f"reason_{n}" for n in range(1, len(scope.records) + 1)),
    ]
    ordered = ", ".join(["since", *keys, NUMBERED])
    sql = f"with {_gaps(scope, links, reasons, bind)}\nselect\n  {_list(selected)}\nfrom gaps\norder by {ordered}"
    return _cursor("gaps", pipeline, sql, bind)


def _cursor(title: str, pipeline: Pipeline, sql: str, bind: Bindings) -> Cursor:
    said = marker(pipeline.name, title)
    return Cursor(
        # Every row is wanted, so the plan must not be the one that has the first of them soonest.
        prepare=Statement("plan for all", "set local cursor_tuple_fraction = 1", returns_rows=False),
        open=Statement(title, f"declare {said} found no scroll cursor for\n{sql}", tuple(bind.values), is_ours=False),
        fetch=Statement(f"fetch {title}", f"fetch {said} {FETCHED} from found", is_ours=False),
        close=Statement(f"close {title}", "close found", returns_rows=False),
    )


def _gap_count(scope: Scope, links: Mapping[str, Link], reasons: Collection[GapReason]) -> Statement:
    bind = Bindings()
    sql = (
        f"with {marker(scope.pipeline.name, 'gaps')}\n{_gaps(scope, links, reasons, bind)}\n"
        f"select count(*), pg_catalog.count(distinct {NUMBERED}) from gaps"
    )
    return Statement("count of gaps", sql, tuple(bind.values), is_ours=False)


def _gap_tally(scope: Scope, links: Mapping[str, Link], reasons: Collection[GapReason]) -> Statement:
    bind = Bindings()
    keys = range(1, len(scope.pipeline.sessions.key) + 1)
    named = " and ".join(f"key_{n} is not null" for n in keys)
    selected = [
        "count(*)",
        f"pg_catalog.count(distinct {NUMBERED})",
        "count(*) filter (where named)",
        "count(*) filter (where not named)",
    ]
    selected += [
        f"count(*) filter (where named and reason_{n} = {_text(reason)})"
        for n in range(1, len(scope.records) + 1)
        for reason in GAP_REASONS
    ]
    sql = (
        f"with {marker(scope.pipeline.name, 'gaps')}\n{_gaps(scope, links, reasons, bind)}\n"
        f"select\n  {_list(selected)}\nfrom (select *, {named} as named from gaps) tallied"
    )
    return Statement("tally of gaps", sql, tuple(bind.values), is_ours=False)


def _states_cursor(scope: Scope, links: Mapping[str, Link], keys: Sequence[SessionKey]) -> Cursor:
    bind = Bindings()
    states = [f"state_{n}" for n in range(1, len(scope.records) + 1)]
    sql = (
        f"with {_stated(scope, links, bind)}\nselect\n  {_list(['place - 1', 'in_window', 'eligible', *states])}\n"
        f"from stated\njoin {_listed(scope.pipeline, keys, bind)}"
    )
    return _cursor("states of sessions", scope.pipeline, sql, bind)


def _places_statement(pipeline: Pipeline, keys: Sequence[SessionKey]) -> Statement:
    bind = Bindings()
    sql = (
        f"with {marker(pipeline.name, 'sessions')}\npresent as (\n"
        f"  select {', '.join(_session_keys(pipeline))} from {pipeline.sessions.table.sql}\n)\n"
        f"select place - 1\nfrom present\njoin {_listed(pipeline, keys, bind)}"
    )
    return Statement("places of sessions", sql, tuple(bind.values))


def _listed(pipeline: Pipeline, keys: Sequence[SessionKey], bind: Bindings) -> str:
    """The right side of a join: `listed`, the place of each key from 1 on, and the condition on key_1 and so on.

    Compared as the text that was listed, byte by byte: a key says what it is by no other type or collation.
    """
    width = range(1, len(pipeline.sessions.key) + 1)
    arrays = [bind(tuple(column), "text[]") for column in zip(*keys, strict=True)] or ["array[]::text[]" for _ in width]
    named = ", ".join([*(f"session_{n}" for n in width), "place"])
    on = " and ".join(f'key_{n}::text collate "C" = session_{n} collate "C"' for n in width)
    # With one array it is a call like others, with several it is a word of SQL's own.
    unnest = "pg_catalog.unnest" if len(arrays) == 1 else "unnest"
    return f"{unnest}({', '.join(arrays)}) with ordinality as listed ({named}) on {on}"


def _stated(scope: Scope, links: Mapping[str, Link], bind: Bindings) -> str:
    """Defines `stated`: the sessions of `judged`, `since` when they are due, and the n-th record's `state_n`."""
    keys = [f"key_{n}" for n in range(1, len(scope.pipeline.sessions.key) + 1)]
    states = [
        f"{state(record, f'best_{n}', f'required_{n}', bind)} as state_{n}"
        for n, record in enumerate(scope.records, start=1)
    ]
    known = ["in_window", "eligible", "analysed", "completed", "coalesce(completed, started) as since", NUMBERED]
    return f"""{_judged_sessions(scope, links, bind)}, stated as (
  select
    {_list([*keys, *known, *states], 4)}
  from judged
)"""


def _gaps(scope: Scope, links: Mapping[str, Link], reasons: Collection[GapReason], bind: Bindings) -> str:
    """Defines `gaps`: the sessions analysed that are a gap, `since` when, and for the n-th record its `reason_n`."""
    keys = [f"key_{n}" for n in range(1, len(scope.pipeline.sessions.key) + 1)]
    stated = _stated(scope, links, bind)
    wanted = [
        f"state_{n} = any({bind(tuple(r for r in gap_reasons(record) if r in reasons), 'text[]')})"
        for n, record in enumerate(scope.records, start=1)
    ]
    reason = [f"case when {is_wanted} then state_{n} end as reason_{n}" for n, is_wanted in enumerate(wanted, start=1)]
    return f"""{stated}, gaps as (
  select
    {_list([*keys, "completed", "since", NUMBERED, *reason], 4)}
  from stated
  where analysed and ({" or ".join(wanted)})
)"""


def _rows_statement(scope: Scope, links: Mapping[str, Link], dimensions: tuple[Dimension, ...]) -> Statement:
    bind = Bindings()
    pipeline, records = scope.pipeline, scope.records
    declared = {record.name: [t for d in dimensions for t in d.row_totals(record, bind)] for record in records}
    totals = {t.name: t for of_record in declared.values() for t in of_record}
    flags = [flag for dimension in dimensions for flag in dimension.owner_flags(scope, bind)]
    # Records whose keys are compared in the same way share one pass over the sessions.
    alike: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        alike.setdefault(tuple((one.of_session, one.operator) for one in links[record.name]), []).append(record)
    linked = "\n  union all\n".join(
        _linked(
            links[together[0].name],
            [
                one
                for record in together
                for one in _rows_of(
                    record,
                    links[record.name],
                    _facets(dimensions, record, bind),
                    declared[record.name],
                    tuple(totals.values()),
                    bind,
                )
            ],
            tuple(totals),
            flags,
            _owners(pipeline, flags, bind),
        )
        for together in alike.values()
    )
    groups = [
        Column("record", "record"),
        Column("facet", "facet"),
        Column("value", "value", open=True),
        *(Column(name, name) for name in ("category", "keyed", "linked", "analysed")),
        *(Column(flag.name, quote(flag.name)) for flag in flags),
    ]
    of_cells = [
        Total("rows", "sum(rows)::bigint"),
        Total("sessions", "count(*)"),
        *(Total(t.name, _combined(t), t.combined_by) for t in totals.values()),
        Total(JOINED, f"count(*) filter (where {NUMBERED} is not null)"),
        Total(NUMBERED, f"max({NUMBERED})", "max"),
    ]
    return _cells("rows", pipeline, bind, (f"linked_rows as (\n{linked}\n)", "linked_rows"), groups, of_cells)


def _owners(pipeline: Pipeline, flags: Sequence[Column], bind: Bindings) -> str:
    """The keys of all sessions, and what is to be known of whoever owns a row."""
    sessions = pipeline.sessions
    started = moment(_of(sessions, sessions.started_at), sessions.timezone, bind)
    values = [("eligible", condition(sessions.eligible)), *((flag.name, flag.sql) for flag in flags)]
    owner = [
        *_session_keys(pipeline),
        f"({started} >= {_window_start(pipeline, bind)} and {OURS}.eligible) is true as analysed",
        *(f"({OURS}.{quote(flag.name)}) is true as {quote(flag.name)}" for flag in flags),
    ]
    # `offset 0` keeps the expressions where they are: each is computed once for a session, not for each of its rows.
    return f"""    select
      {_list(owner, 6)}
    from {with_values(sessions.table, "session", values)}
    offset 0"""


def _owners_statement(scope: Scope, dimensions: tuple[Dimension, ...]) -> Statement:
    bind = Bindings()
    flags = [flag for dimension in dimensions for flag in dimension.owner_flags(scope, bind)]
    counted = [f"count(*) filter (where {quote(flag.name)})" for flag in flags] or ["count(*) filter (where analysed)"]
    said = marker(scope.pipeline.name, "owners")
    sql = f"select {said}\n  {_list(counted)}\nfrom (\n{_owners(scope.pipeline, flags, bind)}\n) s"
    return Statement("owners", sql, tuple(bind.values), is_ours=False)


def _linked(link: Link, branches: Sequence[str], totals: Sequence[str], flags: Sequence[Column], owners: str) -> str:
    """The rows of some records, told apart by their facets, each with what is known of its session."""
    keyed = " and ".join(f"r.key_{n} is not null" for n in range(1, len(link) + 1))
    known = [
        *(f"r.{name}" for name in ("record", "facet", "value", "category", "rows", NUMBERED)),
        *(f"r.{quote(name)}" for name in totals),
        "coalesce(s.analysed, false) as analysed",
        "s.key_1 is not null as linked",
        f"{keyed} as keyed",
        *(f"coalesce(s.{quote(flag.name)}, false) as {quote(flag.name)}" for flag in flags),
    ]
    rows = "\n    union all\n".join(branches)
    return f"""  select
    {_list(known, 4)}
  from (
{rows}
  ) r
  left join (
{owners}
  ) s on {_on_keys(link, "s", "r")}"""


def _facets(dimensions: tuple[Dimension, ...], record: Record, bind: Bindings) -> tuple[Facet, ...]:
    """The ways in which the rows of a record are told apart; one of them has every row."""
    asked = tuple(facet for dimension in dimensions for facet in dimension.facets(record, bind))
    return asked if any(facet.per_session for facet in asked) else (Facet(UNGROUPED), *asked)


def _rows_of(
    record: Record,
    link: Link,
    facets: Sequence[Facet],
    own_totals: Sequence[Total],
    all_totals: Sequence[Total],
    bind: Bindings,
) -> Iterator[str]:
    """The rows of one record, told apart by each facet.

    Those that are about sessions share one pass over the table: each row is repeated for each of them, and all are
    grouped at once, by hash.  GROUPING SETS would say the same, but the planner sorts the table for each set that may
    not fit into work_mem.  A facet that is not about sessions has a pass of its own, which is cheaper than to carry
    its keys along.  Groups of rows are numbered: a join that repeats one shows.
    """
    totals = {total.name: total.sql for total in own_totals}
    counted = [
        "count(*) as rows",
        *(f"{totals.get(t.name, _NOTHING[t.combined_by])} as {quote(t.name)}" for t in all_totals),
    ]
    of_sessions = [facet for facet in facets if facet.per_session]
    repeated = [f"({_text(facet.name)}, {facet.value}, {facet.category})" for facet in of_sessions]
    selected = [
        f"{bind(record.name, 'text')} as record",
        f"{_FACET} as facet",
        *_named_keys(record, link),
        f'{_VALUE} collate "C" as value',
        f"{_CATEGORY} as category",
        *counted,
        f"row_number() over () as {NUMBERED}",
    ]
    source, wanted = _rows_from(record)
    yield (
        f"    select\n      {_list(selected, 6)}\n    from {source}\n"
        f"    cross join lateral (values\n      {_list(repeated, 6)}\n"
        f"    ) as {_FACETS} ({_FACET}, {_VALUE}, {_CATEGORY})\n    where {wanted}\n"
        f"    group by {', '.join([_FACET, _VALUE, _CATEGORY, *_record_keys(record, link)])}"
    )
    for facet in facets:
        if not facet.per_session:
            selected = [
                bind(record.name, "text"),
                f"{_text(facet.name)}::text",
                *("null" for _ in link),
                f'{facet.value} collate "C"',
                facet.category,
                *counted,
                "null::bigint",
            ]
            yield (
                f"    select\n      {_list(selected, 6)}\n    from {source}\n"
                f"    where {conjunction([wanted, *([facet.where] if facet.where else [])])}\n"
                f"    group by {', '.join(facet.by)}\n    having {facet.having or 'true'}"
            )


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


# Beside the operator's columns in their SQL: names that no column has.
_FACETS, _FACET, _VALUE, _CATEGORY = (quote(f"our {name}") for name in ("facets", "facet", "value", "category"))

UNGROUPED: Final = "rows"
"""The facet of a record whose rows no dimension tells apart."""

_NOTHING: Final = {"sum": "0::bigint", "min": "null::float8", "max": "null::float8"}
"""What a total is where a record does not have it."""


def _combined(total: Total) -> str:
    """SQL that makes one total of those of several groups."""
    combined = f"{total.combined_by}({quote(total.name)})"
    return f"{combined}::bigint" if total.combined_by == "sum" else combined


def _cells(
    title: str,
    pipeline: Pipeline,
    bind: Bindings,
    source: tuple[str, str],
    groups: Sequence[Column],
    totals: Sequence[Total],
    spreads: Sequence[Spread] = (),
) -> Statement:
    """Count a source by the groups in one pass, then add up the rarest values of the open columns beyond the limit.

    The first part of `source` defines what the second names, and alone names tables of the platform: no name of ours
    is known there yet, so none can hide a table of the same name.
    """
    definition, name = source
    size = quote(totals[0].name)
    # A value is kept or folded whole, whatever else its rows are grouped by; those that the config knows come first.
    value = ", ".join(quote(c.name) for c in groups if c.open or c.name in ("record", "facet")) or "true"
    known_first = "\"category\" in ('other', 'invalid'), " if any(c.name == "category" for c in groups) else ""
    order = f"{known_first}weight desc, {value}"
    counted = [f"{column.sql} as {quote(column.name)}" for column in groups]
    counted += [f"{total.sql} as {quote(total.name)}" for total in totals]
    counted += [
        f"pg_catalog.array_agg({s.sql}) filter (where ({s.sql}) is not null) as {quote(s.name)}" for s in spreads
    ]
    weighed = ", ".join(quote(name) for name in (*(c.name for c in groups), *(t.name for t in totals)))
    places = ", ".join(str(n) for n in range(1, len(groups) + 1))
    kept = [
        f"case when place <= {VALUE_LIMIT} then {quote(c.name)} end as {quote(c.name)}" if c.open else quote(c.name)
        for c in groups
    ]
    summed = [f"{_combined(total)} as {quote(total.name)}" for total in totals]
    spread = [f"{_spread(one)} as {quote(one.name)}" for one in spreads]
    parts = [
        definition,
        f"cells as materialized (\n  select\n    {_list(counted, 4)}\n  from {name}\n  group by {places}\n)",
        f"weighed as (\n  select {weighed}, sum({size}) over (partition by {value}) as weight from cells\n)",
        f"placed as (\n  select *, dense_rank() over (order by {order}) as place from weighed\n)",
    ]
    folded = f"place > {VALUE_LIMIT}"
    sql = (
        f"with {marker(pipeline.name, title)}\n"
        + ", ".join(parts)
        + f"\nselect\n  {_list([*kept, *summed, *spread, f'{folded} as folded'])}\nfrom placed\n"
        + f"group by {places}, {folded}"
    )
    names = (*(c.name for c in groups), *(t.name for t in totals), *(s.name for s in spreads))
    folding = frozenset(column.name for column in groups if column.open)
    return Statement(title, sql, tuple(bind.values), names, folding, is_ours=False)


def _spread(spread: Spread) -> str:
    """SQL for the count and the percentiles of all values, the same beside every cell.

    As text, since the driver would ask the catalog what an array of floats is.
    """
    shares = ", ".join(str(percentile / 100) for percentile in PERCENTILES)
    return (
        f"(select (array[count(*)::float8] operator(pg_catalog.||)"
        f" pg_catalog.percentile_disc(array[{shares}]::float8[]) within group (order by v))::text[]"
        f" from cells, pg_catalog.unnest(cells.{quote(spread.name)}) v)"
    )
