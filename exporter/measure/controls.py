"""The control of a measurement: the same statements count a small platform of known numbers, in the same transaction.

A wrong number proves that the statements, the server or the reading of the answers cannot be trusted now.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from exporter.measure.counts import count_all
from exporter.measure.interpret import Counted, interpret
from exporter.measure.session import Session
from exporter.model.fault import CollectionError, Fault
from exporter.plan.control import Control, Told
from exporter.plan.plan import Plan
from exporter.plan.statement import Statement

Count = Callable[[Session], Awaitable[Told]]
"""Counts the platform of a session with the statements of a measurement."""


async def every_number(session: Session) -> Told:
    """Every number of the platform, by the statements of a full pass."""
    plan = session.plan
    return told(plan, await count_all(session, plan, tuple(plan.pipeline.records)))


def told(plan: Plan, counted: Counted) -> Told:
    """What the answers about the platform say."""
    numbers = interpret(plan, counted, [False] * len(plan.catalog_readings))
    return {metric.full_name: values for metric, values in numbers.items()}


Prove = Callable[[Session, Count], Awaitable[None]]
"""Counts the platform in the transaction of a session, or knows that this is not due; raises CollectionError."""


async def prove(session: Session, count: Count = every_number, expected: Told | None = None) -> None:
    """Count the platform in the transaction of a session; raises CollectionError if a number is wrong.

    `expected`: the known numbers; if not given, those of the control.  A plan without a control is not proved.
    """
    control = session.plan.control
    if control is None:
        return
    known = control.expected if expected is None else expected
    found = await measured(session, control, count)
    wrong = sorted(name for name, values in found.items() if values != known.get(name, {}))
    if wrong:
        raise CollectionError(
            Fault(
                "control_failed",
                f"pipelines.{session.plan.pipeline.name}: the statements miscount a platform of known numbers "
                f"({', '.join(wrong)}), so that no number can be trusted: update the exporter, and report the fault "
                "with the versions of exporter and server",
            )
        )


SHARE: Final = 0.01
"""The share (0 to 1) of the time of collections that counts of the control may take."""

PROVEN_FOR: Final = 3600.0
"""Seconds after which the control is counted again in any case."""


class SeldomProof:
    """Proves the collections of one pipeline, so seldom that the counts take at most `SHARE` of their time.

    The first collection is proved, the next one after a collection that failed, the first on another server or version,
    and the first in slices or in full.  Nothing else changes the statements or the server while the exporter runs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is proved; `clock` in seconds."""
        self._clock = clock
        self._proven: tuple[object, ...] | None = None
        self._at = 0.0
        self._took = 0.0
        self._collected = 0.0

    async def __call__(self, session: Session, count: Count = every_number) -> None:
        """Count the platform if this is due; raises CollectionError as `prove`."""
        about = (session.identity, session.abilities, count)
        began = self._clock()
        if about == self._proven and began < self._at + PROVEN_FOR and self._collected * SHARE < self._took:
            return
        await prove(session, count)
        self._proven, self._at, self._collected = about, began, 0.0
        self._took = self._clock() - began

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Account for a collection: its time, or its failure."""
        began = self._clock()
        try:
            yield
        except BaseException:
            self._proven = None
            raise
        self._collected += self._clock() - began


async def measured(session: Session, control: "Control[Plan]", count: Count = every_number) -> Told:
    """The numbers of the platform, as counted in the transaction of a session."""
    controlled = _Controlled(session.connection, session.database, control.clock, before=session.before)
    controlled.control, controlled.plan = control, control.plan
    return await count(controlled)


@dataclass(slots=True)
class _Controlled(Session):
    """A session whose statements read the control platform, without savepoints: no statement may be refused."""

    control: "Control[Plan] | None" = None

    async def attempt(
        self,
        statement: Statement,
        subject: str,
        refusals: Callable[[asyncpg.PostgresError], bool],  # noqa: ARG002 - as in Session
        *,
        refused: Callable[[asyncpg.PostgresError], None] = lambda _: None,  # noqa: ARG002 - as in Session
    ) -> list[Any] | Fault:
        """The rows of a statement about the control platform; raises CollectionError."""
        return await self.run(statement, subject)

    async def run(self, statement: Statement, subject: str) -> list[Any]:
        """The same."""
        # Not super(): a dataclass with slots is another class than the one that the method was written in.
        return await Session.run(self, self.control.about(statement) if self.control else statement, subject)
