"""Plans -> the SQL of a collection as text; with a connection also the plans of the server (EXPLAIN)."""

from collections.abc import Iterable
from typing import Final

from exporter.measure.elsewhere import open_snapshot
from exporter.model.sql import Ago, Bound, Moment
from exporter.plan.elsewhere import statements
from exporter.plan.plan import Plan
from exporter.plan.statement import Statement

NOTE: Final = (
    "-- A savepoint around each statement that may fail keeps the rest of the snapshot.  The statement about sessions "
    "also tells versions and values apart that the config does not name, and a unique index spares a count.\n"
    "-- Not printed: the statements about rows and sessions run once more over a control platform, whose rows are in "
    "the statements.\n\n"
)


def script(plans: Iterable[Plan]) -> str:
    """Every statement of every pipeline, in the order in which they run."""
    return "\n".join(_show(plan, statement) for plan in plans for statement in statements(plan))


async def explained(plan: Plan) -> str:
    """The statements of a pipeline, each measuring statement with its plan; raises CollectionError."""
    async with open_snapshot(plan) as session:
        parts, plan = [], session.plan
        for statement in plan.statements():
            parts.append(_show(plan, statement))
            if statement.columns or statement == plan.catalog:
                estimate = Statement(statement.title, f"explain {statement.sql}", statement.bound)
                rows = await session.run(estimate, f"pipelines.{plan.pipeline.name}")
                parts.append("".join(f"--   {row[0]}\n" for row in rows))
    return "\n".join(parts)


def _show(plan: Plan, statement: Statement) -> str:
    values = "".join(f"-- ${n} = {_value(value)}\n" for n, value in enumerate(statement.bound, start=1))
    return f"-- {plan.pipeline.name}: {statement.title}\n{values}{statement.sql};\n"


def _value(value: Bound) -> str:
    if isinstance(value, Moment):
        return value.value
    if isinstance(value, Ago):
        return f"{Moment.CLOCK.value} - {value.length}"
    return repr(list(value) if isinstance(value, tuple) else str(value))
