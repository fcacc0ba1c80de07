"""The reasons of failed measurements."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from exporter.text.exits import NotMeasuredError

Reason = Literal[
    "connect",
    "authentication",
    "permission",
    "row_security",
    "missing_object",
    "type",
    "invalid_sql",
    "duplicate_key",
    "statement_timeout",
    "lock_timeout",
    "deadlock",
    "table_rewrite",
    "catalog_change",
    "recovery_conflict",
    "replica_lag",
    "collection_timeout",
    "busy",
    "paused",
    "control_failed",
    "internal",
]
"""The reason of a failed measurement; a closed set, because the reason is a label."""

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of a failed measurement.

    `message` names the remedy, without an address, user, id or value of a row: the message may be logged.
    """

    reason: Reason
    message: str


class CollectionError(NotMeasuredError):
    """No measurement is possible now, because of `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault
