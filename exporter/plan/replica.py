"""How far a replica is behind its primary: the SQL that looks, and what two looks say together.  No I/O.

A replica shows what it has replayed, so every age, grace and window is as of that moment: the clock minus the lag.
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from exporter.model.fault import Fault

# Most of these raise an error, or tell of the past, on a server that is no replica (any more).  To a role that may
# only SELECT, pg_stat_wal_receiver tells no more than that a receiver runs; to one with pg_read_all_stats, also how
# far the primary was when it last wrote, which a slow network keeps from us.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW
# What is asked before the transaction runs under the settings of the role, so every name says where it is.
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

# Aurora's readers replay no log of their own, and refuse the functions that tell of it.  Theirs are in no catalog, so
# no schema is named.  https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
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
"""The same for a reader of Aurora."""

LEAP: Final = timedelta(seconds=1)
"""A lag that shrinks by more than this while a snapshot is taken says nothing about the snapshot."""


@dataclass(frozen=True, slots=True)
class ReplicationStatus:
    """One look at the recovery of a server; all but `clock` are None where it is no replica.

    `caught_up`: the replica receives, and has replayed all that it received.  `replayed_at` is when the last
    transaction that it replayed was committed, by the primary's clock; None before the first one.
    """

    clock: datetime
    paused: bool | None
    caught_up: bool | None
    replayed_at: datetime | None

    @property
    def age(self) -> timedelta | None:
        """How long ago the last replayed transaction was committed; on an idle primary that says nothing."""
        return None if self.replayed_at is None else max(self.clock - self.replayed_at, timedelta(0))


def lag(before: ReplicationStatus, now: ReplicationStatus, limit: timedelta) -> timedelta | Fault | None:
    """How far behind the primary a snapshot is, None where the server is no replica; a Fault where nobody can tell.

    The snapshot was taken after `before` and before `now`.  What was replayed in between may be missing in it, so
    the lag of `now` holds for it only where `before` was not much farther behind.
    """
    if now.paused is None:
        # Promoted meanwhile: all that was received has been replayed, if not before the snapshot.
        return _leapt(before, now, timedelta(0)) if before.paused is False else None
    if before.paused or now.paused:
        return Fault(
            "replica_lag",
            "the replica's replay is paused: select pg_wal_replay_resume(); it pauses by itself where a setting such "
            "as max_connections is smaller than the primary's, see its log",
        )
    behind = _behind(now, since=before)
    if behind is None:
        return Fault(
            "replica_lag",
            "how far the replica is behind cannot be told: it has replayed no transaction since it started, and is not "
            "caught up: check its primary_conninfo, see its log",
        )
    if behind > limit:
        return Fault(
            "replica_lag",
            f"the replica is {behind.total_seconds():.0f} s behind, more than max_replica_lag "
            f"({limit.total_seconds():g} s): see whether it still receives and what holds it up, or raise the limit",
        )
    return _leapt(before, now, behind)


def _behind(look: ReplicationStatus, since: ReplicationStatus) -> timedelta | None:
    # Where commits arrive just now, the age of the last one is the lag, even if no more has been received: after an
    # outage the network may be what the replica waits for.
    if look.caught_up and look.replayed_at == since.replayed_at:
        return timedelta(0)
    return look.age


def _leapt(before: ReplicationStatus, now: ReplicationStatus, behind: timedelta) -> timedelta | Fault:
    """The lag, unless the snapshot may be one of much earlier."""
    was = timedelta(0) if before.caught_up else before.age
    if (was is None or was - behind > LEAP) and before.replayed_at != now.replayed_at:
        return Fault(
            "replica_lag",
            "the replica is catching up, too fast to tell how far behind the snapshot is: retried at the next interval",
        )
    return behind
