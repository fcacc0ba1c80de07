"""The page without a browser: what it says of a board, what it links to, and what its lines are made of."""

import re
from dataclasses import replace

import pytest
from conftest import TOUR, Database, NewDatabase, a_pipeline, plan_of
from markup import assert_well_formed
from markupsafe import Markup

from exporter.measure.collect import collect
from exporter.measure.supervise import initial_status, measure
from exporter.model.fault import Fault
from exporter.model.metric import Metric
from exporter.model.reporting import Track
from exporter.model.standing import Verdict
from exporter.present.html.render import inline, percent, render, width
from exporter.present.page.trend import HEIGHT, WIDTH, trend_of
from exporter.present.page.view import page, report_as
from exporter.present.report.links import Links
from exporter.state.board import Board, Latest, PipelineStatus
from exporter.state.history import Point
from exporter.state.snapshot import Collection

NOW, CLOCK = 1_700_000_000.0, 5000.0
GAPS = Track("Gaps", Metric("gaps", "."), (), good="none")
COMPLETE = Track("Complete", Metric("complete", "."), (), good="many")
ALL_LINKS = Links("https://wiki.example/runbooks", "https://grafana.example")


def a_board(*statuses: PipelineStatus) -> Board:
    return Latest(statuses, now=NOW).board


def shown(board: Board, links: Links | None = None, *, is_paused: bool = False) -> str:
    return page(board, links or Links(), clock=CLOCK, now=NOW, is_paused=is_paused)


def text_of(html: str) -> str:
    """What is read of it."""
    body = re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>", "", html)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


# --- What it says


async def a_status(database: Database, text: str | None = None) -> PipelineStatus:
    plan = database.plan(text)
    collection = await measure(plan, collect)
    return replace(initial_status(plan, 300).after(collection, CLOCK - 12), due=NOW + 18)


async def test_it_begins_with_the_verdict_then_what_is_wrong_then_what_to_type(backfill: Database) -> None:
    html = shown(a_board(await a_status(backfill)))
    text = text_of(html)

    assert_well_formed(html)
    told = [
        "Unhealthy 39 of 157 sessions need a backfill Measured 12s ago . Next collection in 18s .",
        "complete 118 /157 75.2%",
        "118/157 sessions complete (75.2%), 39 need a backfill",
        "To do 1. Sessions are missing required records.",
        "Sessions with a gap: 39, critical above 0",
        "session-health-exporter gaps --pipeline assessments",
        "Since the first collection",
        "v1.1 (other) 11/157",
    ]
    places = [text.find(part) for part in told]
    assert -1 not in places, told[places.index(-1)]
    assert places == sorted(places)
    assert "<title>✕ Unhealthy: 39 of 157 sessions need a backfill</title>" in html


async def test_of_several_pipelines_the_worst_comes_first(new_database: NewDatabase) -> None:
    good = await a_status(await new_database("healthy"))
    bad = await a_status(await new_database("backfill"), TOUR.read_text().replace("  assessments:", "  orders:"))

    html = shown(a_board(good, bad))

    assert_well_formed(html)
    assert re.findall(r'<article id="pipeline-(\w+)"', html) == ["orders", "assessments"]
    # What is healthy is folded, and has no row in the table on top.
    assert re.findall(r'<details class="(pipeline|fine)"( open)?>', html) == [
        ("pipeline", " open"),
        ("fine", ""),
        ("pipeline", ""),
    ]
    assert re.findall(r'<a href="#pipeline-(\w+)"', html) == ["orders"]
    assert "<title>✕ 1 unhealthy, 1 healthy</title>" in html


async def test_what_is_withdrawn_is_not_shown_and_no_number_of_it(healthy: Database) -> None:
    status = await a_status(healthy)

    text = text_of(shown(a_board(replace(status, taken=CLOCK - 301))))

    assert text.startswith("? Unknown: the last measurement is older than max_age")
    assert "No values served" in text
    assert "157" not in text
    assert "not measured" in text


async def test_an_outage_says_what_failed_and_what_to_do_about_it(backfill: Database) -> None:
    status = await a_status(backfill)
    failed = Collection(None, Fault("connect", "refused: check that the server <runs>"), 0.1, NOW)

    html = shown(a_board(status.after(failed, CLOCK)))
    text = text_of(html)

    # A broken limit of what is served outlasts the outage.
    assert text.startswith("✕ Unhealthy")
    assert "Measured 12s ago : the last collection failed. Next collection now." in text
    assert "refused: check that the server &lt;runs&gt;" in text
    assert text.index("1. Not measured") < text.index("2. Sessions are missing required records")


def test_before_the_first_look_it_claims_nothing() -> None:
    plan = plan_of(TOUR.read_text(), "postgresql://nowhere")

    html = shown(a_board(initial_status(plan, 300)))
    text = text_of(html)

    assert_well_formed(html)
    assert "Unknown no measurement yet No values served. Next collection now." in text
    assert "No backfill is needed" not in text
    assert not re.search(r"\d+/\d+", text)


def test_it_refreshes_or_stands_still_as_one_likes() -> None:
    board = a_board(PipelineStatus(a_pipeline(), max_age=300))

    assert 'Automatic refresh every 30 s: <a href="?pause">' in shown(board)
    assert 'Automatic refresh is off: <a href="./">refresh every 30 s</a>' in shown(board, is_paused=True)


# --- What it links to


async def test_runbooks_and_dashboards_are_linked_where_their_address_is_known(backfill: Database) -> None:
    html = shown(a_board(await a_status(backfill)), ALL_LINKS)

    links = re.findall(r'href="(https://[^"]*)"', html)
    assert links[:2] == ["https://wiki.example/runbooks/README.md", "https://grafana.example/d/session-health-overview"]
    assert "https://wiki.example/runbooks/coverage.md#sessionhealthsessionswithgap" in links
    chosen = "var-database=main&amp;var-pipeline=assessments"
    assert f"https://grafana.example/d/session-health-overview?{chosen}" in links
    assert f"https://grafana.example/d/session-health-versions?{chosen}&amp;var-record=fc_scores" in links


async def test_without_an_address_there_is_no_link_to_a_placeholder(backfill: Database) -> None:
    html = shown(a_board(await a_status(backfill)))

    assert "Runbook" not in html
    assert "Grafana" not in html
    assert {link for link in re.findall(r'href="([^"]*)"', html) if not link.startswith("#")} == {
        "report.html",
        "report.md",
        "report.json",
        "metrics",
        "?pause",
    }


def test_what_was_not_measured_links_to_the_runbook_of_the_exporter() -> None:
    failed = Collection(None, Fault("connect", "refused"), 0.1, NOW)
    status = PipelineStatus(a_pipeline(), max_age=300).after(failed, CLOCK)

    html = shown(a_board(status), ALL_LINKS)

    assert "https://wiki.example/runbooks/exporter.md#sessionhealthunknown" in html
    assert "/d/session-health-exporter?" in html


# --- What it costs


def test_it_is_rendered_once_for_each_board(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def counted(template: str, /, **values: object) -> Markup:
        rendered.append(template)
        return render(template, **values)

    for module in ("page.view", "report.html"):
        monkeypatch.setattr(f"exporter.present.{module}.render", counted)
    board = a_board(PipelineStatus(a_pipeline(), max_age=300))
    for _ in range(3):
        shown(board)

    assert rendered.count("pipeline.html.j2") == 1
    shown(replace(board))
    assert rendered.count("pipeline.html.j2") == 2


async def test_the_reports_are_those_of_what_is_served_written_once_for_each_board(backfill: Database) -> None:
    board = a_board(await a_status(backfill))

    markdown = report_as("markdown", board, frozenset())

    assert markdown.startswith("# ❌ UNHEALTHY: 39 of 157 sessions need a backfill\n")
    assert report_as("markdown", board, frozenset()) is markdown
    withdrawn = report_as("markdown", board, frozenset({"assessments"}))
    assert withdrawn.startswith("# ❓ UNKNOWN: the last measurement is older than max_age\n")
    assert "Not measured, written at " in withdrawn
    assert "No backfill is needed" not in withdrawn


# --- Over time


def a_history(*rounds: tuple[Verdict, float | None]) -> list[Point]:
    return [Point(60.0 * n, 60.0 * n, 1, verdict, (gaps,)) for n, (verdict, gaps) in enumerate(rounds)]


def test_a_line_needs_two_looks() -> None:
    assert trend_of([], (GAPS,)) is None
    assert trend_of(a_history(("healthy", 0.0)), (GAPS,)) is None


def test_gaps_are_drawn_from_nothing_and_the_first_and_last_look_are_the_edges() -> None:
    trend = trend_of(a_history(("unhealthy", 40.0), ("unhealthy", 10.0), ("healthy", 0.0)), (GAPS,))

    assert trend is not None
    [curve] = trend.curves
    assert curve.strokes == (f"M0.0 0.0L{WIDTH / 2:.1f} 75.0L{WIDTH:.1f} {HEIGHT:.1f}",)
    assert (curve.latest, curve.least, curve.most, curve.tone) == (0.0, 0.0, 40.0, "bad")


def test_where_nothing_was_measured_the_line_is_broken() -> None:
    trend = trend_of(a_history(("healthy", 0.0), ("unknown", None), ("healthy", 0.0), ("unknown", None)), (GAPS,))

    assert trend is not None
    [curve] = trend.curves
    assert len(curve.strokes) == 2
    assert curve.latest is None
    # A look between two that failed is a dot, not nothing.
    assert curve.strokes[1] == f"M{WIDTH * 2 / 3:.1f} 100.0L{WIDTH * 2 / 3:.1f} 100.0"


def test_a_small_dent_in_a_large_number_is_seen() -> None:
    history = [Point(float(n), float(n), 1, "healthy", (value,)) for n, value in enumerate((1e6, 1e6 - 100, 1e6))]

    trend = trend_of(history, (COMPLETE,))

    assert trend is not None
    heights = [float(part.split()[1]) for part in trend.curves[0].strokes[0][1:].split("L")]
    assert max(heights) - min(heights) > HEIGHT / 2


@pytest.mark.parametrize("track", [GAPS, COMPLETE])
@pytest.mark.parametrize(("value", "height"), [(0.0, 100.0), (1.0, 25.0), (157.0, 25.0)])
def test_what_never_changes_stands_to_scale_above_nothing_and_nothing_lies_on_the_ground(
    track: Track, value: float, height: float
) -> None:
    trend = trend_of(a_history(("healthy", value), ("healthy", value)), (track,))

    assert trend is not None
    [curve] = trend.curves
    assert curve.strokes == (f"M0.0 {height:.1f}L{WIDTH:.1f} {height:.1f}",)
    assert curve.areas == (f"M0.0 {HEIGHT}L0.0 {height:.1f}L{WIDTH:.1f} {height:.1f}L{WIDTH:.1f} {HEIGHT}Z",)
    assert not curve.is_cut


def test_a_plot_that_begins_above_nothing_is_not_filled_and_one_from_nothing_never_dips_below() -> None:
    cut = trend_of(a_history(("healthy", 1000.0), ("healthy", 990.0)), (COMPLETE,))
    whole = trend_of(a_history(("healthy", 3.0), ("healthy", 0.0)), (COMPLETE,))

    assert cut is not None
    assert whole is not None
    assert (cut.curves[0].areas, cut.curves[0].is_cut) == ((), True)
    assert whole.curves[0].areas
    assert whole.curves[0].strokes[0].endswith(f"L{WIDTH:.1f} {HEIGHT:.1f}")


def test_a_verdict_is_as_wide_as_it_lasted_and_the_worse_it_is_the_higher() -> None:
    verdicts: list[Verdict] = [*["healthy"] * 6, *["unhealthy"] * 3, *["healthy"] * 2]  # type: ignore[list-item]
    trend = trend_of(a_history(*((verdict, 0.0) for verdict in verdicts)), (GAPS,))

    assert trend is not None
    assert [(spell.verdict, round(spell.start), round(spell.length)) for spell in trend.spells] == [
        ("healthy", 0, 55),
        ("unhealthy", 55, 30),
        ("healthy", 85, 15),
    ]
    assert trend.spells[1].height > trend.spells[0].height
    assert trend.lasted == (("unhealthy", 180.0), ("healthy", 420.0))


async def test_every_round_is_remembered_well_or_not(healthy: Database) -> None:
    plan = healthy.plan()
    collection = await measure(plan, collect)
    failed = Collection(None, Fault("connect", "refused"), 0.1, NOW)

    status = initial_status(plan, 300).after(collection, CLOCK).after(failed, CLOCK + 30).after(failed, CLOCK + 301)

    assert [track.text for track in status.tracks] == ["Sessions with a gap", "Complete sessions"]
    assert [(point.verdict, point.values) for point in status.history] == [
        ("healthy", (0.0, 157.0)),
        ("unknown", (None, None)),
        ("unknown", (None, None)),
    ]


async def test_what_is_withdrawn_is_remembered_as_unknown(backfill: Database) -> None:
    plan = backfill.plan()
    failed = Collection(None, Fault("connect", "refused"), 0.1, NOW)

    status = initial_status(plan, 300).after(await measure(plan, collect), CLOCK)

    assert status.after(failed, CLOCK + 30).history[-1].verdict == "unhealthy"
    assert status.after(failed, CLOCK + 301).history[-1].verdict == "unknown"


# --- How it is written


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("see `limits.gap_age`", "see <code>limits.gap_age</code>"),
        ("**Ready**: all", "<strong>Ready</strong>: all"),
        ("<b> & `<i>`", "&lt;b&gt; &amp; <code>&lt;i&gt;</code>"),
        (r"\*no\* \`code\` \<b>", "*no* `code` &lt;b&gt;"),
        ("**`<x>`**", "<strong>`&lt;x&gt;`</strong>"),
    ],
)
def test_our_markdown_becomes_elements_and_all_else_is_text(text: str, html: str) -> None:
    assert inline(text) == html


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (1e-6, "0.0001%"),
        (0.5, "50%"),
        (0.7516, "75.2%"),
        (0.99999, "99.999%"),
        (1.0, "100%"),
        (2.0, "200%"),
    ],
)
def test_a_share_is_nothing_or_all_only_where_it_is(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_smallest_part_can_be_seen_and_no_bar_is_longer_than_the_whole() -> None:
    assert width(0.0) == "0.00%"
    assert float(width(1e-9)[:-1]) > 0.5
    assert width(3.0) == "100.00%"
