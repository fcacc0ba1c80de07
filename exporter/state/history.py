"""Collections -> a history of bounded size: with age, more collections share a point.  Pure.

Every point except the last covers the same number of collections, and has the worst values: no fault disappears.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exporter.model.reporting import Track
from exporter.model.standing import Verdict, rank

MOST_POINTS: Final = 240
"""An even number: points are merged in pairs."""


@dataclass(frozen=True, slots=True)
class Point:
    """Some collections in one point: the ends are from `since` to `until`, in Unix seconds.

    `verdict` is the worst verdict.  `values` has the worst number of each track, None without a measurement.
    """

    since: float
    until: float
    rounds: int
    verdict: Verdict
    values: tuple[float | None, ...]


def remembered(history: Sequence[Point], latest: Point, tracks: Sequence[Track]) -> tuple[Point, ...]:
    """The history with one more collection."""
    if history and history[-1].rounds < history[0].rounds:
        points = [*history[:-1], _merged(history[-1], latest, tracks)]
    else:
        points = [*history, latest]
    if len(points) <= MOST_POINTS:
        return tuple(points)
    pairs = zip(points[:MOST_POINTS:2], points[1:MOST_POINTS:2], strict=True)
    return (*(_merged(*pair, tracks) for pair in pairs), *points[MOST_POINTS:])


def _merged(earlier: Point, later: Point, tracks: Sequence[Track]) -> Point:
    return Point(
        earlier.since,
        later.until,
        earlier.rounds + later.rounds,
        min(earlier.verdict, later.verdict, key=rank),
        tuple(map(_worse, tracks, earlier.values, later.values)),
    )


def _worse(track: Track, one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    worst = min if track.good == "many" else max
    return worst(known, default=None)
