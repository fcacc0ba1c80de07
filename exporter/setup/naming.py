"""Names of tables and columns -> their words, and the likely roles of columns.  No I/O.

English names only: a proposal from names is a guess, and the rows of the tables decide (`exporter.setup.evidence`).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from exporter.setup.catalog import TableColumn

STATUS_WORDS: Final = ("status", "state", "phase", "stage", "step")
MADE_WORDS: Final = (
    *("started", "start", "begun", "began", "begin", "created", "create", "creation", "opened", "placed", "ordered"),
    *("uploaded", "received", "submitted", "requested", "registered", "inserted", "queued", "enqueued", "scheduled"),
    *("issued", "issuing", "timestamp", "date", "time", "when", "on", "at"),
)
COMPLETED_WORDS: Final = (
    *("completed", "complete", "completion", "finished", "finish", "ended", "end", "done", "finalized", "closed"),
    *("paid", "succeeded", "fulfilled", "delivered", "processed", "shipped", "ship", "resolved", "approved"),
    *("returned", "return", "terminated", "settled", "submitted"),
)
CONFIRMED_WORDS: Final = ("confirmed", "booked", "accepted")
"""Parts that mean a successful end unless another word names a later one."""
WRITTEN_WORDS: Final = (
    *("created", "create", "creation", "inserted", "written", "generated", "computed", "calculated", "issued"),
    *("recorded", "processed", "produced", "timestamp"),
)
DONE_WORDS: Final = frozenset((*COMPLETED_WORDS, "success", "successful", "ok", "charged", "captured"))
"""Parts of a status that mean a successful end of a session."""

FAILED_WORDS: Final = frozenset(
    {
        *("failed", "failure", "error", "refused", "rejected", "declined", "canceled", "cancelled", "cancel", "bad"),
        *("void", "voided", "trashed", "archived", "deleted", "uncollectible", "expired"),
    }
)
"""Parts of a status of a row that is no good record."""

UNDONE_WORDS: Final = frozenset({"not", "in", "to", "be", "partially", "partial", "awaiting", "pending", "never", "un"})
"""Parts that negate others: not_paid, to_be_completed."""

_SETTING_WORDS: Final = frozenset(
    {"cancel", "auto", "at", "period", "allow", "enable", "enabled", "can", "should", "will", "notify", "show", "setup"}
)
"""Parts of booleans that are settings: cancel_at_period_end, auto_complete."""

_TOLD_WORDS: Final = frozenset({"message", "text", "reason", "note", "comment", "description", "details"})
"""The last words of texts about a status: status_message."""

_ADDRESS_WORDS: Final = frozenset({"city", "zip", "zipcode", "postcode", "postal", "country", "street", "address"})
"""Parts of the columns beside `state` in an address."""

_PLANNED: Final = frozenset(
    (
        *("due", "required", "require", "expected", "expires", "expire", "expiry", "expiration", "expiring", "planned"),
        *(
            "updated",
            "update",
            "modified",
            "changed",
            "last",
            "deleted",
            "birth",
            "valid",
            "next",
            "until",
            "estimated",
        ),
        *("discarded", "archived", "canceled", "cancelled", "heartbeat", "attempted", "period"),
    )
)
"""Parts of the names of times that tell neither when a row was made nor when its work was done."""

TEXTS: Final = frozenset({"text", "character varying", "character", "citext", "name"})
INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})

_UNNAMEABLE: Final = re.compile(r'^\s*$|^".*"$|\$[0-9]', re.DOTALL)
_JOINED: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-z])(?=(?:date|time|timestamp)$)(?<![uU]p)", re.ASCII)
"""Between two words that are written as one: orderId, orderdate; update is one word."""

_KEY_ENDINGS: Final = (("id",), ("uuid",), ("guid",), ("key",))


def words(name: str) -> list[str]:
    """The words of a name: `orderId`, `order_id` and `Order ID` are all order, id."""
    parts = re.split(r"[\W_]+", name)
    return [word.casefold() for part in parts for word in _JOINED.split(part) if word]


def stem(word: str) -> str:
    """What the singular and the plural of a word share: orders and order, categories and category."""
    if word.endswith("ies") and len(word) > len("ties"):
        return word.removesuffix("es")
    if word.endswith(("ses", "xes", "zes", "ches", "shes")) and len(word) > len("uses"):
        word = word.removesuffix("es")
    elif word.endswith("is") and len(word) > len("axis"):
        word = word.removesuffix("is")
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > len("as"):
        word = word.removesuffix("s")
    word = word.removesuffix("e") if len(word) > len("fee") else word
    return f"{word[:-1]}i" if word.endswith("y") else word


def stems(name: str) -> tuple[str, ...]:
    """The stems of the words of a name."""
    return tuple(map(stem, words(name)))


def tails(table: str) -> list[tuple[str, ...]]:
    """What a column may call a table, as stems: `assessment_sessions` is also a session."""
    of_table = stems(table)
    return [of_table[start:] for start in range(len(of_table))]


def referred(column: str, key: str = "id") -> list[tuple[str, ...]]:
    """What the name of a column may refer to, as stems: the name without `id` or the name of the key, or bare."""
    own, of_key = words(column), words(key)
    # payment_id does not refer to payments.external_key.
    general = [one for one in _KEY_ENDINGS if len(of_key) <= 1 or tuple(of_key[-1:]) == one]
    endings = dict.fromkeys([tuple(of_key), *general])
    found = [own[: -len(ending)] for ending in endings if ending and tuple(own[-len(ending) :]) == ending]
    return [tuple(map(stem, one)) for one in found if one]


def names_key(column: str, table: str, key: str) -> bool:
    """Whether a column is named after the key of a table.

    `session_id` and `assessment_session_id` both match assessment_sessions.id.  A column with the name of a key of
    several words also matches.
    """
    of_key = words(key)
    if len(of_key) > 1 and words(column) == of_key:
        return True
    return not {*referred(column, key)}.isdisjoint(tails(table))


def hints_at(column: str, table: str, key: str) -> bool:
    """Whether the last words of a column name the key of a table: active_job_id and good_jobs.id."""
    return any(name[start:] in tails(table) for name in referred(column, key) for start in range(1, len(name)))


def pick(columns: Iterable[TableColumn], wanted: Sequence[str]) -> TableColumn | None:
    """The column with the earliest of the wanted words; None without a match.

    Of several the one that ends with `at`, as in created_at beside created, else the shortest name.
    """
    found = [
        (min(wanted.index(word) for word in own if word in wanted), own[-1] != "at", len(own), column)
        for column in columns
        if not {*(own := words(column.name))}.isdisjoint(wanted)
    ]
    return min(found, key=lambda entry: entry[:3])[3] if found else None


def is_text(column: TableColumn) -> bool:
    """Whether the values are texts or enum labels."""
    return column.base in TEXTS or bool(column.labels)


def usable(columns: Iterable[TableColumn]) -> tuple[TableColumn, ...]:
    """The columns that a config can name, also in expressions."""
    return tuple(column for column in columns if not _UNNAMEABLE.search(column.name))


def refers(column: TableColumn) -> bool:
    """Whether a column looks like a reference to another table: such a column is no status."""
    return bool(referred(column.name))


def status_of(columns: Sequence[TableColumn]) -> TableColumn | None:
    """The most likely column of the status: a text or a number with a word for a status; None without a match."""
    likely = [column for column in columns if not refers(column) and _TOLD_WORDS.isdisjoint(words(column.name)[-1:])]
    likely = [column for column in likely if not _is_of_address(column, columns)]
    numbers = [column for column in likely if column.base in INTEGERS]
    return pick(filter(is_text, likely), STATUS_WORDS) or pick(numbers, STATUS_WORDS)


def _is_of_address(column: TableColumn, columns: Iterable[TableColumn]) -> bool:
    """Whether a state is one of a country: billing_state beside billing_city, state beside city."""
    *prefix, last = words(column.name) or [""]
    beside = (words(other.name) for other in columns if not refers(other))
    return last == "state" and any(
        own[: len(prefix)] == prefix and not _ADDRESS_WORDS.isdisjoint(own[len(prefix) : len(prefix) + 1])
        for own in beside
    )


def flag_of(columns: Sequence[TableColumn]) -> TableColumn | None:
    """The boolean that most likely tells whether a session is done, such as `finished`; None without a match."""
    flags = [column for column in columns if column.base == "boolean"]
    unlike = UNDONE_WORDS | _SETTING_WORDS
    return pick((column for column in flags if unlike.isdisjoint(words(column.name))), tuple(DONE_WORDS))


def times_of(table: str, columns: Sequence[TableColumn]) -> tuple[TableColumn | None, TableColumn | None]:
    """The most likely columns of start and completion; None without a match.

    A time with the name of the table (order_date of orders) is when the row was made.
    """
    times = _times(columns)
    own = _own_times(table, times)
    ends = [column for column in times if column not in own and _STARTED.isdisjoint(words(column.name))]
    completed = pick(ends, (*COMPLETED_WORDS, *CONFIRMED_WORDS))
    others = [column for column in times if column != completed]
    explicit = pick(others, MADE_WORDS[: MADE_WORDS.index("ordered")])
    return explicit or next(iter(own), None) or pick(others, MADE_WORDS), completed


_STARTED: Final = frozenset({"start", "started", "begin", "began", "begun"})
"""completion_start_time is no time of completion."""


def _times(columns: Sequence[TableColumn]) -> list[TableColumn]:
    return [column for column in columns if column.is_time and not is_changing(column)]


def is_changing(column: TableColumn) -> bool:
    """Whether the name of a time tells neither when a row was made nor when its work was done: updated_at."""
    return not _PLANNED.isdisjoint(words(column.name))


def is_outcome(column: TableColumn) -> bool:
    """Whether a column tells by its name how far a session has come: paid_amount, delivery_status."""
    return not {*words(column.name)}.isdisjoint({*STATUS_WORDS, *DONE_WORDS, *FAILED_WORDS})


def may_be_epoch(column: TableColumn) -> bool:
    """Whether a number may count seconds since 1970, by its name: created."""
    of_time = {*MADE_WORDS[: MADE_WORDS.index("date")], *COMPLETED_WORDS}
    own = {*words(column.name)}
    is_number = column.base in INTEGERS or column.base in ("numeric", "double precision")
    return is_number and not own.isdisjoint(of_time) and not refers(column) and own.isdisjoint(_COUNTED)


_COUNTED: Final = frozenset({"count", "total", "number", "by", "amount", "num", "user", "seconds", "duration"})


EPOCHS: Final = ((1e9, ""), (1e12, " / 1000.0"), (1e15, " / 1000000.0"))
"""Since 1970: the least usual number, and the division for seconds."""


def epoch_time(column: TableColumn, value: float, taken: Iterable[str]) -> TableColumn | None:
    """A computed time for a number that counts from 1970; None for a value that is no such number (2001 to 2096)."""
    division = next((division for least, division in EPOCHS if least <= value < 4 * least), None)
    name = f"{column.name}_time"
    if division is None or name in taken:
        return None
    sql = f"to_timestamp({column.sql}{division})"
    return TableColumn(name, sql, "timestamp with time zone", "timestamp with time zone", (), is_computed=True)


def _own_times(table: str, times: Sequence[TableColumn]) -> list[TableColumn]:
    """The times with the name of the table, such as payment_date of payments."""
    names = {*tails(table)}
    named = [(column, words(column.name)) for column in times]
    return [column for column, own in named if own[-1] in MADE_WORDS and tuple(map(stem, own[:-1])) in names]


def version_of(columns: Sequence[TableColumn]) -> TableColumn | None:
    """The most likely column of the version; None without a match."""
    fitting = [c for c in columns if words(c.name)[-1:] == ["version"] and not c.is_time]
    return pick((c for c in fitting if is_text(c)), ["version"]) or pick(fitting, ["version"])


def created_of(table: str, columns: Sequence[TableColumn]) -> TableColumn | None:
    """The most likely column with the time of the write: by its name, or the only time; None without a match."""
    times = _times(columns)
    only = times[0] if len(times) == 1 else None
    return pick(times, WRITTEN_WORDS) or next(iter(_own_times(table, times)), only)


def done(statuses: Iterable[str]) -> list[str]:
    """The statuses that mean a successful end of a session."""
    own = {status: {*words(status)} for status in statuses}
    known = [status for status, parts in own.items() if parts.isdisjoint(UNDONE_WORDS)]
    ended = [status for status in known if not own[status].isdisjoint(DONE_WORDS)]
    return ended or [status for status in known if not own[status].isdisjoint(CONFIRMED_WORDS)]
