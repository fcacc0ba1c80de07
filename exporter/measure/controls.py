"""The control of a collection: the same statements count a small platform of known numbers, in the same transaction.

A wrong number proves that the statements, the server or the reading of the answers cannot be trusted now.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from exporter.measure.counts import count_all
from exporter.measure.interpret import interpret
from exporter.measure.session import Session
from exporter.model.fault import CollectionError, Fault
from exporter.plan.control import Control, Told
from exporter.plan.plan import Plan
from exporter.plan.statement import Statement


async def prove(session: Session, control: "Control[Plan]") -> None:
    """Count the platform in the transaction of a session; raises CollectionError if a number is wrong."""
    found = await measured(session, control)
    wrong = sorted(name for name in {*found, *control.expected} if found.get(name) != control.expected.get(name))
    if wrong:
        raise CollectionError(
            Fault(
                "control_failed",
                f"pipelines.{session.plan.pipeline.name}: the statements miscount a platform of known numbers "
                f"({', '.join(wrong)}), so that no number can be trusted: update the exporter, and report the fault "
                "with the versions of exporter and server",
            )
        )


async def measured(session: Session, control: "Control[Plan]") -> Told:
    """The numbers of the platform, as counted in the transaction of a session."""
    controlled = _Controlled(session.connection, session.database, control.clock, before=session.before)
    controlled.control = control
    plan = control.plan
    counted = await count_all(controlled, plan, tuple(plan.pipeline.records))
    numbers = interpret(plan, counted, [False] * len(plan.catalog_readings))
    return {metric.full_name: values for metric, values in numbers.items() if values}


@dataclass(slots=True)
class _Controlled(Session):
    """A session that counts the control platform, without savepoints: no statement may be refused."""

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
        return await self.run(self.control.about(statement) if self.control else statement, subject)
