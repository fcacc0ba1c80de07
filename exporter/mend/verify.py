"""Worklist + database -> what became of each of its sessions, and what is a gap that it does not list.

By the predicate of the gauges, in one snapshot: the server gets the keys in portions, each of which is joined to
the judged sessions in one pass over the tables, so that neither we nor the server hold more than one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, TypeVar, get_args

from exporter.measure.ending import end
from exporter.measure.session import Session
from exporter.mend.gaps import (
    Listing,
    OnProgress,
    check_unrepeated,
    fetch_in_chunks,
    fetch_or_blame_records,
    ignore_progress,
    whole_snapshot,
)
from exporter.mend.worklist import Header, Listed, Worklist, changed_keys, check_identity
from exporter.model.sections import Record
from exporter.model.states import GAP_REASONS, GapReason, State, gap_reasons
from exporter.model.terms import terms_of
from exporter.plan.fragments import SessionKey
from exporter.plan.plan import Plan
from exporter.text.exits import ExitCode

RecordOutcome = Literal["fixed", "missing", "outdated", "invalid", "pending", "gone", "left_window", "not_eligible"]
"""What became of a record that a session lacked: it is no gap any more; it is one, why; it may still come in time.

Or there is nothing left to mend: the session is gone, or is not in the window or not eligible any more.
"""

SessionOutcome = Literal["fixed", "gap", "pending", "gone", "left_window", "not_eligible"]
"""The same of a session: a gap if it is one because of any record of the list."""

Vanished = Literal["gone", "left_window", "not_eligible"]
VANISHED: Final[tuple[Vanished, ...]] = get_args(Vanished)

PORTION: Final = 100_000
"""Keys that are looked at in one pass: some 4 MB of UUIDs for the server to hold."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a list: how many sessions have each fate, and how many for each record that they lacked.

    `new_sessions` are a gap now and not on the list, `new` counts, by record and reason, gaps that are not: of these
    sessions, or of those that are on it for another record.  `unnamed` are a gap and on no list, for their key has a
    NULL.  `changed` are the keys of the config that decide what is a gap and have another value than when the list
    was made.
    """

    header: Header
    listing: Listing
    changed: tuple[str, ...]
    sessions: Mapping[SessionOutcome, int]
    records: Mapping[str, Mapping[RecordOutcome, int]]
    new_sessions: int
    new: Mapping[str, Mapping[GapReason, int]]
    unnamed: int

    @property
    def vanished(self) -> int:
        """Sessions of which nothing is left to mend, though nobody can say that they were fixed."""
        return sum(self.sessions[fate] for fate in VANISHED)

    def is_settled(self, allowed: "Allowed") -> bool:
        """Whether every session of the list is fixed or, where that is allowed, has vanished."""
        settled = self.sessions["fixed"] + (self.vanished if allowed.vanished else 0)
        return settled == self.header.sessions

    def exit_code(self, allowed: "Allowed") -> ExitCode:
        """DONE if every session is settled, by a config that is the same or differs as allowed; else FAILED."""
        is_proved = self.is_settled(allowed) and allowed.keys.issuperset(self.changed)
        return ExitCode.DONE if is_proved else ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Allowed:
    """What does not keep a list from being proved: sessions that vanished, and names of keys with another value."""

    vanished: bool = False
    keys: frozenset[str] = frozenset()


STRICT: Final = Allowed()


# --- Measuring


Now = tuple[State, ...] | Vanished
"""What a session is: the state of each record, or why it is not among those that need any."""

OnRemainingGap = Callable[[SessionKey, Mapping[str, GapReason]], None]
"""Is given every session of the list that is a gap now, in its order, with its reasons."""


def ignore_remaining(_session: SessionKey, _reasons: Mapping[str, GapReason]) -> None:
    """For whoever wants numbers only."""


async def verify(
    plan: Plan,
    worklist: Worklist,
    unmended: OnRemainingGap = ignore_remaining,
    on_progress: OnProgress = ignore_progress,
) -> Verification:
    """Measure the sessions of a worklist again, whose records are those of `plan`.

    Raises WorklistError if the database is another, CollectionError where nothing can be measured, and
    GapsNotMeasuredError where a record cannot be.
    """
    header = worklist.header
    reasons = (header.filters.reason,) if header.filters.reason else GAP_REASONS
    tally = _Tally(plan.pipeline.records, reasons)
    async with whole_snapshot(plan) as session:
        plan = session.plan
        check_identity(header, session.identity)
        looked_at = 0
        for portion in _portions(worklist.sessions(), PORTION):
            for listed, now in zip(portion, await _look(session, plan, portion), strict=True):
                if lacking := tally.count(listed, now):
                    unmended(listed.session, lacking)
            looked_at += len(portion)
            on_progress(looked_at)
        [[rows, apart, sessions, unnamed, *counts]] = await fetch_or_blame_records(
            session, plan, plan.gap_tally(tuple(plan.pipeline.records), reasons)
        )
        check_unrepeated(plan, rows, apart)
        restricted = await end(session)
    pairs = [(name, reason) for name in plan.pipeline.records for reason in GAP_REASONS]
    found = dict(zip(pairs, counts, strict=True))
    return Verification(
        header,
        Listing(
            header.sessions,
            restricted,
            session.clock.timestamp(),
            session.identity,
            terms_of(plan.pipeline, plan.database),
        ),
        changed_keys(header, plan),
        tally.sessions,
        tally.records,
        new_sessions=sessions - tally.known_sessions,
        new={
            name: {reason: found[name, reason] - tally.known[name, reason] for reason in GAP_REASONS}
            for name in plan.pipeline.records
        },
        unnamed=unnamed,
    )


T = TypeVar("T")


def _portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion


async def _look(session: Session, plan: Plan, portion: Sequence[Listed]) -> list[Now]:
    keys = [listed.session for listed in portion]
    found: list[Now] = ["gone"] * len(keys)
    alike: dict[tuple[State, ...], tuple[State, ...]] = {}
    async for rows in fetch_in_chunks(session, plan, plan.states_of(tuple(plan.pipeline.records), keys)):
        for place, in_window, eligible, *states in rows:
            if in_window and eligible:
                found[place] = alike.setdefault(tuple(states), tuple(states))
            else:
                found[place] = "not_eligible" if in_window else "left_window"
    if lost := [place for place, now in enumerate(found) if now == "gone"]:
        # Those outside the window are not judged, and so look as if they were gone.
        there = plan.places_of([keys[place] for place in lost])
        for [place] in await session.run(there, f"pipelines.{plan.pipeline.name}.sessions"):
            found[lost[place]] = "left_window"
    return found


@dataclass(slots=True)
class _Tally:
    """Adds up fates; `known` has the gaps of now that are on the list, as far as it would list them today."""

    of_records: Mapping[str, Record]
    wanted: Sequence[GapReason]
    sessions: Counter[SessionOutcome] = field(default_factory=Counter)
    records: dict[str, Counter[RecordOutcome]] = field(init=False)
    known: Counter[tuple[str, GapReason]] = field(default_factory=Counter)
    known_sessions: int = 0

    def __post_init__(self) -> None:
        self.records = {name: Counter() for name in self.of_records}

    def count(self, listed: Listed, now: Now) -> Mapping[str, GapReason]:
        """Count a session of the list; the reasons for which it is a gap now."""
        if isinstance(now, str):
            self.sessions[now] += 1
            for name in listed.reasons:
                self.records[name][now] += 1
            return {}
        states = dict(zip(self.of_records, now, strict=True))
        # What it was listed for is mended by nothing but a satisfied record, whatever the list was narrowed to.
        lacking = {
            name: reason
            for name, record in self.of_records.items()
            if (reason := _reason(states[name], record)) and (name in listed.reasons or reason in self.wanted)
        }
        for name in listed.reasons:
            self.records[name][lacking.get(name) or ("pending" if states[name] == "pending" else "fixed")] += 1
        self.sessions["gap" if lacking else "pending" if "pending" in now else "fixed"] += 1
        listable = [(name, reason) for name, reason in lacking.items() if reason in self.wanted]
        self.known_sessions += bool(listable)
        self.known.update(pair for pair in listable if pair[0] in listed.reasons)
        return lacking


def _reason(state: State, record: Record) -> GapReason | None:
    return next((reason for reason in gap_reasons(record) if reason == state), None)
