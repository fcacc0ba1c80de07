"""Judging: what a number beside its limit is called.  No database."""

from conftest import TOUR, plan_of

from exporter.model.advice import Advice
from exporter.model.counting import Part
from exporter.model.dimension import Dimension
from exporter.model.judging import Judged, Limit, Readings
from exporter.state.judge import judge

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
        ("orphaned_records", "fc_scores"): "not_judged",
    }


def test_a_part_is_known_by_its_path_and_not_by_its_name() -> None:
    assert outcomes(set(), {"sessions.answered"})["failed_checks", "answered"] == "not_judged"
