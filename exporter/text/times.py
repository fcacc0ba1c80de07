"""Durations and moments, read and written as text."""

import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import Final

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
DURATION: Final = re.compile(r"(?:[0-9]+(?:ms|s|m|h|d|w))+")
"""A duration: whole numbers, each with a unit."""
_DURATION_PART: Final = re.compile(r"([0-9]+)(ms|s|m|h|d|w)")
_LONGEST: Final = timedelta(days=36500)
_NOT_A_MOMENT: Final = "is not a date: write 2025-08-01 or 2025-08-01T12:00:00Z"


def parse_duration(value: object) -> timedelta:
    """Read `30s`, `5m`, `1h30m`, `90d`, or 0; raises ValueError with the remedy."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return timedelta(0)
        raise ValueError("needs a unit (ms, s, m, h, d, w): write 30s, 5m or 1h30m")
    if not isinstance(value, str) or not DURATION.fullmatch(value):
        raise ValueError(
            "is not a duration: write a whole number with a unit (ms, s, m, h, d, w), such as 30s, 5m or 1h30m"
        )
    try:
        duration = sum((int(n) * _UNITS[unit] for n, unit in _DURATION_PART.findall(value)), timedelta())
    except (OverflowError, ValueError):  # beyond timedelta; beyond int's limit of digits
        duration = timedelta.max
    if duration > _LONGEST:
        raise ValueError(f"is too long: write at most {_LONGEST.days}d")
    return duration


def parse_moment(value: object) -> datetime:
    """Read a date or a time: a date means midnight, and a time without an offset is UTC.  Raises ValueError."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(_NOT_A_MOMENT) from None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError(_NOT_A_MOMENT)


def moment_text(unix_seconds: float) -> str:
    """A time as text, in UTC and to the second; the inverse of `parse_moment`."""
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def elapsed() -> float:
    """Seconds on a clock that never steps, and that goes on while the machine is suspended.

    Without such a clock (macOS), the clock stands still in a suspended machine.
    https://man7.org/linux/man-pages/man2/clock_gettime.2.html
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
