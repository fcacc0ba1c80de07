"""The dashboards' queries, asked of a real Prometheus that scrapes real exporters on databases in every state."""

import asyncio
import json
import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import promql_parser
import pytest
from conftest import whole_tour
from dashboards import filled, nodes, panels, queries, selectors
from processes import ANY_PORT, Exporter, environment, run
from prometheus import Prometheus, running_prometheus
from tools import find_tool
from waiting import START_SECONDS, soon

from exporter.dashboards import judged
from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres
from exporter.model.standing import STANDINGS, Standing

pytestmark = pytest.mark.prometheus

# Each pipeline is called as the state of its database; two exporters look at the healthy one.
STATES = ("healthy", "backfill", "drift", "broken")
EXPORTERS = {
    "healthy-1": "healthy",
    "healthy-2": "healthy",
    "backfill": "backfill",
    "drift": "drift",
    "broken": "broken",
}

RECENT = """
insert into assessment_sessions
select md5('recent ' || n)::uuid, 'completed', started, started + interval '9 minutes', now(), 240
from (select n, now() - n * interval '20 minutes' - interval '2 hours' as started from generate_series(1, 30) n) s;
insert into profiles
select id, 'v1.2.1', completed_at + interval '3 seconds' from assessment_sessions s
where completed_at > now() - interval '1 day' and not exists (select from profiles where session_id = s.id);
insert into fc_scores
select id, 'v1.2', 'functions', 30, completed_at + interval '8 seconds' from assessment_sessions s
where completed_questions > 0 and completed_at > now() - interval '1 day'
  and not exists (select from fc_scores where session_id = s.id);
"""
"""A cohort: sessions of today, all with their records."""

RIGHTLY_EMPTY: Mapping[str, set[str]] = {
    "exporter: Errors by reason": {"healthy", "backfill", "drift"},
    "exporter: Folded series": {"healthy", "backfill", "drift", "broken"},
    "exporter: Replica lag": {"healthy", "backfill", "drift", "broken"},
    "overview: Gaps by record and reason": {"healthy", "drift"},
    "overview: Limits that are broken or unknown": {"healthy"},
    "overview: Broken or unknown": {"healthy"},
    "overview: Backfill done": {"healthy", "drift"},
    "overview: Done in": {"healthy", "backfill", "drift", "broken"},
    "versions: Migration done in": {"healthy", "backfill", "drift", "broken"},
    # Of whole minutes, which the scene may not have.
    "overview: Last healthy": {"healthy", "backfill", "drift", "broken"},
}
"""Panels, and the states in which nothing is the right answer: no error, cap, replica, gap or progress."""

WITHOUT_SERIES = {("exporter: Exporters and what they measure", 6), ("versions: Migration by record", 9)}
"""Queries of tables about a replica and about progress."""


def _config(state: str) -> str:
    """The tour at speed, of that name, with every limit set both ways."""
    text = whole_tour(deleted="status = 'deleted'").replace("# allow_superuser: false", "allow_superuser: true")
    changes = {
        "interval: 30s": "interval: 200ms",
        "  assessments:\n": f"  {state}:\n",
        "stuck_sessions: {warning: 0}": "stuck_sessions: {warning: 0, critical: 1000}",
        "processing_delay_p95: {warning: 10m}": "processing_delay_p95: {warning: 10m, critical: 20h}",
        "completion_ratio: {warning: 0.50,": "completion_ratio: {warning: 0.50, critical: 0.01,",
        "newest_session_age: {warning: 6h}": "newest_session_age: {warning: 6h, critical: 900d}",
        "newest_record_age: {critical: 30m}": "newest_record_age: {warning: 30m, critical: 900d}",
    }
    for ours, theirs in changes.items():
        assert ours in text, ours
        text = text.replace(ours, theirs)
    return text


@dataclass(frozen=True)
class Scene:
    configs: dict[str, Path]
    dsns: dict[str, str]
    exporters: dict[str, Exporter]
    prometheus: Prometheus

    def ask(self, expression: str, state: str = ".+") -> list[tuple[dict[str, str], float]]:
        """Labels and values that a query gives when one pipeline is chosen."""
        found = self.prometheus.api("query", query=filled(expression, {"pipeline": state}))["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def number(self, title: str, state: str = ".+") -> tuple[float | None, str]:
        """The number of a panel, None where there is none, and the words beside: the standing of a limit."""
        panel = next(one for one in panels() if str(one) == title)
        asked, *others = panel.content["targets"]
        found = [value for _labels, value in self.ask(asked["expr"], state) if not math.isnan(value)]
        assert len(found) <= 1, f"{title} shows {found}"
        levels = [value for one in others for _labels, value in self.ask(one["expr"], state)]
        assert len(levels) <= 1, f"{title} has the standings {levels}"
        return found[0] if found else None, judged.STANDING_TEXTS[int(levels[0])][0] if levels else ""


async def _make(server: EmbeddedPostgres, state: str) -> None:
    admin = await asyncpg.connect(server.dsn())
    await admin.execute(f"create database dashboards_{state}")
    await admin.close()
    connection = await asyncpg.connect(server.dsn(f"dashboards_{state}"))
    await connection.execute(SCHEMA + SCENARIOS[state if state in SCENARIOS else "backfill"].sql)
    await connection.execute(RECENT if state in {"healthy", "drift"} else "select")
    await connection.execute("drop table fc_scores" if state == "broken" else "select")
    await connection.close()


async def _drop(server: EmbeddedPostgres, state: str) -> None:
    admin = await asyncpg.connect(server.dsn())
    await admin.execute(f"drop database dashboards_{state} with (force)")
    await admin.close()


@pytest.fixture(scope="module")
def scene(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    find_tool("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    configs = {state: folder / state for state in STATES}
    dsns = {state: server.dsn(f"dashboards_{state}") for state in STATES}
    with ExitStack() as stack:
        exporters = {}
        for state in STATES:
            asyncio.run(_make(server, state))
            configs[state].write_text(_config(state))
        for name, state in EXPORTERS.items():
            arguments = ("serve", "--config.file", str(configs[state]), *ANY_PORT)
            environ = environment(DATABASE_URL=dsns[state])
            exporters[name] = stack.enter_context(Exporter(*arguments, environ=environ))
        targets = [
            {"targets": [exporter.url.removeprefix("http://")], "labels": {"instance": name}}
            for name, exporter in exporters.items()
        ]
        prometheus = stack.enter_context(
            running_prometheus([{"job_name": "session-health", "static_configs": targets}])
        )
        for state in STATES:
            result = "partial" if state == "broken" else "success"
            counted = f'increase(session_health_collections_total{{pipeline="{state}", result="{result}"}}[1m]) > 0'
            assert soon(lambda counted=counted: prometheus(counted), START_SECONDS), state  # type: ignore[misc]
        yield Scene(configs, dsns, exporters, prometheus)
    for state in STATES:
        asyncio.run(_drop(server, state))


def _labels_on_the_page(scene: Scene) -> dict[str, dict[str, set[str]]]:
    """Metric -> label -> values, of all exporters together; and what Prometheus adds."""
    found: dict[str, dict[str, set[str]]] = {"up": {}, "scrape_duration_seconds": {}}
    for exporter in scene.exporters.values():
        for name, own in exporter.page().series:
            for label, value in own:
                found.setdefault(name, {}).setdefault(label, set()).add(value)
            found.setdefault(name, {})
    return found


def test_every_metric_and_label_of_a_panel_is_on_the_exporters_page(scene: Scene) -> None:
    page = _labels_on_the_page(scene)
    # Of replicas and of capped labels, of which this scene has none.
    page |= {name: {} for name in ("session_health_replica_lag_seconds", "session_health_folded_series")}
    of_target = {"job", "instance", "__name__"}
    for where, expression in queries():
        for selector in selectors(expression):
            if selector.name in {"ALERTS", None}:
                continue
            assert selector.name in page, f"{where}: {selector.name}"
            labels = page[selector.name]
            for matcher in selector.matchers.matchers:
                if not matcher.value.startswith("$") and matcher.op == promql_parser.MatchOp.Equal:
                    assert matcher.value in labels[matcher.name], f"{where}: {selector.prettify()}"
                assert {matcher.name} <= labels.keys() | of_target | {"database", "pipeline"}, where
        for node in nodes(expression):
            if isinstance(node, promql_parser.AggregateExpr) and isinstance(node.expr, promql_parser.VectorSelector):
                name = node.expr.name
                if labels := page.get(name or "", {}):
                    assert set(node.modifier.labels if node.modifier else ()) <= labels.keys() | of_target, where


@pytest.mark.parametrize("state", ["healthy", "backfill", "drift"])
def test_every_panel_has_something_to_show(scene: Scene, state: str) -> None:
    empty = {
        str(panel) for panel in panels() if not any(scene.ask(expression, state) for expression in panel.expressions)
    }

    assert empty - {"overview: Last healthy"} == {
        title for title, states in RIGHTLY_EMPTY.items() if state in states and title != "overview: Last healthy"
    }


def test_no_query_of_a_graph_or_table_is_there_for_nothing(scene: Scene) -> None:
    """Each gives something in some state; those of a number stand for the colours that it may have."""
    asked = [panel for panel in panels() if panel.content["type"] != "stat" and str(panel) not in RIGHTLY_EMPTY]

    assert {
        (str(panel), position)
        for panel in asked
        for position, expression in enumerate(panel.expressions)
        if not any(scene.ask(expression, state) for state in STATES)
    } == WITHOUT_SERIES


@pytest.mark.parametrize("state", [*STATES, ".+"])
def test_a_number_is_one_number(scene: Scene, state: str) -> None:
    for panel in panels():
        if panel.content["type"] == "stat" and panel.content["options"]["textMode"] == "value":
            scene.number(str(panel), state)


def test_a_number_has_the_standing_of_its_limit_in_words(scene: Scene) -> None:
    needing = "overview: Sessions that need a backfill"

    assert scene.number(needing, "healthy") == (0, "✓ within")
    assert scene.number(needing, "backfill") == (39, "✕ critical")
    assert scene.number("overview: Share with a gap", "backfill") == (0.24841, "! warning")
    assert scene.number("overview: Oldest gap", "healthy") == (None, "- nothing to judge")
    assert scene.number("versions: Drifted rows", "drift") == (21, "! warning")
    assert scene.number("versions: Drifted rows", "healthy") == (0, "✓ within")


@pytest.mark.parametrize(
    ("state", "counts"),
    [("healthy", {}), ("backfill", {"5": 2, "3": 5}), ("drift", {"3": 2}), ("broken", {})],
)
def test_broken_limits_are_counted_as_the_exporter_finds_them(
    scene: Scene, state: str, counts: Mapping[str, int]
) -> None:
    arguments = ("check", "--config.file", str(scene.configs[state]), "--format", "json")
    findings = json.loads(run(*arguments, DATABASE_URL=scene.dsns[state]).stdout)["pipelines"][0]["findings"]
    panel = next(one for one in panels() if str(one) == "overview: Broken or unknown")
    shown = {labels["level"]: value for labels, value in scene.ask(panel.expressions[0], state)}
    outcomes = [one["outcome"] for one in findings]
    levels = {outcome: str(STANDINGS[outcome].level) for outcome in ("critical", "not_measured", "warning")}
    expected = {level: outcomes.count(outcome) for outcome, level in levels.items() if outcome in outcomes}

    assert shown == expected
    assert state == "broken" or shown == counts
    assert shown.keys() <= judged.COUNT_WORDS.keys()
    listed = next(one for one in panels() if str(one) == "overview: Limits that are broken or unknown")
    assert len(scene.ask(listed.expressions[0], state)) == sum(expected.values())


def test_judged_numbers_are_of_the_chosen_records(scene: Scene) -> None:
    """Outdated are the scores alone; a limit of the pipeline is of no record, and stays."""
    standings = judged.standings("outdated_sessions", "record")
    for record, level in (("fc_scores", Standing.WARNING.level), ("profiles", Standing.FINE.level)):
        asked = filled(standings, {"pipeline": "backfill", "record": record})
        [found] = scene.prometheus.api("query", query=asked)["result"]
        assert (found["metric"]["record"], float(found["value"][1])) == (record, level)
        of_pipeline = filled(judged.standings("sessions_with_gap"), {"pipeline": "backfill", "record": record})
        [found] = scene.prometheus.api("query", query=of_pipeline)["result"]
        assert float(found["value"][1]) == Standing.CRITICAL.level


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("healthy", "healthy"),
        ("backfill", "unhealthy"),
        ("drift", "degraded"),
        ("broken", "unknown"),
        (".+", "unhealthy"),
    ],
)
def test_the_verdict_is_the_exporters_and_the_worst_of_several(scene: Scene, state: str, word: str) -> None:
    shown = scene.number("overview: Verdict", state)

    assert shown[0] == STANDINGS[word].level  # type: ignore[index]


def _statuses(scene: Scene, state: str) -> dict[str, float]:
    """By limit, as the Overview shows them."""
    tables = [panel for panel in panels() if str(panel).startswith("overview: Limits on ")]
    return {labels["limit"]: value for panel in tables for labels, value in scene.ask(panel.expressions[0], state)}


@pytest.mark.parametrize("state", ["healthy", "backfill", "drift"])
def test_every_limit_stands_as_the_exporter_judges_it(scene: Scene, state: str) -> None:
    """The worst that `check` finds of each in the same database; a ratio of no session rests on too few."""
    arguments = ("check", "--config.file", str(scene.configs[state]), "--format", "json")
    checked = run(*arguments, DATABASE_URL=scene.dsns[state])
    expected: dict[str, float] = {}
    for finding in json.loads(checked.stdout)["pipelines"][0]["findings"]:
        level = STANDINGS[finding["outcome"]].level
        expected[finding["limit"]] = max(level, expected.get(finding["limit"], 0))

    assert len(expected) == len(judged.LIMITS)
    assert _statuses(scene, state) == expected


def test_two_exporters_of_one_database_count_nothing_twice(scene: Scene) -> None:
    assert len(scene.ask('session_health_up{pipeline=~"$pipeline"}', "healthy")) == 2
    assert scene.number("overview: Sessions analysed", "healthy")[0] == 187


def test_what_is_not_measured_is_neither_0_nor_healthy(scene: Scene) -> None:
    for title in ("overview: Sessions that need a backfill", "overview: Sessions analysed", "overview: Backfill done"):
        assert scene.number(title, "broken")[0] is None, title
        # Nor is a sum over the others the whole.
        assert scene.number(title)[0] is None, title
    records = next(panel for panel in panels() if str(panel) == "overview: Records")
    measured, *numbers = (
        [value for labels, value in scene.ask(expression, "broken") if labels["record"] == "fc_scores"]
        for expression in records.expressions
    )
    assert measured == [0]
    assert numbers == [[]] * len(numbers)
    assert Standing.UNKNOWN.level in _statuses(scene, "broken").values()


def test_a_pipeline_whose_exporter_is_gone_is_told_and_not_forgotten(scene: Scene) -> None:
    assert scene.exporters["drift"].end(signal.SIGTERM, 5) == 0
    lost = [(judged.NOT_SCRAPED, "")]

    assert soon(lambda: [scene.number("overview: Verdict", "drift")] == lost, START_SECONDS)
    assert scene.number("overview: Sessions analysed", "healthy|drift")[0] is None
    # Nor is the worst of the others the worst of all.
    assert scene.number("overview: Share with a gap", "healthy|drift") == (0, "? unknown")
    assert [scene.number("overview: Verdict", "healthy|drift")] == lost
    listed = next(one for one in panels() if str(one) == "overview: Limits that are broken or unknown")
    [(labels, level)] = scene.ask(listed.expressions[0], "healthy|drift")
    assert (labels["pipeline"], level) == ("drift", judged.NOT_SCRAPED)
