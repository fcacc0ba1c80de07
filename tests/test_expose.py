"""The page: its formats, what is always there, and what is withdrawn."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from conftest import TOUR, a_pipeline, plan_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.dimensions import DIMENSIONS
from exporter.dimensions.coverage import ELIGIBLE
from exporter.model.fault import REASONS, Fault
from exporter.model.judging import Readings
from exporter.model.metric import Folded, Metric, label_text, label_value
from exporter.model.sections import Window
from exporter.present.exposition import page
from exporter.serve.negotiation import accepts, wants_openmetrics
from exporter.state.board import Board, PipelineStatus, ReloadStatus
from exporter.state.judge import Judgement, judge
from exporter.state.snapshot import RESULTS, Collection, Snapshot, fold

STATUS = Metric("sessions", "Sessions in the window, by status.", ("status",), open_label="status")
VERSIONS = Metric("records", "Rows.", ("record", "version", "class"), open_label="version")

HOSTILE = [
    'a"b',
    "a\\b",
    "a\nb",
    "a\rb",
    "\t\x01\x7f",
    "zero\u200bwidth",
    "\u202eright to left",
    "e\u0301",
    "NaN",
    "null",
    "x" * 300,
    "} 1\nup 1",
    "ünïcödé 漢字 🎉",
]


def a_board_of(status: PipelineStatus) -> Board:
    return Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=1_690_000_000.0))


def a_board(family: Mapping[tuple[str, ...], float] | None = None, fault: Fault | None = None) -> Board:
    """A board with one pipeline, and one family: sessions by status."""
    readings = Readings(a_pipeline(), 1_700_000_000.5, {STATUS: family or {}})
    snapshot = None if fault else Snapshot(readings, {}, {}, (), {}, Judgement((), ()))
    status = PipelineStatus(a_pipeline(), max_age=300)
    return a_board_of(status.after(Collection(snapshot, fault, 0.25, 1_700_000_001.0), now=10.0))


def parsed(board: Board, withdrawn: frozenset[str] = frozenset()) -> dict[tuple[str, tuple[str, ...]], float]:
    """Name and label values (sorted by label) of every series, the same in both formats."""
    text = page(board, withdrawn, openmetrics=False).decode()
    openmetrics = page(board, withdrawn, openmetrics=True).decode()
    series = {}
    for family in parse_text(text):
        for sample in family.samples:
            key = (sample.name, tuple(value for _, value in sorted(sample.labels.items())))
            assert key not in series, "one series twice"
            series[key] = sample.value
    again = {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(openmetrics)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert series == again
    return series


def test_from_start_up_on_every_closed_set_is_there_at_zero() -> None:
    series = parsed(a_board_of(PipelineStatus(a_pipeline(), max_age=300)))

    assert series["session_health_up", ("main", "assessments")] == 0
    assert series["session_health_record_up", ("main", "assessments", "profiles")] == 0
    for result in RESULTS:
        assert series["session_health_collections_total", ("main", "assessments", result)] == 0
    for reason in REASONS:
        assert series["session_health_collection_errors_total", ("main", "assessments", reason)] == 0
    assert not any(name == "session_health_last_success_timestamp_seconds" for name, _ in series)


def test_a_measured_pipeline_is_up_and_says_when() -> None:
    series = parsed(a_board({("completed",): 5}))

    assert series["session_health_up", ("main", "assessments")] == 1
    assert series["session_health_snapshot_timestamp_seconds", ("main", "assessments")] == 1_700_000_000.5
    assert series["session_health_last_success_timestamp_seconds", ("main", "assessments")] == 1_700_000_001
    assert series["session_health_collection_duration_seconds", ("main", "assessments")] == 0.25
    assert series["session_health_sessions", ("main", "assessments", "completed")] == 5


def test_a_withdrawn_pipeline_keeps_only_what_is_known_of_the_measuring() -> None:
    series = parsed(a_board({("completed",): 5}), frozenset({"assessments"}))

    names = {name for name, _ in series}
    assert series["session_health_up", ("main", "assessments")] == 0
    assert series["session_health_record_up", ("main", "assessments", "profiles")] == 0
    assert "session_health_sessions" not in names
    assert "session_health_snapshot_timestamp_seconds" not in names
    assert {"session_health_up", "session_health_last_success_timestamp_seconds"} <= names


@pytest.mark.parametrize(
    ("window", "start"),
    [
        ({"since": "2025-08-01"}, 1_754_006_400.0),
        ({"last": "90d"}, 1_700_000_000.5 - 90 * 86400),
    ],
)
def test_the_window_begins_where_the_config_says_as_seen_from_the_snapshot(
    window: dict[str, str], start: float
) -> None:
    [status] = a_board().statuses.values()
    board = a_board_of(replace(status, config=a_pipeline(window=Window.model_validate(window))))

    name = "session_health_window_start_timestamp_seconds"
    assert parsed(board)[name, ("main", "assessments")] == start
    # A rule takes it for the newest session where there is none: so it must be gone with all other numbers.
    assert (name, ("main", "assessments")) not in parsed(board, frozenset({"assessments"}))


@pytest.mark.parametrize("openmetrics", [False, True])
def test_what_becomes_an_alert_has_the_owner_and_the_labels_of_the_pipeline(openmetrics: bool) -> None:
    limits = plan_of(TOUR.read_text(), "postgresql://nowhere").pipeline.limits
    owned = a_pipeline(owner='"data"\n', labels={"tier": "gold"}, limits=limits)
    parse = parse_openmetrics if openmetrics else parse_text
    status = PipelineStatus(owned, max_age=300)
    readings = Readings(owned, 1_700_000_000.5, {ELIGIBLE: {("gap",): 1.0, ("complete",): 2.0, ("pending",): 0.0}})
    judgement = judge(DIMENSIONS, readings, frozenset(), frozenset(), ())
    status = status.after(
        Collection(Snapshot(readings, {}, {}, (), {}, judgement), None, 0.25, 1_700_000_001.0), now=10.0
    )
    text = page(a_board_of(status), frozenset(), openmetrics=openmetrics).decode()

    labelled = {
        sample.name.removeprefix("session_health_")
        for family in parse(text)
        for sample in family.samples
        if (sample.labels.get("owner"), sample.labels.get("tier")) == ('"data"\n', "gold")
    }
    plain = {
        sample.name.removeprefix("session_health_")
        for family in parse(text)
        for sample in family.samples
        if "pipeline" in sample.labels and not {"owner", "tier"} & {*sample.labels}
    }

    assert labelled == {
        *("up", "verdict", "max_age_seconds", "last_success_timestamp_seconds"),
        *("limit", "limit_value", "limit_broken"),
    }
    assert "collection_interval_seconds" in plain
    assert not labelled & plain


def test_what_a_rule_needs_of_the_config_is_there_from_start_up_on() -> None:
    limits = plan_of(TOUR.read_text(), "postgresql://nowhere").pipeline.limits
    status = PipelineStatus(a_pipeline(limits=limits), max_age=300)

    series = parsed(a_board_of(status))

    assert series["session_health_max_age_seconds", ("main", "assessments")] == 300
    assert series["session_health_collection_interval_seconds", ("main", "assessments")] == 30
    assert series["session_health_limit_min_sessions", ("main", "gap_ratio", "assessments")] == 20


def test_a_failed_round_counts_its_reason() -> None:
    series = parsed(a_board(fault=Fault("lock_timeout", "…")))

    assert series["session_health_collection_errors_total", ("main", "assessments", "lock_timeout")] == 1
    assert series["session_health_collections_total", ("main", "assessments", "failure")] == 1
    assert series["session_health_up", ("main", "assessments")] == 0


def test_hostile_values_neither_break_the_page_nor_change() -> None:
    series = parsed(a_board({(label_text(value),): n for n, value in enumerate(HOSTILE, start=1)}))

    found = {labels[-1]: value for (name, labels), value in series.items() if name == "session_health_sessions"}
    assert found == {value: n for n, value in enumerate(HOSTILE, start=1)}


def test_a_config_that_could_not_be_read_again_is_said_and_the_old_one_dated() -> None:
    board = a_board({("completed",): 5})
    failed = replace(board, reload=replace(board.reload, succeeded=False))

    assert parsed(board)["session_health_config_last_reload_successful", ()] == 1
    assert parsed(failed)["session_health_config_last_reload_successful", ()] == 0
    assert parsed(failed)["session_health_config_last_reload_success_timestamp_seconds", ()] == 1_690_000_000
    assert parsed(failed)["session_health_sessions", ("main", "assessments", "completed")] == 5


def test_the_page_is_rendered_once_for_a_board() -> None:
    board = a_board({("completed",): 5})

    assert page(board, frozenset(), openmetrics=False) is page(board, frozenset(), openmetrics=False)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (None, "<null>"),
        ("", "<empty>"),
        (Folded.OTHER, "<other>"),
        ("completed", "completed"),
        ("<null>", "\\<null>"),
        ("<empty>", "\\<empty>"),
        ("<other>", "\\<other>"),
        ("\\<null>", "\\\\<null>"),
        ("<nul>", "<nul>"),
    ],
)
def test_no_two_values_share_a_label(value: str | Folded | None, label: str) -> None:
    assert label_text(value) == label
    if isinstance(value, Folded):
        with pytest.raises(LookupError):
            label_value(label)
    else:
        assert label_value(label) == value


def test_folding_keeps_the_known_first_then_the_largest_and_every_total() -> None:
    values: dict[tuple[str, ...], float] = {("profiles", f"v{n}", "other"): float(n) for n in range(1, 101)}
    values[("profiles", "now", "current")] = 0.0
    values[("scores", "old", "accepted")] = 1.0

    kept = fold(VERSIONS, values, 5)

    assert kept == {
        ("profiles", "now", "current"): 0,
        ("scores", "old", "accepted"): 1,
        ("profiles", "v100", "other"): 100,
        ("profiles", "v99", "other"): 99,
        ("profiles", "v98", "other"): 98,
        ("profiles", "<other>", "other"): sum(range(1, 98)),
    }


def test_what_the_database_folded_already_stays_folded() -> None:
    values: dict[tuple[str, ...], float] = {("<other>",): 7.0, ("completed",): 1.0}

    assert fold(STATUS, values, 50) == values


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("header", "taken"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("identity", False), ("", False), ("xgzip", False)],
)
def test_gzip_is_for_who_takes_it(header: str, taken: bool) -> None:
    assert accepts(header, "gzip") is taken


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_3, True),
        ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text", True),
        ("text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("*/*", False),
        ("", False),
        (";;,=;q=x,application/openmetrics-text;q=nan", False),
        ("," * 10_000, False),
    ],
)
def test_the_format_is_what_the_scraper_prefers(accept: str, openmetrics: bool) -> None:
    assert wants_openmetrics(accept) is openmetrics
