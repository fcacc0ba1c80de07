"""Figures: what people read stands to its limit as the number does, and says none or all only where it is."""

import random
import re
from decimal import Decimal

import pytest

from exporter.text.figures import LimitUnit, format_age, format_exactly, format_value

UNITS: tuple[LimitUnit, ...] = ("count", "ratio", "seconds")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def read(text: str, unit: LimitUnit) -> Decimal:
    """What a person reads."""
    if unit == "count":
        return Decimal(text)
    if unit == "ratio":
        return Decimal(text.removesuffix("%")) / 100
    parts = re.findall(r"([\d.]+)([dhms])", text)
    assert "".join(number + name for number, name in parts) == text
    return sum((Decimal(number) * _SECONDS[name] for number, name in parts), Decimal())


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (39, "count", "39"),
        (25_000, "count", "25000"),
        (0.0, "ratio", "0%"),
        (0.00001, "ratio", "0.001%"),
        (0.2484, "ratio", "24.84%"),
        (0.91699, "ratio", "91.7%"),
        (0.99999, "ratio", "99.999%"),
        (24_999_999 / 25_000_000, "ratio", "99.999996%"),
        (1.0, "ratio", "100%"),
        (0, "seconds", "0s"),
        (0.0004, "seconds", "0.0004s"),
        (0.96, "seconds", "0.96s"),
        (4.25, "seconds", "4.25s"),
        (59.94, "seconds", "59.9s"),
        (90, "seconds", "1m30s"),
        (3600, "seconds", "1h"),
        (7199, "seconds", "1h59m"),
        (10_402_200, "seconds", "120d9h"),
        (float("nan"), "seconds", "nan"),
    ],
)
def test_a_number_has_its_unit_and_no_more_digits_than_it_needs(value: float, unit: LimitUnit, text: str) -> None:
    assert format_value(value, unit) == text


@pytest.mark.parametrize(
    ("age", "limits", "text"),
    [
        (10_402_200, (), "17 weeks"),
        (10_402_200, (119 * 86400,), "120 days"),
        (3 * 86400 + 5, (), "3 days"),
        (7260, (), "2 hours"),
        (7260, (7200,), "121 minutes"),
        (7201, (7200,), "2h1s"),
        (119, (), "1m59s"),
        (0.25, (), "0.25s"),
        (float("nan"), (60,), "nan"),
    ],
)
def test_an_age_is_in_words_and_on_its_side_of_each_limit(age: float, limits: tuple[float, ...], text: str) -> None:
    assert format_age(age, limits) == text


@pytest.mark.parametrize(
    ("value", "limit", "unit", "text"),
    [
        (22_499 / 25_000, 0.9, "ratio", "89.996%"),
        (22_500 / 25_000, 0.9, "ratio", "90%"),
        (22_501 / 25_000, 0.9, "ratio", "90.004%"),
        (0.99999, 0.999985, "ratio", "99.999%"),
        (59.6, 60, "seconds", "59.6s"),
        (59.96, 60, "seconds", "59.96s"),
        (60.4, 60, "seconds", "1m0.4s"),
        (7199, 7140, "seconds", "1h59m59s"),
        (129_599.8, 129_600, "seconds", "1d11h"),
        (129_600.2, 129_600, "seconds", "1d12h0.2s"),
    ],
)
def test_no_number_is_rounded_onto_or_across_its_limit(value: float, limit: float, unit: LimitUnit, text: str) -> None:
    assert format_value(value, unit, [limit]) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9, "ratio", "90%"),
        (0.905, "ratio", "90.5%"),
        (0.99999, "ratio", "99.999%"),
        (129_600, "seconds", "1d12h"),
        (90, "seconds", "1m30s"),
        (100_000, "seconds", "1d3h46m40s"),
        (0.05, "seconds", "0.05s"),
        (0, "count", "0"),
        (100_000, "count", "100000"),
    ],
)
def test_a_threshold_loses_no_digit(value: float, unit: LimitUnit, text: str) -> None:
    assert format_exactly(value, unit) == text


@pytest.mark.parametrize("unit", UNITS)
def test_what_people_read_compares_with_its_limits_as_the_numbers_do(unit: LimitUnit) -> None:
    chance = random.Random(unit)  # noqa: S311 - examples

    def drawn(near: float) -> float:
        if unit == "count":
            return float(max(0, round(near) + chance.randrange(-2, 3)))
        return max(0.0, near + chance.choice([0, 1, -1]) * near * 10 ** -chance.uniform(0, 9))

    for _ in range(3000):
        limit = chance.random() if unit == "ratio" else 10 ** chance.uniform(-3, 7)
        limits = [drawn(limit), drawn(limit)]
        value = drawn(limit) if unit != "ratio" else min(1.0, drawn(limit))
        figures = read(format_value(value, unit, limits), unit)
        for mark in limits:
            beside = read(format_exactly(mark, unit), unit)
            assert (figures > beside, figures == beside) == (value > mark, value == mark), (value, mark)
        assert (figures == 0) == (value == 0)
        assert unit != "ratio" or (figures == 1) == (value == 1)
