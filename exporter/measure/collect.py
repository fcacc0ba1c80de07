"""Plan + database -> Snapshot.  The only module that runs measuring SQL.

A refusal that concerns one record becomes a fault of the record in the snapshot.  A fault that prevents the snapshot
raises `CollectionError`.
"""

from exporter.measure.controls import Prove, every_number, prove
from exporter.measure.counts import count_all
from exporter.measure.elsewhere import open_snapshot
from exporter.measure.ending import end
from exporter.measure.interpret import Counted, interpret
from exporter.measure.session import Session
from exporter.model.judging import Readings
from exporter.model.sql import TableName
from exporter.plan.plan import Plan
from exporter.state.judge import judge
from exporter.state.snapshot import Snapshot, fold, folded
from exporter.state.swept import Swept


async def collect(plan: Plan, *, unattended: bool = False, proof: Prove = prove) -> Snapshot:
    """Measure one pipeline; raises CollectionError if there is no snapshot.

    `unattended` is for `serve`: refuse a role that may do more than read.  `proof` tells whether to trust the numbers.
    """
    config = plan.pipeline
    async with open_snapshot(plan, unattended=unattended) as session:
        plan = session.plan
        measurable = tuple(name for name in config.records if name not in session.faults)
        await proof(session, every_number)
        counted = await count_all(session, plan, measurable)
        restricted = await end(session)
    return snapshot_of(session, counted, restricted)


def snapshot_of(
    session: Session, counted: Counted, restricted: tuple[str, ...], swept: Swept | None = None
) -> Snapshot:
    """The judged snapshot of what a session has counted; `swept` if the numbers are sums of slices."""
    plan = session.plan
    config = plan.as_written
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
        elsewhere=session.elsewhere,
        found={name: TableName(schema, name).written for name, schema in session.schemas.items()},
    )
