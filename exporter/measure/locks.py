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
"""Stands for the sessions among the names of records, of which none is empty."""


async def hold_locks(session: Session, plan: Plan) -> dict[str, Fault]:
    """Hold every table that is there; a record's that is not is that record's fault.

    The first is waited for as long as `lock_timeout` says, while nothing is held.  Where a later one is locked, all are
    let go and that one comes first, once: so nobody waits for us while we wait.  A view brings the tables beneath it,
    one by one, so it is never waited for so long.  After `lock_timeout` none comes first any more: however many are
    locked, a round waits little longer than for one.
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
        subject = subject_of(plan, name) if name else f"pipelines.{plan.pipeline.name}.sessions"
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
    # What a statement still locks, a partition or a table of a sub-query, is no more waited for.
    await session.run(patience(plan.database, session.deadlock_timeout), "begin")
    return faults


def _is_view(session: Session, plan: Plan, name: str) -> bool:
    table = plan.pipeline.records[name].table if name else plan.pipeline.sessions.table
    return any(one.kind == "v" for as_named, one in session.found.items() if session.located(as_named) == table)


_BUSY: Final = frozenset({"lock_timeout", "deadlock"})


LOCKS_SHARE: Final = 0.5
"""How much of the server's room for locks a collection may take: the rest is the platform's."""


def too_many_locks(subject: str, locks: int, room: int) -> Fault:
    """The fault of tables with more partitions and indexes than the server has locks for."""
    return Fault(
        "internal",
        f"{subject}: to read these tables takes about {locks} locks, one for each partition and each index, of {room} "
        "that the server has room for: raise max_locks_per_transaction of the server",
    )
