"""Plan + database -> Snapshot.  The only module that runs measuring SQL.

A refusal that concerns one record becomes a fault of the record in the snapshot.  A fault that prevents the snapshot
raises `CollectionError`.
"""

from collections.abc import Iterator, Mapping, Sequence

from exporter.measure.ending import end
from exporter.measure.guard import open_snapshot
from exporter.measure.interpret import Counted, interpret
from exporter.measure.query_faults import is_uncountable
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
from exporter.plan.rows import JOINED
from exporter.plan.sessions import NUMBERED
from exporter.state.judge import judge
from exporter.state.snapshot import Snapshot, fold, folded


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
        judgement=judge(plan.dimensions, readings, frozenset(faults), frozenset(counted.part_faults), restricted),
        replica_lag=None if session.lag is None else session.lag.total_seconds(),
        identity=session.identity,
        found={name: TableName(schema, name).written for name, schema in session.schemas.items()},
        read=AsRead(plan.pipeline, plan.links),
    )


async def _count(session: Session, plan: Plan, names: Sequence[str]) -> Counted:
    """Count all records in joint statements; if rejected, count parts and records apart to lose only the culprit."""
    pipeline = f"pipelines.{plan.pipeline.name}"
    part_faults = dict(session.part_faults)
    parts = _left(plan, part_faults)
    counted = together = await _count_records(session, plan, names, parts, pipeline)
    if isinstance(together, Fault):
        session.begin_asking_apart()
        found = await _part_faults(session, plan, parts)
        if found:
            part_faults |= found
            parts = _left(plan, part_faults)
            counted = await _count_records(session, plan, names, parts, pipeline)
    faults = dict(session.faults)
    if not isinstance(counted, Fault):
        sessions, rows = counted
        of_record = {name: (sessions, plan.rows_of(name, rows)) for name in names}
    else:
        alone = plan.sessions((), parts)
        sessions = alone.read(await session.run(alone, f"{pipeline}.sessions"))
        of_record, apart = await _count_records_apart(session, plan, names, parts)
        if not apart:
            # Each record is accepted alone, but not all together: there is no culprit, and no snapshot.
            raise CollectionError(counted)
        faults |= apart
    return Counted(sessions, of_record, faults, part_faults)


def _left(plan: Plan, lost: Mapping[str, Fault]) -> tuple[Part, ...]:
    return tuple(part for part in plan.parts if part.path not in lost)


async def _count_records_apart(
    session: Session, plan: Plan, names: Sequence[str], parts: Sequence[Part]
) -> tuple[dict[str, tuple[Cells, Rows]], dict[str, Fault]]:
    counted, faults = {}, {}
    for name in names:
        subject = subject_of(plan, name)
        found = session.out_of_time(subject) or await _count_records(session, plan, (name,), parts, subject)
        if isinstance(found, Fault):
            faults[name] = found
        else:
            counted[name] = (found[0], plan.rows_of(name, found[1]))
    return counted, faults


async def _part_faults(session: Session, plan: Plan, parts: Sequence[Part]) -> dict[str, Fault]:
    """The faults of refused parts, by path.  Parts are asked for apart only if the joint statement is refused."""
    pipeline = f"pipelines.{plan.pipeline.name}"
    if not parts or not isinstance(await _count_parts(session, plan, parts, pipeline), Fault):
        return {}
    faults = {}
    for part in parts:
        subject = f"{pipeline}.{part.path}"
        found = session.out_of_time(subject) or await _count_parts(session, plan, (part,), subject)
        if isinstance(found, Fault):
            faults[part.path] = found
    return faults


async def _count_parts(session: Session, plan: Plan, parts: Sequence[Part], subject: str) -> Fault | None:
    """The fault if the server refuses to compute parts; None if the server accepts."""
    for statement in (plan.sessions((), parts), plan.owners(parts)):
        rows = await session.attempt(statement, subject, is_uncountable)
        if isinstance(rows, Fault):
            return rows
    return None


async def _count_records(
    session: Session, plan: Plan, names: Sequence[str], parts: Sequence[Part], subject: str
) -> tuple[Cells, Cells] | Fault:
    cells = []
    statements = (plan.sessions(names, parts), *((plan.rows(names, parts),) if names else ()))
    for statement in statements:
        rows = await session.attempt(statement, subject, is_uncountable)
        if isinstance(rows, Fault):
            return rows
        cells.append(statement.read(rows))
    sessions, rows_of_records = cells[0], cells[1] if names else Cells((), ())
    if not (is_unrepeated(sessions, "sessions") and all(map(is_unrepeated, _by_record(rows_of_records, names)))):
        return repeated(subject)
    return sessions, rows_of_records


def _by_record(rows: Cells, names: Sequence[str]) -> Iterator[Cells]:
    return (rows.only("record", [name]) for name in names)


def is_unrepeated(cells: Cells, joined: str = JOINED) -> bool:
    """Whether a join has kept the number of rows."""
    return cells.total(joined) == (cells.newest(NUMBERED) or 0)


def repeated(subject: str) -> Fault:
    """The fault of a join with repeated rows: every count of the join is wrong."""
    return Fault(
        "duplicate_key",
        f"{subject}: several sessions have the same key, so nothing is counted: REINDEX the unique index of "
        "sessions.key, or name columns in sessions.key that are unique for each session",
    )
