"""The lag of a replica: the SQL, and the lag from two readings.  No I/O.

A replica shows replayed transactions only: every age, grace and window refers to the clock minus the lag.
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from exporter.model.fault import Fault

# On a primary most of these functions raise an error, or have old values.  A role with only SELECT sees in
# pg_stat_wal_receiver that a receiver runs; a role with pg_read_all_stats also sees the last position of the primary.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW
# Before the transaction the settings of the role apply, so every name has a schema.
STATUS_SQL: Final = (
    "pg_catalog.clock_timestamp()",
    "case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_is_wal_replay_paused() end",
    """case when pg_catalog.pg_is_in_recovery() then exists (
    select 1
    from pg_catalog.pg_stat_wal_receiver r
    where pg_catalog.pg_last_wal_replay_lsn()
      operator(pg_catalog.=) coalesce(r.latest_end_lsn, pg_catalog.pg_last_wal_receive_lsn())
  ) end""",
    "case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_xact_replay_timestamp() end",
)
"""SQL for the fields of `ReplicationStatus`, in their order."""

# Aurora's readers refuse the functions about replay.  Aurora's own functions are in no catalog: no schema is named.
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
AURORA_STATUS_SQL: Final = (
    "pg_catalog.clock_timestamp()",
    "false",
    "false",
    """(
    select pg_catalog.clock_timestamp() - r.replica_lag_in_msec * interval '1 millisecond'
    from aurora_replica_status() r
    where r.server_id = aurora_db_instance_identifier()
  )""",
)
"""SQL for the fields of `ReplicationStatus` on a reader of Aurora."""

LEAP: Final = timedelta(seconds=1)
"""If the lag shrinks by more than LEAP during the start of a snapshot, the lag of the snapshot is unknown."""


@dataclass(frozen=True, slots=True)
class ReplicationStatus:
    """One reading of the recovery of a server; on a primary, every field but `clock` is None.

    `caught_up`: the replica receives, and has replayed everything received.  `replayed_at`: the commit time of the last
    replayed transaction by the primary's clock; None before the first transaction.
    """

    clock: datetime
    paused: bool | None
    caught_up: bool | None
    replayed_at: datetime | None

    @property
    def age(self) -> timedelta | None:
        """The time since the commit of the last replayed transaction; meaningless for an idle primary."""
        return None if self.replayed_at is None else max(self.clock - self.replayed_at, timedelta(0))


def lag(before: ReplicationStatus, now: ReplicationStatus, limit: timedelta) -> timedelta | Fault | None:
    """The lag of a snapshot; None on a primary; a Fault if the lag is unknown or above `limit`.

    The snapshot was taken between `before` and `now`, and may lack transactions replayed in between.  So the lag of
    `now` is valid only if the lag of `before` was not much larger.
    """
    if now.paused is None:
        # Promoted in between: everything received has been replayed, perhaps after the snapshot.
        return _leapt(before, now, timedelta(0)) if before.paused is False else None
    if before.paused or now.paused:
        return Fault(
            "replica_lag",
            "the replay of the replica is paused: select pg_wal_replay_resume(); the replica pauses by itself if a "
            "setting such as max_connections is smaller than on the primary: see the log of the replica",
        )
    behind = _behind(now, since=before)
    if behind is None:
        return Fault(
            "replica_lag",
            "the replica lag is unknown: the replica has replayed no transaction since the start, and is not caught "
            "up: check primary_conninfo and the log of the replica",
        )
    if behind > limit:
        return Fault(
            "replica_lag",
            f"the replica is {behind.total_seconds():.0f} s behind, more than max_replica_lag "
            f"({limit.total_seconds():g} s): check that the replica receives and replays, or raise max_replica_lag",
        )
    return _leapt(before, now, behind)


def _behind(look: ReplicationStatus, since: ReplicationStatus) -> timedelta | None:
    # While commits arrive, the age of the last commit is the lag, also if everything received is replayed: after an
    # outage the replica may wait for the network.
    if look.caught_up and look.replayed_at == since.replayed_at:
        return timedelta(0)
    return look.age


def _leapt(before: ReplicationStatus, now: ReplicationStatus, behind: timedelta) -> timedelta | Fault:
    """The lag, or a Fault if the snapshot may be much older."""
    was = timedelta(0) if before.caught_up else before.age
    if (was is None or was - behind > LEAP) and before.replayed_at != now.replayed_at:
        return Fault(
            "replica_lag",
            "the replica is catching up too fast to measure the lag of the snapshot: the exporter retries at the next "
            "interval",
        )
    return behind
