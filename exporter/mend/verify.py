"""Worklist + database -> the outcome of each session of the worklist, and new gaps.

The conditions are the conditions of the gauges, in one snapshot.  The server gets the keys in portions and joins each
portion to the judged sessions in one pass: neither side keeps more than one portion in memory.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Literal, TypeVar, get_args

from exporter.measure.session import Session
from exporter.mend.gaps import gaps_of_control
from exporter.mend.whole import (
    Listing,
    OnProgress,
    check_unrepeated,
    ended,
    fetch_in_chunks,
    fetch_or_blame,
    ignore_progress,
    refused_records,
    whole_snapshot,
)
from exporter.mend.worklist import Header, Listed, Worklist, WorklistError, changed_keys, check_identity
from exporter.model.elsewhere import identities_of
from exporter.model.sections import Pipeline, Record, Window
from exporter.model.states import GAP_REASONS, GapReason, State, gap_reasons
from exporter.plan.gaps import GapFilter
from exporter.plan.plan import Plan
from exporter.text.exits import ExitCode

RecordOutcome = Literal[
    "fixed",
    "missing",
    "outdated",
    "invalid",
    "too_few",
    "too_many",
    "pending",
    "gone",
    "left_window",
    "not_eligible",
]
"""The outcome of a listed record: fixed; still a gap, with the reason; pending; or the session has vanished.

Vanished: deleted, outside the window or no longer eligible.
"""

SessionOutcome = Literal["fixed", "gap", "pending", "gone", "left_window", "not_eligible"]
"""The outcome of a listed session: a gap if any record of the worklist is a gap."""

Vanished = Literal["gone", "left_window", "not_eligible"]
VANISHED: Final[tuple[Vanished, ...]] = get_args(Vanished)

PORTION: Final = 100_000
"""Keys in one pass: about 4 MB of UUIDs in the server's memory."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for a worklist: numbers of sessions by outcome, and by record and outcome.

    `new_sessions`: sessions with a gap that the worklist does not have.  `new`: new gaps by record and reason, also of
    listed sessions for another record.  `unnamed`: sessions with a gap and NULL in the key, on no worklist.  `changed`:
    changed keys of the config that decide about gaps.
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
        """The number of sessions that are deleted, outside the window or no longer eligible."""
        return sum(self.sessions[fate] for fate in VANISHED)

    def is_settled(self, allowed: "Allowed") -> bool:
        """Whether every session of the worklist is fixed or, if allowed, has vanished."""
        settled = self.sessions["fixed"] + (self.vanished if allowed.vanished else 0)
        return settled == self.header.sessions

    def exit_code(self, allowed: "Allowed") -> ExitCode:
        """DONE if every session is settled and every change of the config is allowed; else FAILED."""
        is_proved = self.is_settled(allowed) and allowed.keys.issuperset(self.changed)
        return ExitCode.DONE if is_proved else ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Allowed:
    """Allowed differences: vanished sessions, and names of changed keys."""

    vanished: bool = False
    keys: frozenset[str] = frozenset()


STRICT: Final = Allowed()


# --- Measuring


Now = tuple[State, ...] | Vanished
"""A session now: the state of each record, or the way in which the session has vanished."""

OnRemainingGap = Callable[[Listed], None]
"""Takes every session of the worklist that still has a gap, in order, with the reasons of now."""


def ignore_remaining(_session: Listed) -> None:
    """Ignore the remaining gaps."""


async def verify(
    plan: Plan,
    worklist: Worklist,
    unmended: OnRemainingGap = ignore_remaining,
    on_progress: OnProgress = ignore_progress,
) -> Verification:
    """Measure the sessions of a worklist again; `plan` has exactly the records of the worklist.

    Raises WorklistError for another database, CollectionError if there is no snapshot, and ListNotMeasuredError if a
    record cannot be measured.
    """
    header = worklist.header
    wanted = header.filters.wanted
    tally = _Tally(plan.pipeline.records, wanted.reasons)
    if wanted.segment is not None and not plan.has_segments:
        raise WorklistError(
            f"the worklist has the segment {wanted.segment}, and the config has no sessions.segment: verify with "
            "the config of the worklist, or make a new worklist"
        )
    async with whole_snapshot(plan, gaps_of_control) as session:
        changed = changed_keys(header, session.plan)
        plan = session.plan.about(_as_of(session.plan.pipeline, header))
        check_identity(header, session.identity, identities_of(session.elsewhere))
        looked_at = 0
        for portion in _portions(worklist.sessions(), PORTION):
            found, elsewhere = await _look(session, plan, portion, wanted)
            for place, (listed, now) in enumerate(zip(portion, found, strict=True)):
                if lacking := tally.count(listed, now, is_elsewhere=place in elsewhere):
                    unmended(replace(listed, reasons=lacking))
            looked_at += len(portion)
            on_progress(looked_at)
        [[rows, apart, sessions, unnamed, *counts]] = await fetch_or_blame(
            session, plan.gap_tally(tuple(plan.pipeline.records), wanted), refused_records
        )
        check_unrepeated(plan, rows, apart)
        listing = await ended(session, header.sessions)
    pairs = [(name, reason) for name in plan.pipeline.records for reason in GAP_REASONS]
    gaps = dict(zip(pairs, counts, strict=True))
    return Verification(
        header,
        listing,
        changed,
        tally.sessions,
        tally.records,
        new_sessions=sessions - tally.known_sessions,
        new={
            name: {reason: gaps[name, reason] - tally.known[name, reason] for reason in GAP_REASONS}
            for name in plan.pipeline.records
        },
        unnamed=unnamed,
    )


def _as_of(pipeline: Pipeline, header: Header) -> Pipeline:
    """The pipeline with the window that the worklist was made with: sessions grow older during a backfill."""
    if pipeline.window.last is None:
        return pipeline
    return pipeline.model_copy(update={"window": Window(since=header.start)})


T = TypeVar("T")


def _portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion


async def _look(
    session: Session, plan: Plan, portion: Sequence[Listed], wanted: GapFilter
) -> tuple[list[Now], set[int]]:
    """Each session now, and the places of the sessions that are of another segment now."""
    keys = [listed.session for listed in portion]
    found: list[Now] = ["gone"] * len(keys)
    elsewhere: set[int] = set()
    alike: dict[tuple[State, ...], tuple[State, ...]] = {}
    states_of = plan.states_of(tuple(plan.pipeline.records), keys, wanted)
    async for rows in fetch_in_chunks(session, states_of, refused_records):
        for place, in_window, eligible, in_segment, *states in rows:
            if not in_segment:
                elsewhere.add(place)
            if in_window and eligible:
                found[place] = alike.setdefault(tuple(states), tuple(states))
            else:
                found[place] = "not_eligible" if in_window else "left_window"
    if lost := [place for place, now in enumerate(found) if now == "gone"]:
        # Rows outside the window, and rows that are no sessions, are not judged: look them up in the table.
        there = plan.places_of([keys[place] for place in lost])
        for place, in_window in await session.run(there, f"pipelines.{plan.pipeline.name}.sessions"):
            found[lost[place]] = "not_eligible" if in_window else "left_window"
    return found, elsewhere


@dataclass(slots=True)
class _Tally:
    """Counts outcomes; `known` counts current gaps that the worklist already has."""

    of_records: Mapping[str, Record]
    wanted: Collection[GapReason]
    sessions: Counter[SessionOutcome] = field(default_factory=Counter)
    records: dict[str, Counter[RecordOutcome]] = field(init=False)
    known: Counter[tuple[str, GapReason]] = field(default_factory=Counter)
    known_sessions: int = 0

    def __post_init__(self) -> None:
        self.records = {name: Counter() for name in self.of_records}

    def count(self, listed: Listed, now: Now, *, is_elsewhere: bool) -> Mapping[str, GapReason]:
        """Count a session of the worklist; returns the reasons of a remaining gap, empty without a gap.

        A session of another segment is no gap of the worklist's segment any more, and still must be fixed.
        """
        if isinstance(now, str):
            self.sessions[now] += 1
            for name in listed.reasons:
                self.records[name][now] += 1
            return {}
        states = dict(zip(self.of_records, now, strict=True))
        # A listed record is fixed only if satisfied, also if the worklist was filtered by reason.
        lacking = {
            name: reason
            for name, record in self.of_records.items()
            if (reason := _reason(states[name], record)) and (name in listed.reasons or reason in self.wanted)
        }
        for name in listed.reasons:
            self.records[name][lacking.get(name) or ("pending" if states[name] == "pending" else "fixed")] += 1
        self.sessions["gap" if lacking else "pending" if "pending" in now else "fixed"] += 1
        listable = [] if is_elsewhere else [pair for pair in lacking.items() if pair[1] in self.wanted]
        self.known_sessions += bool(listable)
        self.known.update(pair for pair in listable if pair[0] in listed.reasons)
        return lacking


def _reason(state: State, record: Record) -> GapReason | None:
    return next((reason for reason in gap_reasons(record) if reason == state), None)
