"""Statements of a plan -> counts.  A refused record or part is counted apart, to lose only the culprit."""

from collections.abc import Mapping, Sequence

from exporter.measure.ending import changed_catalog
from exporter.measure.interpret import Counted
from exporter.measure.query_faults import is_uncountable
from exporter.measure.records import CONDITION, RowCount, UnknownValueError, count_rows, read_spreads, with_values_named
from exporter.measure.session import Session, subject_of
from exporter.model.counting import SEGMENTED, Cells, Part, Rows
from exporter.model.fault import CollectionError, Fault
from exporter.plan.plan import Plan


async def count_all(session: Session, plan: Plan, names: Sequence[str]) -> Counted:
    """Count everything; where the server refuses, count records and parts apart, to lose only the culprit."""
    faults = dict(session.faults)
    of_rows: dict[str, RowCount] = {}
    for name in names:
        counted = await count_rows(session, plan, name) if name in plan.pipeline.stored else CONDITION
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
    return cells.only("subject", [None, SEGMENTED]), of_record


def repeated(subject: str) -> Fault:
    """The fault of a join with repeated rows: every count of the join is wrong."""
    return Fault(
        "duplicate_key",
        f"{subject}: several sessions have the same key, so nothing is counted: REINDEX the unique index of "
        "sessions.key, or name columns in sessions.key that are unique for each session",
    )
