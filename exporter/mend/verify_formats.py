"""The result of `verify` as text and as JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from exporter.mend.verify import STRICT, VANISHED, Allowed, RecordOutcome, SessionOutcome, Vanished, Verification
from exporter.model.states import GAP_REASONS
from exporter.text.exits import ExitCode
from exporter.text.format import Format
from exporter.text.terminal import Block, Span, Tone, table
from exporter.text.times import moment_text

# --- Formats


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """A verification, the file name of the worklist, and the allowed differences."""

    verification: Verification
    file: str
    allowed: Allowed = STRICT


def as_blocks(verification: Verification, file: str, allowed: Allowed = STRICT) -> Iterator[Block]:
    """One line with the outcome, a table with the sessions and each record, then the details."""
    header, sessions = verification.header, verification.sessions
    code = verification.exit_code(allowed)
    measured = f", measured at {moment_text(verification.listing.taken_at)}"
    yield (
        Span(f"{header.pipeline}: "),
        Span(_outcome(verification, allowed), "good" if code == ExitCode.DONE else "bad"),
        Span(f"{measured}; {file} was made at {header.made_at}", "quiet"),
    )
    yield table(_rows(verification), numbers=range(1, len(_COLUMNS)))
    said = {
        "still a gap": [
            f"{name} {_counts({reason: fates[reason] for reason in GAP_REASONS})}"
            for name, fates in verification.records.items()
            if any(fates[reason] for reason in GAP_REASONS)
        ],
        "vanished": [_counts({_WORDS[fate]: sessions[fate] for fate in VANISHED})] if verification.vanished else [],
        "new since": [f"{name} {_counts(new)}" for name, new in verification.new.items() if any(new.values())],
    }
    for what, parts in said.items():
        if parts:
            yield Span(f"  {what}", _TONES.get(what)), Span(f": {'; '.join(parts)}")
    for what, keys in _changes(verification, allowed).items():
        if keys:
            yield Span(f"  {what}", _TONES.get(what)), Span(f": {', '.join(keys)}")
    if verification.unnamed:
        yield (Span(f"  gaps on no worklist, because the key has NULL: {verification.unnamed}"),)


_COLUMNS: Final = ("", "listed", "fixed", "still a gap", "pending", "vanished", "new since")
_WORDS: Final[Mapping[Vanished, str]] = {
    "gone": "gone",
    "left_window": "left the window",
    "not_eligible": "no longer eligible",
}
_CHANGED: Final = "changed in the config since the worklist"
_CHANGED_AS_ALLOWED: Final = "changed in the config since the worklist, and allowed"
_TONES: Final[Mapping[str, Tone]] = {
    _CHANGED: "bad",
    "fixed": "good",
    "still a gap": "bad",
    "pending": "warning",
    "vanished": "unknown",
    "new since": "warning",
}


def _changes(verification: Verification, allowed: Allowed) -> dict[str, list[str]]:
    """The changed keys of the config, refused and allowed."""
    return {
        _CHANGED: [key for key in verification.changed if key not in allowed.keys],
        _CHANGED_AS_ALLOWED: [key for key in verification.changed if key in allowed.keys],
    }


def _outcome(verification: Verification, allowed: Allowed) -> str:
    number, fixed = verification.header.sessions, verification.sessions["fixed"]
    what = f"{fixed} of {number} {'session' if number == 1 else 'sessions'} fixed"
    if not verification.is_settled(allowed):
        return f"not all fixed: {what}"
    if not number:
        what = "the worklist is empty: nothing to fix"
    is_proved = verification.exit_code(allowed) == ExitCode.DONE
    return what if is_proved else f"not proved: {what}, but the config has changed since the worklist"


def _rows(verification: Verification) -> Iterator[tuple[Span, ...]]:
    sessions = verification.sessions
    yield tuple(Span(name, "strong") for name in _COLUMNS)
    yield _row(
        "sessions",
        verification.header.sessions,
        sessions["fixed"],
        sessions["gap"],
        sessions["pending"],
        verification.vanished,
        verification.new_sessions,
    )
    for name, fates in verification.records.items():
        yield _row(
            name,
            sum(fates.values()),
            fates["fixed"],
            sum(fates[reason] for reason in GAP_REASONS),
            fates["pending"],
            sum(fates[fate] for fate in VANISHED),
            sum(verification.new[name].values()),
        )


def _row(name: str, listed: int, fixed: int, *others: int) -> tuple[Span, ...]:
    shown = [Span(name), Span(str(listed)), Span(f"{fixed} of {listed}", _TONES["fixed"] if fixed == listed else None)]
    return *shown, *(
        Span(str(n), _TONES[column] if n else "quiet") for column, n in zip(_COLUMNS[3:], others, strict=True)
    )


def _counts(numbers: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in numbers.items() if number)


def as_json(verification: Verification, allowed: Allowed = STRICT) -> str:
    """The result as one JSON object."""
    header = verification.header
    fates: tuple[RecordOutcome, ...] = get_args(RecordOutcome)
    of_sessions: tuple[SessionOutcome, ...] = get_args(SessionOutcome)
    return json.dumps(
        {
            "format": 1,
            "exit_code": verification.exit_code(allowed),
            "database": header.database,
            "pipeline": header.pipeline,
            "made_at": header.made_at,
            "measured_at": moment_text(verification.listing.taken_at),
            "sessions": {
                "listed": header.sessions,
                **{fate: verification.sessions[fate] for fate in of_sessions},
                "new": verification.new_sessions,
                "unnamed": verification.unnamed,
            },
            "records": [
                {
                    "record": name,
                    "listed": sum(counted.values()),
                    **{fate: counted[fate] for fate in fates},
                    "new": verification.new[name],
                }
                for name, counted in verification.records.items()
            ],
            "restricted": verification.listing.restricted,
            "changed": [{"key": key, "allowed": key in allowed.keys} for key in verification.changed],
        },
        indent=2,
        ensure_ascii=False,
    )


FORMATS: Final[Mapping[str, Format[VerifyResult]]] = {
    "text": Format(lambda o: tuple(as_blocks(o.verification, o.file, o.allowed)), for_people=True),
    "json": Format(lambda o: as_json(o.verification, o.allowed) + "\n"),
}
"""The formats of `verify`."""
