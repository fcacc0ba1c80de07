"""The state of a record for an eligible session: the single predicate behind every number about gaps.

The first state that applies:

==============  =============================================================================
not_required    `required_when` is not true for the session, or a column of `rows` is 0 or negative
current         a valid row at the current version, and as many good rows as `rows` wants
accepted        the same at an accepted version
pending         not satisfied, and the session completed less than `grace` ago
too_few         good rows, but fewer than `rows` wants
too_many        good rows, but more than `rows` wants
invalid         a row at the current or an accepted version, but invalid
outdated        any other row: an unknown, a NULL or an empty version
missing         no row
==============  =============================================================================

Several rows per session are normal: the best row or the worst row decides.

=================  ==========================  =============================================
`satisfied_by`     the state is that of        satisfies
=================  ==========================  =============================================
current_version    the best row                current and accepted
any_version        the best row                every state with a row
every_row          the worst row               current and accepted: then every row is good
=================  ==========================  =============================================

A row is good if the row alone satisfies.  `rows` counts the good rows of a session that is satisfied otherwise: without
a row a session is missing, not one with too few rows.
"""

from collections.abc import Iterator
from datetime import timedelta
from enum import IntEnum
from typing import Final, Literal, get_args

from exporter.model.sections import Record
from exporter.model.sql import OURS, Ago, Bindings, conjunction, one_of, quote, same_text

State = Literal[
    "current", "accepted", "outdated", "invalid", "missing", "too_few", "too_many", "pending", "not_required"
]
SessionState = Literal["complete", "pending", "gap"]
GapReason = Literal["missing", "outdated", "invalid", "too_few", "too_many"]

STATES: Final[tuple[State, ...]] = get_args(State)
SESSION_STATES: Final[tuple[SessionState, ...]] = get_args(SessionState)
GAP_REASONS: Final[tuple[GapReason, ...]] = get_args(GapReason)


BAD_ROWS: Final[tuple[GapReason, ...]] = ("outdated", "invalid")
"""The reasons of sessions with a bad row."""


class Rank(IntEnum):
    """Quality of a row of a record table, the best first; the rank of a session's rows decides the state.

    The last two are ranks of good rows together.
    """

    CURRENT = 1
    ACCEPTED = 2
    INVALID = 3
    OUTDATED = 4
    TOO_FEW = 5
    TOO_MANY = 6


def gap_reasons(record: Record) -> tuple[GapReason, ...]:
    """The states that make a session a gap for this record."""
    has_bad_rows = record.satisfied_by != "any_version" and not record.exists
    of_rows: tuple[GapReason, ...] = ("missing", *BAD_ROWS) if has_bad_rows else ("missing",)
    return (*of_rows, *_miscounts(record))


def states_of(record: Record) -> tuple[State, ...]:
    """The states that a session may have for this record, and the states of a record with bad rows."""
    never = {"too_few", "too_many"}.difference(_miscounts(record))
    return tuple(state for state in STATES if state not in never)


def _miscounts(record: Record) -> Iterator[GapReason]:
    if record.rows is not None and record.rows.least != 1:
        yield "too_few"
    if record.rows is not None and record.rows.most is not None:
        yield "too_many"


def version_text(record: Record) -> str | None:
    """The version of a row as text; None where the record has no version."""
    return same_text(quote(record.version.column)) if record.version else None


PASSES: Final = "passes valid"
"""Whether a row passes `valid`: a computed column, see `exporter.model.sql.with_values`."""


def is_valid(record: Record, bind: Bindings) -> str:
    """SQL over one row: true if the values are accepted and `valid` is true; false or NULL if not."""
    conditions = [one_of(same_text(quote(column)), values, bind) for column, values in record.accepted_values.items()]
    if record.valid is not None:
        conditions.append(f"{OURS}.{quote(PASSES)}")
    return conjunction(conditions)


def row_rank(record: Record, bind: Bindings) -> str:
    """SQL over one row: the `Rank`."""
    unchecked = not record.accepted_values and record.valid is None

    def ranked(good: Rank) -> str:
        if unchecked:
            return f"{good:d}"
        return f"case when {is_valid(record, bind)} then {good:d} else {Rank.INVALID:d} end"

    text = version_text(record)
    if record.version is None or text is None:
        return ranked(Rank.CURRENT)
    known = [f"when {text} = {bind(record.version.current, 'text')} then {ranked(Rank.CURRENT)}"]
    if record.version.accepted:
        known.append(f"when {one_of(text, record.version.accepted, bind)} then {ranked(Rank.ACCEPTED)}")
    return f"case {' '.join(known)} else {Rank.OUTDATED:d} end"


def decides(record: Record) -> str:
    """The SQL aggregate, with `{}` for the ranks of a session's rows: the rank that decides the state."""
    return "max({})" if record.satisfied_by == "every_row" else "min({})"


def satisfies(record: Record, rank: str) -> str:
    """SQL: whether rows of the rank `rank` (NULL: no row) satisfy a session; never NULL."""
    if record.satisfied_by == "any_version":
        return f"({rank} < {Rank.TOO_FEW:d}) is true" if record.rows else f"{rank} is not null"
    return f"({rank} <= {Rank.ACCEPTED:d}) is true"


def least(n: int) -> str:
    """The column of a session with the fewest good rows of the n-th record, where `rows` names a column."""
    return quote(f"least_{n}")


def most(n: int) -> str:
    """The column of a session with the most good rows of the n-th record, where `rows` names a column."""
    return quote(f"most_{n}")


GOOD: Final = "good"
"""The column with the number of good rows of a session."""


def good_rows(record: Record) -> dict[str, tuple[str, str]]:
    """The column `GOOD` as SQL over one row, and as aggregate beside the column `rank`; none without `rows`."""
    if record.rows is None:
        return {}
    # Of a single row by a unique index: `counted` asks only for a good rank.
    return {GOOD: ("1", f"(count(*) filter (where {satisfies(record, 'rank')}))::integer")}


def counted(record: Record, n: int, session: str, rows: str) -> str:
    """SQL over a session and its rows of the n-th record (FROM items): the rank of the rows, NULL without a row.

    A number of a column that is NULL is never reached.
    """
    wanted, rank, found = record.rows, f"{rows}.rank", f"{rows}.{GOOD}"
    if wanted is None:
        return rank
    cases = []
    if wanted.least != 1:
        bound = f"{session}.{least(n)}" if isinstance(wanted.least, str) else f"{wanted.least:d}"
        cases.append(f"when ({found} operator(pg_catalog.>=) {bound}) is not true then {Rank.TOO_FEW:d}")
    if wanted.most is not None:
        bound = f"{session}.{most(n)}" if isinstance(wanted.most, str) else f"{wanted.most:d}"
        cases.append(f"when ({found} operator(pg_catalog.<=) {bound}) is not true then {Rank.TOO_MANY:d}")
    return f"case when not {satisfies(record, rank)} then {rank} {' '.join(cases)} else {rank} end"


def early(grace: timedelta) -> str:
    """The column over one session: whether the grace period still runs; never NULL.

    A completion ahead of the clock by more than the grace period does not count: the time may never come.
    """
    return quote(f"early:{grace}")


def due(grace: timedelta) -> str:
    """The column over one session: whether the grace period is over; never NULL, false without a completion."""
    return quote(f"due:{grace}")


def graces_in_sql(grace: timedelta, bind: Bindings, *, has_due: bool = False) -> dict[str, str]:
    """The columns `early` and `due` of a grace period: SQL over `completed`, NULL without a completion.

    `has_due`: the column `due` has the time from which the grace period counts, NULL for the completion.
    """
    over, ahead = bind(Ago(grace), "timestamptz"), bind(Ago(-grace), "timestamptz") if grace else ""
    is_early = f"completed > {over} and completed <= {ahead}" if grace else "false"
    if not has_due:
        return {early(grace): is_early, due(grace): f"completed <= {over}"}
    # A due time in the future is a plan, unlike a completion in the future.
    return {
        early(grace): f"(due > {over} or due is null and {is_early})",
        due(grace): f"coalesce(due, completed) <= {over}",
    }


def state(record: Record, rank: str, required: str) -> str:
    """SQL over one session: its `State`.

    `rank` is the rank of the session's rows (NULL without a row, see `decides`), `required` whether the session needs
    the record; the column `early` of the record's grace period must be there.
    """
    satisfied = [
        f"when {rank} = {Rank.CURRENT:d} then 'current'",
        f"when {rank} = {Rank.ACCEPTED:d} then 'accepted'",
    ]
    lacking = [
        f"when {rank} = {Rank.INVALID:d} then 'invalid'",
        f"when {rank} = {Rank.OUTDATED:d} then 'outdated'",
    ]
    if record.satisfied_by == "any_version":
        satisfied, lacking = satisfied + lacking, []
    if record.rows is not None:
        lacking += [
            f"when {rank} = {Rank.TOO_FEW:d} then 'too_few'",
            f"when {rank} = {Rank.TOO_MANY:d} then 'too_many'",
        ]
    pending = f"when {early(record.grace)} then 'pending'"
    cases = [
        f"when not {required} then 'not_required'",
        *satisfied,
        pending,
        *lacking,
        "else 'missing'",
    ]
    return "case\n      " + "\n      ".join(cases) + "\n    end"
