"""History -> the curves and the strip of an SVG without a script: numbers and verdicts since the first collection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from exporter.model.reporting import Track
from exporter.model.standing import WORST_FIRST, Verdict
from exporter.state.history import Point
from exporter.text.terminal import Tone

WIDTH: Final = 1000
HEIGHT: Final = 100
"""Size of a plot in its own units; the browser stretches the plot."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One number over time: `strokes` and `areas` are path data, one per stretch without an interruption.

    With `is_cut` the scale starts above 0, without areas.

    `latest` is None if the last collection did not measure the number; `least` and `most` are None without any
    measurement.
    """

    text: str
    tone: Tone
    latest: float | None
    least: float | None
    most: float | None
    strokes: tuple[str, ...]
    areas: tuple[str, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class VerdictSpan:
    """A stretch of one verdict: `start` and `length` in percent of the width, and the height."""

    verdict: Verdict
    start: float
    length: float
    height: int


@dataclass(frozen=True, slots=True)
class Trend:
    """Curves and verdicts from `since` to `until` (Unix seconds); `lasted`: seconds per verdict, the worst first."""

    since: float
    until: float
    curves: tuple[Curve, ...]
    spells: tuple[VerdictSpan, ...]
    lasted: tuple[tuple[Verdict, float], ...]


_HEIGHTS: Final[dict[Verdict, int]] = {"healthy": 30, "degraded": 60, "unhealthy": 100, "no_data": 12, "unknown": 100}


def trend_of(history: Sequence[Point], tracks: Sequence[Track]) -> Trend | None:
    """The trend; None with fewer than two collections."""
    if not history or history[-1].until <= history[0].since:
        return None
    since, until = history[0].since, history[-1].until
    # A verdict lasts until halfway to the next point.
    turns = [since, *((one.until + other.since) / 2 for one, other in pairwise(history)), until]
    stretches = [(point.verdict, start, end) for point, (start, end) in zip(history, pairwise(turns), strict=True)]
    lasted = dict.fromkeys(WORST_FIRST, 0.0)
    for verdict, start, end in stretches:
        lasted[verdict] += end - start
    return Trend(
        since,
        until,
        tuple(_curve(track, history, [point.values[place] for point in history]) for place, track in enumerate(tracks)),
        tuple(_spells(stretches, since, until - since)),
        tuple((verdict, seconds) for verdict, seconds in lasted.items() if seconds),
    )


def _spells(stretches: Sequence[tuple[Verdict, float, float]], since: float, length: float) -> Iterator[VerdictSpan]:
    for verdict, group in groupby(stretches, key=lambda stretch: stretch[0]):
        whole = list(group)
        start, end = whole[0][1], whole[-1][2]
        yield VerdictSpan(verdict, 100 * (start - since) / length, 100 * (end - start) / length, _HEIGHTS[verdict])


def _curve(track: Track, history: Sequence[Point], values: Sequence[float | None]) -> Curve:
    known = [value for value in values if value is not None]
    since, length = history[0].since, history[-1].until - history[0].since
    low, high = _scale(track, known)
    places = [
        None
        if value is None
        else [
            (WIDTH * (moment - since) / length, HEIGHT * (high - value) / (high - low))
            for moment in sorted({point.since, point.until})
        ]
        for point, value in zip(history, values, strict=True)
    ]
    runs = [
        [place for places_of_point in group for place in places_of_point or ()]
        for is_known, group in groupby(places, key=lambda place: place is not None)
        if is_known
    ]
    return Curve(
        track.text,
        "good" if track.good == "many" else "bad",
        values[-1],
        min(known, default=None),
        max(known, default=None),
        tuple(_path(run) for run in runs),
        # A filled area shows a quantity: only with a scale from 0.
        tuple(map(_area, runs)) if low == 0 else (),
        is_cut=low > 0,
    )


def _scale(track: Track, known: Sequence[float]) -> tuple[float, float]:
    """From 0 if 0 is good or nothing changes; else the range of the values, to make a dent visible.

    The scale has some space below and above the range, but never starts below 0.
    """
    least, most = min(known, default=0.0), max(known, default=0.0)
    if least == most:
        return 0.0, max(4 * most / 3, 1.0)
    if track.good == "none":
        return 0.0, max(most, 1.0)
    air = max((most - least) / 4, 1.0)
    return max(least - air, 0.0), most + air


def _area(run: Sequence[tuple[float, float]]) -> str:
    return f"M{run[0][0]:.1f} {HEIGHT}{_path(run).replace('M', 'L')}L{run[-1][0]:.1f} {HEIGHT}Z"


def _path(run: Sequence[tuple[float, float]]) -> str:
    # A stretch of one collection is a dot: a line without length, with round ends.
    whole = [*run, run[-1]] if len(run) == 1 else run
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in whole)
