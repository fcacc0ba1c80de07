"""Judging: what a number beside its limit is called.  No database."""

import pytest
from conftest import TOUR, plan_of

from exporter.model.advice import Advice
from exporter.model.counting import Part
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, Per, Readings, number_of, total_of
from exporter.model.metric import Metric
from exporter.state.judge import judge

TEXT = TOUR.read_text()
PIPELINE = plan_of(TEXT, "postgresql://nowhere").pipeline
NOTHING = Judged(lambda _readings, _name: None)
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
        ("orphaned_records", "fc_scores"): "not_judged",
    }


def test_a_part_is_known_by_its_path_and_not_by_its_name() -> None:
    assert outcomes(set(), {"sessions.answered"})["failed_checks", "answered"] == "not_judged"


# --- A limit on a number of another subject fails when the program starts, and never reads as not measured

OF_PIPELINE = Metric("stale_sessions", "Sessions.")
OF_RECORD = Metric("stale_records", "Rows.", labels=("record",))
BY_STATUS = Metric("stale_by_status", "Sessions.", labels=("status",))


def test_a_number_of_the_pipeline_is_judged_for_the_pipeline() -> None:
    limit = Limit("stale", "count", "Stale sessions", number_of(OF_PIPELINE), ADVICE)
    readings = Readings(PIPELINE, 0.0, {OF_PIPELINE: {(): 7.0}})

    assert limit.value.read(readings, "") == 7


def test_a_total_is_judged_for_the_pipeline() -> None:
    limit = Limit("stale", "count", "Stale sessions", total_of(BY_STATUS), ADVICE)
    readings = Readings(PIPELINE, 0.0, {BY_STATUS: {("open",): 3.0, ("paid",): 4.0}})

    assert limit.value.read(readings, "") == 7


@pytest.mark.parametrize(
    ("value", "per"),
    [(number_of(OF_RECORD), "pipeline"), (number_of(OF_PIPELINE), "record"), (total_of(BY_STATUS), "part")],
)
def test_a_limit_on_a_number_of_another_subject_is_refused(value: Judged, per: Per) -> None:
    with pytest.raises(ValueError, match="limit stale: its number is per"):
        Limit("stale", "count", "Stale", value, ADVICE, per=per)


def test_a_limit_beside_none_of_the_pipeline_is_refused() -> None:
    alone = Limit("stale", "count", "Stale", total_of(BY_STATUS), ADVICE, beside="old")
    old = Limit("old", "count", "Old", number_of(OF_RECORD), ADVICE, per="record")

    for limits in ((alone,), (alone, old)):
        with pytest.raises(ValueError, match="limit stale: old is no limit of the pipeline in age"):
            Dimension("age", "How old?", (), limits=limits)


def test_a_number_with_a_label_that_nothing_fills_is_refused() -> None:
    with pytest.raises(ValueError, match="stale_by_status: give status a value, or judge the total"):
        number_of(BY_STATUS)
