"""Config -> Plan: every statement of a collection, and the reading of the rows.  No I/O."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from exporter.model.counting import CatalogMeasure, Facet, Part, Repeats, Scope, Values
from exporter.model.dimension import Dimension
from exporter.model.judging import Readings
from exporter.model.keys import Link, computed_key_columns, key_columns, presumed_link
from exporter.model.listing import Members, RowList
from exporter.model.ranges import Keyed, Started
from exporter.model.sections import Config, Database, Pipeline, Record
from exporter.model.sql import (
    Bindings,
)
from exporter.model.values import KeyPath
from exporter.plan.catalog import (
    CatalogReading,
    catalog_statement,
    covering_index,
    helpful_indexes,
    key_proof,
    lock_numbers,
    unique_in,
    unique_key,
)
from exporter.plan.control import Control
from exporter.plan.expressions import Expression, expressions, has_sub_query, planned
from exporter.plan.fragments import SessionKey
from exporter.plan.gaps import (
    EVERY_GAP,
    GapFilter,
    gap_count,
    gap_cursor,
    gap_tally,
    places_statement,
    segment_size,
    states_cursor,
)
from exporter.plan.joined import NO_INDEX, Indexed, Region, Times, segment_of
from exporter.plan.lists import Selection, primary_key, selected_rows, selected_sessions
from exporter.plan.replica import STATUS_SQL
from exporter.plan.rows import facets_of, many_values_statement, presumed_values, repeats_statement, rows_statement
from exporter.plan.sessions import delays_statement, sessions_statement
from exporter.plan.slices import (
    earlier_start,
    later_key,
    owners_statement,
    rows_in,
    rows_near,
    sessions_with,
    sliceable,
    started_in,
)
from exporter.plan.statement import Cursor, Statement
from exporter.plan.transaction import (
    END,
    IDENTITY,
    LOCKS,
    NO_TRANSACTION_TIMEOUT,
    USUAL_DEADLOCK_TIMEOUT,
    WATCH_CLIENT,
    before,
    begin,
    busy,
    found_tables,
    lock,
    look_again,
    patience,
    search,
    shape,
    silent_types,
    tables_of,
    take_snapshot,
    what_was_read,
)

MakeRegion = Callable[[Bindings], Region]
"""Some of the sessions, for the statement with these bindings."""

SESSIONS: Final = "sessions"
"""The section of the sessions, below the pipeline."""

KeyPlace = tuple[str | None, int]
"""A column of a key: of a record, or of the sessions (None), and its place in the key."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements of collecting one pipeline; built once, from the config alone.

    `links`: the comparison of each record key with `sessions.key`; presumed until the types are known.  `look`: the SQL
    for the replica lag on this kind of server.
    `unique`: the columns of a record that a unique index makes unique; `indexed`: what indexes spare; both presumed
    empty until the catalog is read.  `control`: a platform of known numbers, counted in each collection.
    `others`: the databases of records elsewhere, by name.  `place`: the keys of the section whose table stands for the
    sessions.  `told`: the records elsewhere as the config has them, where the statements have their rows.
    `keeps_row_keys`: rows elsewhere are read with their primary key, for a list.
    The order of a collection: `before`; `begin`; the locks, still without a snapshot; `catalog`, with the snapshot and
    the clock; `keys`; `indexes`; `IDENTITY`; the planned expressions; for each record `rows(...)`; `sessions(...)`;
    `delays(...)`; `touched`.
    """

    pipeline: Pipeline
    database: Database
    dimensions: tuple[Dimension, ...]
    max_label_values: int
    links: Mapping[str, Link]
    look: tuple[str, ...] = STATUS_SQL
    unique: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
    indexed: Indexed = NO_INDEX
    types: Mapping[KeyPlace, str] = field(default_factory=dict)
    others: Mapping[str, Database] = field(default_factory=dict)
    place: str = SESSIONS
    told: Mapping[str, Record] = field(default_factory=dict)
    keeps_row_keys: bool = False
    control: "Control[Plan] | None" = None

    def about(self, pipeline: Pipeline) -> "Plan":
        """The plan with other tables."""
        return replace(self, pipeline=pipeline)

    @property
    def is_of_sessions(self) -> bool:
        """Whether the plan measures sessions, and not only reads the rows of a record for another database."""
        return self.place == SESSIONS

    @property
    def subject(self) -> str:
        """The path of the sessions in the config, for messages."""
        return f"pipelines.{self.pipeline.name}.{self.place}"

    @property
    def sections(self) -> dict[str, Database]:
        """The databases of the pipeline and of its records, by name."""
        return {self.pipeline.database: self.database, **self.others}

    @property
    def as_written(self) -> Pipeline:
        """The pipeline with every record as the config has it."""
        records = {**self.pipeline.records, **self.told}
        return self.pipeline.model_copy(update={"records": records}) if self.told else self.pipeline

    def within(self, longest: timedelta) -> "Plan":
        """The plan with a statement_timeout of at most this length."""
        shorter = min(self.database.statement_timeout, longest)
        return replace(self, database=self.database.model_copy(update={"statement_timeout": shorter}))

    def over(self, pipeline: Pipeline, told: Mapping[str, Record]) -> "Plan":
        """The plan over the rows of records elsewhere; `told` has these records as in the config."""
        return replace(self, pipeline=pipeline, told=told)

    def looking(self, look: tuple[str, ...]) -> "Plan":
        """The plan with other SQL for the replica lag."""
        return replace(self, look=look)

    def linked(self, links: Mapping[str, Link], types: Mapping[KeyPlace, str]) -> "Plan":
        """The plan with other links, and the types of the key columns."""
        return replace(self, links={**self.links, **links}, types=types)

    @property
    def begin(self) -> Statement:
        """Begins the guarded transaction."""
        return begin(self.database, has_sub_queries=any(has_sub_query(one.sql) for one in self.expressions))

    @property
    def lock_sessions(self) -> Statement:
        """Locks the table of sessions."""
        return lock(self.pipeline, "sessions", self.pipeline.sessions.table)

    @property
    def lock_records(self) -> dict[str, Statement]:
        """Locks the record tables, by the name of the record."""
        return {name: lock(self.pipeline, name, record.table) for name, record in self.pipeline.here.items()}

    @property
    def snapshot(self) -> Statement:
        """Takes the snapshot."""
        return take_snapshot(self.pipeline.name)

    @property
    def catalog(self) -> Statement:
        """Reads the catalog and the time of the snapshot.

        One row: the time, the replication status, sections with a foreign table, sections with an abbreviated time
        zone, the needed locks, the size of the server's lock table, then the `catalog_readings`.
        """
        return catalog_statement(self.pipeline, self.look, self.catalog_readings)

    @property
    def catalog_readings(self) -> tuple["CatalogReading", ...]:
        """The catalog readings of the dimensions."""
        return tuple(
            CatalogReading(measure, record)
            for dimension in self.dimensions
            for measure in dimension.measures
            if isinstance(measure, CatalogMeasure)
            for record in self.pipeline.here
        )

    @property
    def lock_count(self) -> Statement:
        """Reads the largest number of locks of a collection, and the size of the server's lock table."""
        bind = Bindings()
        needed, room = lock_numbers(self.pipeline, bind)
        return Statement("locks", f"select {needed}, {room}", tuple(bind.values))

    @property
    def computed(self) -> tuple[Expression, ...]:
        """The computed columns."""
        return tuple(one for one in self.expressions if one.is_column)

    @property
    def keys(self) -> Statement:
        """Reads the types of key columns of tables."""
        bind = Bindings()
        sql = key_columns(self.pipeline, bind)
        return Statement("types of keys", sql, tuple(bind.values))

    @property
    def computed_keys(self) -> Statement:
        """Reads the types of computed key columns, in the form of `keys`."""
        bind = Bindings()
        sql = computed_key_columns(self.pipeline, bind)
        return Statement("types of computed keys", sql, tuple(bind.values), is_ours=False)

    @property
    def unique_key(self) -> Statement:
        """Checks that `sessions.key` is unique; may read the table, and so call functions of a view."""
        return unique_key(self.pipeline)

    @property
    def key_proof(self) -> Statement:
        """Reads whether an index makes `sessions.key` unique."""
        return key_proof(self.pipeline)

    def unique_in(self, part: Keyed) -> Statement:
        """Checks that `sessions.key` is unique in a range of keys."""
        return unique_in(self.pipeline, part, self.types[None, 0])

    @property
    def search(self) -> Statement | None:
        """Sets the search_path for the SQL of the config; None for only pg_catalog."""
        return search(self.database.search_path) if self.database.search_path else None

    @property
    def touched(self) -> Statement:
        """Lists the tables that the transaction has read."""
        return what_was_read(self.pipeline, is_strict=self.database.row_security == "strict")

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions of the config that a collection computes."""
        parts = {part.path for part in self.parts}
        return tuple(
            one
            for one in expressions(self.pipeline, self.dimensions)
            if one.record or (self.is_of_sessions and (is_of_every_session(one) or self.part_of(one) in parts))
        )

    @staticmethod
    def part_of(expression: Expression) -> str:
        """The path of the part that an expression about sessions belongs to."""
        return ".".join(map(str, expression.path))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that may fail alone, beside the records."""
        return tuple(part for dimension in self.dimensions for part in dimension.parts(self.pipeline))

    @property
    def repeats(self) -> tuple[tuple[str, Repeats], ...]:
        """What must not repeat, by record."""
        return tuple(
            (name, one)
            for name, record in self.pipeline.records.items()
            for dimension in self.dimensions
            for one in dimension.repeats(record)
        )

    @property
    def indexes(self) -> Statement:
        """Reads which indexes spare work: for `with_indexes`."""
        records = self.pipeline.records
        unique = [(records[name], columns) for name, columns in self._asked]
        return helpful_indexes(self.pipeline, unique, [records[name] for name in self._plain])

    @property
    def _asked(self) -> list[tuple[str, tuple[str, ...]]]:
        by_key = [(name, tuple(p.column for p in self.pipeline.records[name].session_key)) for name in self._plain]
        return [*by_key, *((name, one.columns) for name, one in self.repeats if name in self.pipeline.here)]

    @property
    def _plain(self) -> list[str]:
        """The records whose key is compared without a cast, by which different values may become one."""
        return [name for name, record in self.pipeline.here.items() if not any(p.cast for p in record.session_key)]

    def with_indexes(self, row: Sequence[bool]) -> "Plan":
        """The plan with what `indexes` found."""
        asked, plain = self._asked, self._plain
        unique = frozenset(one for one, found in zip(asked, row, strict=False) if found)
        single = frozenset(name for name, columns in asked[: len(plain)] if (name, columns) in unique)
        ordered = frozenset(name for name, found in zip(plain, row[len(asked) :], strict=False) if found)
        return replace(self, unique=unique, indexed=Indexed(single, ordered))

    def sessions(self, records: Sequence[str], parts: Sequence[Part] = (), values: Values | None = None) -> Statement:
        """One pass over all sessions and over the tables of `records`; `values` are the values to tell apart."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return sessions_statement(scope, self.links, self.dimensions, values or {}, self.indexed)

    def totals_of(self, part: Part) -> frozenset[str]:
        """The totals of `sessions` that a part has to itself."""
        names, others = tuple(self.pipeline.records), [one for one in self.parts if one != part]
        kept = {total.name for total in self.sessions(names, others).totals}
        return frozenset(total.name for total in self.sessions(names, self.parts).totals) - kept

    def sessions_in(self, region: MakeRegion, values: Values) -> Statement:
        """One pass over the sessions of a region, and over their rows by key."""
        scope = Scope(self.pipeline, tuple(self.pipeline.records.values()), self.parts)
        return sessions_statement(scope, self.links, self.dimensions, values, self.indexed, region)

    def started_in(self, part: Started, bounds: Sequence[datetime] = (), times: Times = "window") -> MakeRegion:
        """The region of a range of starts; `bounds` are the starts of slices."""
        return started_in(self.pipeline, part, bounds, times)

    def sessions_with(
        self, keys: Sequence[SessionKey], starts: Sequence[Started], bounds: Sequence[datetime]
    ) -> MakeRegion:
        """The region of the sessions with these keys that started in one of the ranges."""
        kinds = [self.types[None, place] for place in range(len(self.pipeline.sessions.key))]
        return sessions_with(self.pipeline, kinds, keys, starts, bounds)

    def rows_near(self, record: str, region: MakeRegion) -> Statement:
        """The rows of the sessions of a region: which values there are."""
        section, link = self.pipeline.records[record], self.links[record]
        return rows_statement(
            self.pipeline, section, link, self.dimensions, rows_near(self.pipeline, section, link, region)
        )

    def rows_in(self, record: str, part: Keyed) -> Statement:
        """The rows of a record in a range of keys."""
        section = self.pipeline.records[record]
        only = rows_in(section, part, self.types[record, 0])
        return rows_statement(self.pipeline, section, self.links[record], self.dimensions, only)

    def repeated_in(self, record: str, repeats: Repeats, part: Keyed) -> Statement | None:
        """Counts repeated rows in a range of keys; None where a unique index allows none."""
        if (record, repeats.columns) in self.unique:
            return None
        section = self.pipeline.records[record]
        return repeats_statement(self.pipeline, section, repeats, rows_in(section, part, self.types[record, 0]))

    def owners_in(self, record: str, part: Keyed) -> Statement:
        """Counts the rows of a record in a range of keys by their session."""
        scope = Scope(self.pipeline, _pick(self.pipeline, [record]), self.parts)
        return owners_statement(scope, self.links[record], self.dimensions, part, self.types[record, 0])

    def earlier_start(self, high: datetime, sessions: int) -> Statement:
        """The start of the slice with so many sessions before `high`."""
        return earlier_start(self.pipeline, high, sessions)

    def later_key(self, record: str, part: Keyed, rows: int) -> Statement:
        """The first key after so many rows of a range."""
        return later_key(self.pipeline, self.pipeline.records[record], self.types[record, 0], part, rows)

    @property
    def sliceable(self) -> Statement:
        """Reads whether slices are cheap, and the estimated sizes of the tables."""
        return sliceable(self.pipeline)

    def covering_index(self, record: str) -> Statement:
        """Reads whether an index has every column that a collection reads of a record, and its size."""
        return covering_index(self.pipeline, self.pipeline.records[record])

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of the facts about a session that tell rows apart."""
        scope = Scope(self.pipeline, (), self.parts)
        return tuple(fact.name for d in self.dimensions for fact in d.session_facts(scope) if fact.of_rows)

    def rows(self, record: str) -> Statement:
        """One pass over the table of a record, without a join."""
        return rows_statement(self.pipeline, self.pipeline.records[record], self.links[record], self.dimensions)

    def facets(self, record: str) -> tuple[Facet, ...]:
        """The facets of a record."""
        return facets_of(self.dimensions, self.pipeline.records[record])

    def many_values(self, record: str, facets: Sequence[Facet]) -> Statement:
        """Counts the sessions by the values of facets with more values than `sessions` can tell apart."""
        scope = Scope(self.pipeline, _pick(self.pipeline, [record]), ())
        return many_values_statement(scope, self.links[record], facets)

    def repeated(self, record: str, repeats: Repeats) -> Statement | None:
        """Counts repeated rows; None where a unique index allows none."""
        is_unique = (record, repeats.columns) in self.unique
        return None if is_unique else repeats_statement(self.pipeline, self.pipeline.records[record], repeats)

    def delays(self, records: Sequence[str], parts: Sequence[Part] = ()) -> Statement | None:
        """How the numbers of the cohort's sessions are spread; None if nothing is."""
        scope = Scope(self.pipeline, _pick(self.pipeline, records), tuple(parts))
        return delays_statement(scope, self.links, self.dimensions, self.indexed)

    def gaps(self, records: Sequence[str], wanted: GapFilter = EVERY_GAP) -> Cursor:
        """Every session with a wanted gap in `records`, the longest due first.

        Columns: the unique number of the session, each part of the key as text, the completion as text (NULL without a
        completion), with `has_segments` the segment, and for each of `records` the reason (NULL without a gap).
        """
        scope = Scope(self.pipeline, _pick(self.pipeline, records), self.parts)
        return gap_cursor(scope, self.links, wanted, segment_of(scope, self.dimensions))

    @property
    def has_segments(self) -> bool:
        """Whether the config tells segments of sessions apart."""
        return segment_of(Scope(self.pipeline, (), self.parts), self.dimensions) is not None

    def gap_count(self, records: Sequence[str], wanted: GapFilter = EVERY_GAP) -> Statement:
        """Counts the rows and the sessions of `gaps`."""
        return gap_count(*self._narrow(records, wanted))

    def gap_tally(self, records: Sequence[str], wanted: GapFilter = EVERY_GAP) -> Statement:
        """Counts `gaps` by record and reason, for sessions without NULL in the key.

        One row: the columns of `gap_count`, the sessions without and with NULL in the key, and for each of `records`
        and each of GAP_REASONS the number of sessions.
        """
        return gap_tally(*self._narrow(records, wanted))

    def segment_size(self, wanted: GapFilter) -> Statement:
        """Counts the analysed sessions of the wanted segment."""
        return segment_size(*self._narrow((), wanted))

    def _narrow(
        self, records: Sequence[str], wanted: GapFilter
    ) -> tuple[Scope, Mapping[str, Link], GapFilter, str | None]:
        """What a count of gaps reads: the column of the segment only for one segment."""
        parts = () if wanted.segment is None else self.parts
        scope = Scope(self.pipeline, _pick(self.pipeline, records), parts)
        return scope, self.links, wanted, segment_of(scope, self.dimensions)

    @property
    def lists(self) -> dict[str, Members]:
        """The members of every number that has a list, by name."""
        return {name: members for dimension in self.dimensions for name, members in dimension.every_list.items()}

    def explained(self, name: str, subject: str, readings: Readings) -> float:
        """The number whose members are listed; raises UnmeasuredError."""
        return self._with_list(name).explained(name, subject, readings)

    def members(self, name: str, subject: str, row_key: Sequence[str] = ()) -> Selection:
        """The members of a number, for a record, a part or the pipeline; `row_key` as `primary_key` found."""
        dimension, parts = self._with_list(name), self.read_by(name, subject)
        members = dimension.every_list[name]
        if isinstance(members, RowList):
            scope = Scope(self.pipeline, _pick(self.pipeline, [subject]), parts)
            return selected_rows(name, members, dimension, scope, self.links[subject], row_key)
        segment = segment_of(Scope(self.pipeline, (), self.parts), self.dimensions)
        return selected_sessions(name, members, dimension, Scope(self.pipeline, (), parts), subject, segment)

    def read_by(self, name: str, subject: str) -> tuple[Part, ...]:
        """The parts that the list of a number reads."""
        dimension = self._with_list(name)
        members, parts = dimension.every_list[name], dimension.parts(self.pipeline)
        if isinstance(members, RowList):
            return parts if members.by_session else ()
        return tuple(part for part in parts if not subject or part.name == subject)

    def _with_list(self, name: str) -> Dimension:
        [found] = [dimension for dimension in self.dimensions if name in dimension.every_list]
        return found

    def primary_key(self, record: str) -> Statement:
        """Reads the columns of the primary key of a record table."""
        return primary_key(self.pipeline.records[record], self.pipeline.name)

    def states_of(self, records: Sequence[str], keys: Sequence[SessionKey], wanted: GapFilter = EVERY_GAP) -> Cursor:
        """The current states of the sessions with these keys, in the window or the cohort, unordered.

        Columns: the place of the key in `keys`, from 0; whether the session is in the window; whether eligible;
        whether of the wanted segment; the state of each of `records`.
        """
        scope, links, wanted, segment = self._narrow(records, wanted)
        return states_cursor(scope, links, keys, wanted, segment)

    def places_of(self, keys: Sequence[SessionKey]) -> Statement:
        """The places in `keys`, from 0, of rows of any time, and whether each row is in the window.

        With `sessions.where` a row of the table of sessions may be no session.
        """
        return places_statement(self.pipeline, keys)

    def statements(self, values: Values | None = None) -> Iterator[Statement]:
        """The statements of a collection without faults, in order; `values`: as found, or else as presumed."""
        names, stored = tuple(self.pipeline.records), tuple(self.pipeline.stored)
        told = values or {n: {facet.name: presumed_values(facet) for facet in self.facets(n)} for n in stored}
        yield before(self.look)
        if self.database.busy_when:
            yield from (begin(self.database), busy(self.database.busy_when), END)
        yield found_tables(tables_of(self.pipeline), self.database.search_path)
        yield self.begin
        yield NO_TRANSACTION_TIMEOUT
        yield WATCH_CLIENT
        yield LOCKS
        yield self.lock_sessions
        yield patience(self.database, USUAL_DEADLOCK_TIMEOUT)
        yield from self.lock_records.values()
        yield patience(self.database, USUAL_DEADLOCK_TIMEOUT)
        yield self.snapshot
        yield self.catalog
        if self.computed:
            yield from filter(None, (self.search,))
            yield planned(self.computed)
            yield self.computed_keys
            yield search(())
        yield self.keys
        yield self.indexes
        yield IDENTITY
        if self.search:
            yield self.search
        yield self.unique_key
        yield planned(self.expressions)
        yield silent_types((), ())
        for name in stored:
            yield self.rows(name)
            yield from filter(None, (self.repeated(name, one) for of, one in self.repeats if of == name))
        yield self.sessions(names, self.parts, told)
        yield from filter(None, (self.delays(names, self.parts),))
        if self.search:
            yield search(())
        yield self.touched
        yield shape(())
        yield END
        yield look_again(self.database)
        yield shape(())
        yield END


_OF_EVERY_SESSION: Final[frozenset[KeyPath]] = frozenset({("sessions", "eligible"), ("sessions", "where")})


def is_of_every_session(one: Expression) -> bool:
    """Whether nothing can be measured without an expression."""
    return one.record is None and (one.is_column or one.path in _OF_EVERY_SESSION)


def compile_plan(
    config: Config, pipeline: Pipeline, dimensions: tuple[Dimension, ...], control: "Control[Plan] | None" = None
) -> Plan:
    """The plan of one pipeline."""
    return Plan(
        pipeline=pipeline,
        database=config.databases[pipeline.database],
        dimensions=dimensions,
        max_label_values=config.collection.max_label_values,
        links={name: presumed_link(record) for name, record in pipeline.records.items()},
        others={name: config.databases[name] for name in dict.fromkeys(_elsewhere(pipeline))},
        control=control,
    )


def _elsewhere(pipeline: Pipeline) -> Iterator[str]:
    """The names of the databases of records elsewhere."""
    return (record.database for record in pipeline.records.values() if record.database is not None)


def compile_plans(
    config: Config, dimensions: tuple[Dimension, ...], control: "Control[Plan] | None" = None
) -> dict[str, Plan]:
    """The plan of each pipeline."""
    return {name: compile_plan(config, pipeline, dimensions, control) for name, pipeline in config.pipelines.items()}


def _pick(pipeline: Pipeline, names: Sequence[str]) -> tuple[Record, ...]:
    return tuple(pipeline.records[name] for name in names)
