"""Why something could not be measured."""

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
    "internal",
]
"""Why something could not be measured; a closed set, for it is a label."""

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something could not be measured.

    `message` names the remedy and holds no address, user, id or value of a row: it may be logged.
    """

    reason: Reason
    message: str


class CollectionError(NotMeasuredError):
    """Nothing can be measured for now, and `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault
