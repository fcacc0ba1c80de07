"""The state of a record for an eligible session: the single predicate behind every number about gaps.

The first state that applies:

==============  =============================================================================
not_required    `required_when` is not true for the session
current         a valid row at the current version
accepted        a valid row at an accepted version
pending         not satisfied, and the session completed less than `grace` ago
invalid         a row at the current or an accepted version, but invalid
outdated        any other row: an unknown, a NULL or an empty version
missing         no row
==============  =============================================================================

`satisfied_by: current_version` is met by current and accepted, `any_version` by every state with a row.
Several rows per session are normal: the best one counts.
"""

from datetime import timedelta
from enum import IntEnum
from typing import Final, Literal, get_args

from exporter.model.sections import Record
from exporter.model.sql import OURS, Bindings, Moment, conjunction, quote, same_text

State = Literal["current", "accepted", "outdated", "invalid", "missing", "pending", "not_required"]
SessionState = Literal["complete", "pending", "gap"]
GapReason = Literal["missing", "outdated", "invalid"]

STATES: Final[tuple[State, ...]] = get_args(State)
SESSION_STATES: Final[tuple[SessionState, ...]] = get_args(SessionState)
GAP_REASONS: Final[tuple[GapReason, ...]] = get_args(GapReason)


class Rank(IntEnum):
    """Quality of a row of a record table; the smallest rank of a session's rows decides the state."""

    CURRENT = 1
    ACCEPTED = 2
    INVALID = 3
    OUTDATED = 4


def gap_reasons(record: Record) -> tuple[GapReason, ...]:
    """The states that make a session a gap for this record."""
    return ("missing",) if record.satisfied_by == "any_version" else GAP_REASONS


def state_column(record_name: str) -> str:
    """The name of the column that holds the state of one record."""
    return f"state:{record_name}"


def version_text(record: Record) -> str | None:
    """The version of a row as text; None where the record has no version."""
    return same_text(quote(record.version.column)) if record.version else None


def version_class(record: Record, bind: Bindings) -> str:
    """SQL over one row: `current`, `accepted` or `other`; a record without versions is always current."""
    text = version_text(record)
    if record.version is None or text is None:
        return "'current'::text"
    return (
        f"case when {text} = {bind(record.version.current, 'text')} then 'current'"
        f" when {text} = any({bind(record.version.accepted, 'text[]')}) then 'accepted'"
        " else 'other' end"
    )


PASSES: Final = "passes valid"
"""Whether a row passes `valid`: a computed column, see `exporter.model.sql.with_values`."""


def is_valid(record: Record, bind: Bindings) -> str:
    """SQL over one row: true if the values are accepted and `valid` is true; never NULL."""
    conditions = [
        f"{same_text(quote(column))} = any({bind(values, 'text[]')})"
        for column, values in record.accepted_values.items()
    ]
    if record.valid is not None:
        conditions.append(f"{OURS}.{quote(PASSES)}")
    return f"({conjunction(conditions)}) is true"


RANK: Final = (
    f"case when class = 'other' then {Rank.OUTDATED:d} when not valid then {Rank.INVALID:d}"
    f" when class = 'accepted' then {Rank.ACCEPTED:d} else {Rank.CURRENT:d} end"
)
"""SQL over one row with `class` and `valid`: the `Rank`."""


def satisfies(record: Record, best: str) -> str:
    """SQL: whether a row of the rank `best` (NULL: no row) satisfies a session; never NULL."""
    if record.satisfied_by == "any_version":
        return f"{best} is not null"
    return f"({best} <= {Rank.ACCEPTED:d}) is true"


def within_grace(grace: timedelta, bind: Bindings) -> str:
    """SQL over one session: whether the grace period still runs; NULL without a completion.

    A completion ahead of the clock by more than the grace period does not count: the time may never come.
    """
    clock, allowed = bind(Moment.CLOCK, "timestamptz"), bind(grace, "interval")
    return f"completed > {clock} - {allowed} and completed <= {clock} + {allowed}"


def state(record: Record, best: str, required: str, bind: Bindings) -> str:
    """SQL over one session: its `State`.

    `best` is the smallest rank of the session's rows (NULL without a row), `required` whether the session needs the
    record.
    """
    satisfied = [
        f"when {best} = {Rank.CURRENT:d} then 'current'",
        f"when {best} = {Rank.ACCEPTED:d} then 'accepted'",
    ]
    lacking = [
        f"when {best} = {Rank.INVALID:d} then 'invalid'",
        f"when {best} = {Rank.OUTDATED:d} then 'outdated'",
    ]
    if record.satisfied_by == "any_version":
        satisfied, lacking = satisfied + lacking, []
    pending = f"when {within_grace(record.grace, bind)} then 'pending'"
    cases = [
        f"when not {required} then 'not_required'",
        *satisfied,
        pending,
        *lacking,
        "else 'missing'",
    ]
    return "case\n      " + "\n      ".join(cases) + "\n    end"
