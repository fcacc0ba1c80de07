"""Judging: what a number beside its limit is called, and how both are shown.  No database."""

import pytest
from conftest import TOUR, plan_of

from exporter.dimension import Advice, Dimension, Judged, Limit, Part, Readings
from exporter.judge import judge, shown
from exporter.schema import LimitUnit

TEXT = TOUR.read_text()
PIPELINE = plan_of(TEXT, "postgresql://nowhere").pipeline
NOTHING = Judged(lambda _readings, _name: None, lambda _select: "vector(0)")
ADVICE = Advice("Nothing is wrong.", "Nothing.", (), ())
SILENT = Dimension(
    name="silent",
    question="What does a limit say that reads nothing where nothing was measured?",
    measures=(),
    parts=lambda _pipeline: (Part("answered", "sessions.checks.answered"),),
    limits=(
        Limit("failed_checks", "count", "Sessions that fail", NOTHING, ADVICE, per="part"),
        Limit("orphaned_records", "count", "Rows without a session", NOTHING, ADVICE, per="record"),
    ),
)


def outcomes(faulty_records: set[str], faulty_parts: set[str]) -> dict[tuple[str, str | None], str]:
    readings = Readings(PIPELINE, 0.0, {})
    judgement = judge([SILENT], readings, frozenset(faulty_records), frozenset(faulty_parts), ())
    return {(finding.limit.name, finding.subject): finding.outcome for finding in judgement.findings}


def test_what_failed_is_not_measured_whatever_its_limit_reads() -> None:
    assert outcomes({"profiles"}, {"sessions.checks.answered"}) == {
        ("failed_checks", "answered"): "not_measured",
        ("orphaned_records", "profiles"): "not_measured",
        ("orphaned_records", "fc_scores"): "within",
    }


def test_a_part_is_known_by_its_path_and_not_by_its_name() -> None:
    assert outcomes(set(), {"sessions.answered"})["failed_checks", "answered"] == "within"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (39, "count", "39"),
        (0.0, "ratio", "0%"),
        (0.00001, "ratio", "<0.01%"),
        (0.2484, "ratio", "24.84%"),
        (0.99999, "ratio", ">99.99%"),
        (1.0, "ratio", "100%"),
        (0, "seconds", "0s"),
        (4.25, "seconds", "4.25s"),
        (59.94, "seconds", "59.9s"),
        (90, "seconds", "1m30s"),
        (3600, "seconds", "1h"),
        (10_402_200, "seconds", "120d9h"),
    ],
)
def test_a_number_has_its_unit_and_a_share_is_none_or_all_only_where_it_is(
    value: float, unit: LimitUnit, text: str
) -> None:
    assert shown(value, unit) == text
