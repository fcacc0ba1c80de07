"""Plan + database -> Snapshot.  The only module that runs measuring SQL.

A refusal that concerns one record becomes a fault of the record in the snapshot.  A fault that prevents the snapshot
raises `CollectionError`.
"""

from collections.abc import Mapping, Sequence

from exporter.measure.ending import changed_catalog, end
from exporter.measure.guard import open_snapshot
from exporter.measure.interpret import Counted, interpret
from exporter.measure.query_faults import is_uncountable
from exporter.measure.records import RowCount, UnknownValueError, count_rows, read_spreads, with_values_named
from exporter.measure.session import Session, subject_of
from exporter.model.advice import AsRead
from exporter.model.counting import (
    Cells,
    Part,
    Rows,
)
from exporter.model.fault import CollectionError, Fault
from exporter.model.judging import Readings
from exporter.model.sql import TableName
from exporter.plan.plan import Plan
from exporter.state.judge import judge
from exporter.state.snapshot import Snapshot, fold, folded
from exporter.state.swept import Swept


async def collect(plan: Plan, *, unattended: bool = False) -> Snapshot:
    """Measure one pipeline; raises CollectionError if there is no snapshot.

    `unattended` is for `serve`: refuse a role that may do more than read.
    """
    config = plan.pipeline
    async with open_snapshot(plan, unattended=unattended) as session:
        plan = session.plan
        measurable = tuple(name for name in config.records if name not in session.faults)
        counted = await _count(session, plan, measurable)
        restricted = await end(session)
    return snapshot_of(session, counted, restricted)


def snapshot_of(
    session: Session, counted: Counted, restricted: tuple[str, ...], swept: Swept | None = None
) -> Snapshot:
    """The judged snapshot of what a session has counted; `swept` if the numbers are sums of slices."""
    plan = session.plan
    config = plan.pipeline
    measured = interpret(plan, counted, session.facts)
    limit = plan.max_label_values
    faults = {name: counted.record_faults[name] for name in config.records if name in counted.record_faults}
    readings = Readings(
        config,
        session.clock.timestamp(),
        {metric: fold(metric, values, limit) for metric, values in measured.items() if values},
        frozenset(config.records) - faults.keys(),
    )
    return Snapshot(
        readings=readings,
        record_faults=faults,
        part_faults=counted.part_faults,
        restricted=restricted,
        folded={m.full_name: folded(m, values, limit) for m, values in measured.items() if m.open_label},
        judgement=judge(
            plan.dimensions, readings, frozenset(faults), frozenset(counted.part_faults), restricted, swept
        ),
        swept=swept,
        replica_lag=None if session.lag is None else session.lag.total_seconds(),
        clock_offset=session.clock_offset,
        identity=session.identity,
        found={name: TableName(schema, name).written for name, schema in session.schemas.items()},
        read=AsRead(plan.pipeline, plan.links),
    )


async def _count(session: Session, plan: Plan, names: Sequence[str]) -> Counted:
    """Count everything; where the server refuses, count records and parts apart, to lose only the culprit."""
    faults = dict(session.faults)
    of_rows: dict[str, RowCount] = {}
    for name in names:
        counted = await count_rows(session, plan, name)
        if isinstance(counted, Fault):
            faults[name] = counted
        else:
            of_rows[name] = counted
    part_faults = dict(session.part_faults)
    parts = _left(plan, part_faults)
    pipeline = f"pipelines.{plan.pipeline.name}"
    together = await _count_sessions(session, plan, of_rows, parts, pipeline)
    if isinstance(together, Fault):
        session.begin_asking_apart()
        part_faults |= await _part_faults(session, plan, parts)
        parts = _left(plan, part_faults)
        alone = await _count_sessions(session, plan, {}, parts, f"{pipeline}.sessions")
        if isinstance(alone, Fault):
            raise CollectionError(alone)
        culprits = await _record_faults(session, plan, of_rows, parts)
        if not culprits and len(part_faults) == len(session.part_faults):
            # Each record is accepted alone, but not all together: there is no culprit, and no snapshot.
            raise CollectionError(together)
        faults |= culprits
        of_rows = {name: counted for name, counted in of_rows.items() if name not in culprits}
        together = await _count_sessions(session, plan, of_rows, parts, pipeline)
        if isinstance(together, Fault):
            raise CollectionError(together)
    sessions, of_record = together
    return Counted(sessions, of_record, faults, part_faults)


def _left(plan: Plan, lost: Mapping[str, Fault]) -> tuple[Part, ...]:
    return tuple(part for part in plan.parts if part.path not in lost)


async def _record_faults(
    session: Session, plan: Plan, of_rows: Mapping[str, RowCount], parts: Sequence[Part]
) -> dict[str, Fault]:
    """The faults of records that the server refuses to count beside the sessions, by name."""
    faults = {}
    for name, counted in of_rows.items():
        subject = subject_of(plan, name)
        found = session.out_of_time(subject) or await _count_sessions(session, plan, {name: counted}, parts, subject)
        if isinstance(found, Fault):
            faults[name] = found
    return faults


async def _part_faults(session: Session, plan: Plan, parts: Sequence[Part]) -> dict[str, Fault]:
    """The faults of refused parts, by path.  Parts are asked for apart only if the joint statement is refused."""
    pipeline = f"pipelines.{plan.pipeline.name}"
    if not parts or not isinstance(await _count_sessions(session, plan, {}, parts, pipeline), Fault):
        return {}
    faults = {}
    for part in parts:
        subject = f"{pipeline}.{part.path}"
        found = session.out_of_time(subject) or await _count_sessions(session, plan, {}, (part,), subject)
        if isinstance(found, Fault):
            faults[part.path] = found
    return faults


async def _count_sessions(
    session: Session, plan: Plan, of_rows: Mapping[str, RowCount], parts: Sequence[Part], subject: str
) -> tuple[Cells, dict[str, tuple[Cells, Rows]]] | Fault:
    """The cells of the sessions, and for each record the cells of its sessions and its rows."""
    names = tuple(of_rows)
    values = {name: counted.values for name, counted in of_rows.items()}
    statement, delays = plan.sessions(names, parts, values), plan.delays(names, parts)
    rows = await session.attempt(statement, subject, is_uncountable)
    if isinstance(rows, Fault):
        return rows
    spread = await session.attempt(delays, subject, is_uncountable) if delays else []
    if isinstance(spread, Fault):
        return spread
    try:
        cells = with_values_named(statement.read(rows), values)
    except UnknownValueError:
        # In one snapshot a value appears between two statements only if a catalog changes, as by ALTER TYPE.
        raise CollectionError(changed_catalog(f"pipelines.{plan.pipeline.name}")) from None
    spreads = read_spreads(delays, spread)
    of_record = {}
    for name, counted in of_rows.items():
        of_one = cells.only("subject", [name])
        if not counted.agrees_with(of_one):
            return repeated(subject)
        of_record[name] = (of_one.only("facet", [None]), counted.with_sessions(of_one, spreads))
    return cells.only("subject", [None]), of_record


def repeated(subject: str) -> Fault:
    """The fault of a join with repeated rows: every count of the join is wrong."""
    return Fault(
        "duplicate_key",
        f"{subject}: several sessions have the same key, so nothing is counted: REINDEX the unique index of "
        "sessions.key, or name columns in sessions.key that are unique for each session",
    )
