"""The locks of a collection."""

import time
from typing import Final

from exporter.measure.query_faults import is_refused_lock
from exporter.measure.session import Session, subject_of
from exporter.model.fault import CollectionError, Fault
from exporter.plan.plan import Plan
from exporter.plan.statement import Statement
from exporter.plan.transaction import (
    LOCKS,
    patience,
)

_UNLOCK = Statement("unlock", "rollback to savepoint locks", returns_rows=False)

_SESSIONS: Final = ""
"""The table of sessions, among the names of records: the name of a record is never empty."""


async def hold_locks(session: Session, plan: Plan) -> dict[str, Fault]:
    """Lock every table of the plan; returns the faults of records whose table cannot be locked.

    The exporter waits up to `lock_timeout` for the first table, without holding another lock.  If a later table is
    busy, the exporter releases every lock and begins with the busy table, once for each table: no transaction waits
    for a waiting exporter.  For a view the wait is short: a view locks the tables beneath one by one.  After
    `lock_timeout` in total, no table moves to the front.
    """
    statements = {_SESSIONS: plan.lock_sessions, **plan.lock_records}
    order = [name for name in statements if name not in session.faults]
    faults: dict[str, Fault] = {}
    been_first: set[str] = set()
    patient_until = time.monotonic() + plan.database.lock_timeout.total_seconds()
    await session.run(LOCKS, "begin")
    held = 0
    while held < len(order):
        name = order[held]
        subject = subject_of(plan, name) if name else plan.subject
        if held == 1 or (not held and _is_view(session, plan, name)):
            await session.run(patience(plan.database, session.deadlock_timeout), subject)
        locked = await session.attempt(statements[name], subject, is_refused_lock)
        if not isinstance(locked, Fault):
            held += 1
        elif locked.reason in _BUSY and held and name not in been_first and time.monotonic() < patient_until:
            been_first.add(name)
            order.insert(0, order.pop(held))
            held = 0
            await session.run(_UNLOCK, subject)
        elif name == _SESSIONS:
            raise CollectionError(locked)
        else:
            faults[name] = locked
            order.remove(name)
    # From now on only short waits: a statement may still lock partitions or tables of sub-queries.
    await session.run(patience(plan.database, session.deadlock_timeout), "begin")
    return faults


def _is_view(session: Session, plan: Plan, name: str) -> bool:
    table = plan.pipeline.records[name].table if name else plan.pipeline.sessions.table
    return any(one.kind == "v" for as_named, one in session.found.items() if session.located(as_named) == table)


_BUSY: Final = frozenset({"lock_timeout", "deadlock"})


LOCKS_SHARE: Final = 0.5
"""The largest share (0 to 1) of the server's lock table for one collection: the platform needs the rest."""


def too_many_locks(subject: str, locks: int, room: int) -> Fault:
    """The fault of tables with more partitions and indexes than the server has locks for."""
    return Fault(
        "internal",
        f"{subject}: the collection needs about {locks} locks, one for each partition and each index, and the server "
        f"has room for {room}: raise max_locks_per_transaction of the server",
    )
