"""A number -> text with a unit, with enough digits to keep the order of compared numbers.  Pure."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Final, Literal

LimitUnit = Literal["count", "ratio", "seconds"]
"""The unit of a number: a count, a share from 0 to 1, or seconds."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS: Final = (("d", _DAY), ("h", _HOUR), ("m", _MINUTE))
_AGES: Final = (("week", 7 * _DAY), ("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE))

_ENDS: Final[Mapping[LimitUnit, tuple[int, ...]]] = {"count": (0,), "ratio": (0, 1), "seconds": (0,)}
"""Special values: a share reads as 0% or 100%, and an age as 0s, only if exact."""


def format_value(value: float, unit: LimitUnit, beside: Sequence[float] = (), places: int = 2) -> str:
    """A number with a unit: `39`, `98.73%`, `1h5m`; rounded, but never onto or across a number in `beside`.

    `value` and `beside` are in base units.  A share has `places` digits of a percent, or more if needed.  No number
    ends in zeros after the point.
    """
    if not math.isfinite(value):
        return str(value)
    true, marks = _decimal(value), [_decimal(mark) for mark in (*beside, *_ENDS[unit])]
    sides = [true.compare(mark) for mark in marks]
    roundings = _ROUNDINGS[unit](true, places)
    return _WRITERS[unit](next(one for one in roundings if [one.compare(mark) for mark in marks] == sides))


def format_exactly(value: float, unit: LimitUnit) -> str:
    """A number from a config, such as a threshold, with a unit and every digit."""
    return _WRITERS[unit](_decimal(value))


def format_age(seconds: float, beside: Sequence[float] = ()) -> str:
    """An age in words, `17 weeks` or `2 hours`: rounded, but never onto or across a number in `beside`."""
    for name, size in _AGES:
        whole, number = seconds // size * size, seconds // size
        if number > 1 and all((whole > mark, whole < mark) == (seconds > mark, seconds < mark) for mark in beside):
            return f"{number:.0f} {name}s"
    return format_value(seconds, "seconds", beside)


def _decimal(value: float) -> Decimal:
    # The shortest decimal of the float: comparisons agree with the floats, and a threshold reads as in the config.
    return Decimal(repr(float(value)))


def _counts(true: Decimal, _places: int) -> Iterator[Decimal]:
    return _finer(true, 0)


def _shares(true: Decimal, places: int) -> Iterator[Decimal]:
    return _finer(true, places + 2)


def _durations(true: Decimal, _places: int) -> Iterator[Decimal]:
    """Below a minute three digits, else the two largest units; then every unit, then parts of a second."""
    if abs(true) < _MINUTE:
        yield from _finer(true, 2 - true.adjusted())
        return
    for step, least in ((_HOUR, _DAY), (_MINUTE, _HOUR)):
        if abs(true) >= least:
            yield true - true % step
    yield from _finer(true, 0)


def _finer(true: Decimal, places: int) -> Iterator[Decimal]:
    """Roundings to `places` digits after the point, then to more digits until exact."""
    for more in count(max(places, 0)):
        yield (rounded := true.quantize(Decimal(1).scaleb(-more)))
        if rounded == true:
            return


def _count_text(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _share_text(value: Decimal) -> str:
    return f"{value.scaleb(2).normalize():f}%"


def _duration_text(value: Decimal) -> str:
    rest, parts = abs(value), []
    for name, seconds in _STEPS:
        whole, rest = divmod(rest, seconds)
        parts += [f"{whole:f}{name}"] if whole else []
    parts += [f"{rest.normalize():f}s"] if rest or not parts else []
    return "-" * (value < 0) + "".join(parts)


_ROUNDINGS: Final[Mapping[LimitUnit, Callable[[Decimal, int], Iterator[Decimal]]]] = {
    "count": _counts,
    "ratio": _shares,
    "seconds": _durations,
}
_WRITERS: Final[Mapping[LimitUnit, Callable[[Decimal], str]]] = {
    "count": _count_text,
    "ratio": _share_text,
    "seconds": _duration_text,
}
