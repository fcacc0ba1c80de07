"""What is remembered of the rounds: bounded, evenly, and never better than it was."""

import itertools
import random

import pytest

from exporter.model.metric import Metric
from exporter.model.reporting import Track
from exporter.model.standing import VERDICTS, Verdict, rank
from exporter.state.history import MOST_POINTS, Point, remembered

TRACKS = (
    Track("gaps", Metric("gaps", "."), (), good="none"),
    Track("complete", Metric("complete", "."), (), good="many"),
)


def a_round(at: float, verdict: Verdict = "healthy", *values: float | None) -> Point:
    return Point(at, at, 1, verdict, values or (0.0, 10.0))


def after(rounds: list[Point]) -> tuple[Point, ...]:
    history: tuple[Point, ...] = ()
    for point in rounds:
        history = remembered(history, point, TRACKS)
        assert len(history) <= MOST_POINTS
    return history


def test_at_first_every_round_is_a_point_of_its_own() -> None:
    rounds = [a_round(float(at)) for at in range(MOST_POINTS)]

    assert after(rounds) == tuple(rounds)


@pytest.mark.parametrize("count", [1, MOST_POINTS, MOST_POINTS + 1, 1000, 12_345])
def test_however_many_rounds_there_are_every_one_is_in_a_point_and_all_points_are_alike(count: int) -> None:
    history = after([a_round(float(at)) for at in range(count)])

    assert sum(point.rounds for point in history) == count
    assert (history[0].since, history[-1].until) == (0.0, count - 1.0)
    assert len({point.rounds for point in history[:-1]}) <= 1
    assert all(one.until < other.since for one, other in itertools.pairwise(history))
    assert len(history) > min(count, MOST_POINTS) // 2 - 1


def test_one_bad_round_among_many_is_never_thinned_away() -> None:
    rounds = [a_round(float(at)) for at in range(5000)]
    rounds[1234] = a_round(1234.0, "unhealthy", 39.0, 3.0)
    rounds[4321] = a_round(4321.0, "unknown", None, None)

    history = after(rounds)

    [bad] = [point for point in history if point.verdict == "unhealthy"]
    assert bad.since <= 1234.0 <= bad.until
    assert bad.values == (39.0, 3.0)
    [dark] = [point for point in history if point.verdict == "unknown"]
    # What the other rounds of the point measured is not lost.
    assert dark.values == (0.0, 10.0)


def test_a_point_of_which_no_round_measured_anything_has_no_number() -> None:
    history = after([a_round(float(at), "unknown", None, None) for at in range(1000)])

    assert {point.values for point in history} == {(None, None)}


def test_whatever_happened_a_point_is_as_bad_as_its_worst_round() -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable, and no secret
    rounds = [
        a_round(float(at), chance.choice(VERDICTS), chance.randrange(50), chance.randrange(50)) for at in range(3000)
    ]

    for point in after(rounds):
        those = [one for one in rounds if point.since <= one.since <= point.until]
        assert point.verdict == min((one.verdict for one in those), key=rank)
        assert point.values == (max(one.values[0] or 0 for one in those), min(one.values[1] or 0 for one in those))
