"""Config -> Plan: writes every statement of a collection, and knows how to read its rows.  No I/O."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.model.counting import CatalogMeasure, Cells, Part, Rows, Scope
from exporter.model.dimension import Dimension
from exporter.model.keys import Link, key_columns, presumed_link
from exporter.model.sections import Config, Database, Pipeline, Record
from exporter.model.sql import (
    Bindings,
)
from exporter.model.states import (
    GAP_REASONS,
    GapReason,
)
from exporter.model.values import KeyPath
from exporter.plan.catalog import CatalogReading, catalog_statement, lock_numbers, unique_key
from exporter.plan.expressions import Expression, expressions, planned
from exporter.plan.fragments import SessionKey
from exporter.plan.gaps import gap_count, gap_cursor, gap_tally, places_statement, states_cursor
from exporter.plan.replica import STATUS_SQL
from exporter.plan.rows import facets_of, owners_statement, rows_statement
from exporter.plan.sessions import sessions_statement
from exporter.plan.statement import Cursor, Statement
from exporter.plan.transaction import (
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
    look: tuple[str, ...] = STATUS_SQL

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
        return catalog_statement(self.pipeline, self.look, self.catalog_readings)

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
        needed, room = lock_numbers(self.pipeline, bind)
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
        return unique_key(self.pipeline)

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
        return sessions_statement(scope, self.links, self.dimensions)

    def owners(self, parts: Sequence[Part]) -> Statement:
        """How many sessions there are for which `parts` hold, over all of them, wherever in time."""
        return owners_statement(Scope(self.pipeline, (), tuple(parts)), self.dimensions)

    def rows(self, records: Sequence[str], parts: Sequence[Part] = ()) -> Statement:
        """One pass over the tables of `records` and over the keys of all sessions."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return rows_statement(scope, self.links, self.dimensions)

    def gaps(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Cursor:
        """Every session that is a gap because of one of `records` for one of `reasons`: the longest due first.

        Its columns: the number of the session, which none shares, each part of the key as text, the completion as text
        (NULL where there is none), and for each of `records` the reason, NULL where it is none.
        """
        return gap_cursor(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, reasons)

    def gap_count(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Statement:
        """How many rows `gaps` has, and of how many sessions."""
        return gap_count(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, reasons)

    def gap_tally(self, records: Sequence[str], reasons: Collection[GapReason] = GAP_REASONS) -> Statement:
        """The same by record and reason, for those sessions of `gaps` that have a key without NULL.

        Its one row: what `gap_count` has, how many they are, how many have a NULL in their key, and for each of
        `records` and each of GAP_REASONS how many sessions.
        """
        return gap_tally(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, reasons)

    def states_of(self, records: Sequence[str], keys: Sequence[SessionKey]) -> Cursor:
        """What the sessions of these keys are now, as far as they are in the window or the cohort, in no order.

        Its columns: the place of the key in `keys`, from 0 on; whether the session is in the window, and eligible; and
        for each of `records` its state.
        """
        return states_cursor(Scope(self.pipeline, _pick(self.pipeline, records), ()), self.links, keys)

    def places_of(self, keys: Sequence[SessionKey]) -> Statement:
        """The places in `keys`, from 0 on, of those sessions that the table has, wherever in time."""
        return places_statement(self.pipeline, keys)

    def rows_of(self, record: str, cells: Cells) -> Rows:
        """The rows of one record, from the cells of `rows(...)`."""
        facets = facets_of(self.dimensions, self.pipeline.records[record], Bindings())
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
