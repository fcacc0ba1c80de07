"""A real Prometheus on real exporters: what its users can ask, and what its own linter says of the page."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import asyncpg
import pytest
from conftest import SERVED
from processes import ANY_PORT, Exporter, environment
from prometheus import Prometheus, running_prometheus
from tools import find_tool
from waiting import START_SECONDS, at_most, eventually

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres

pytestmark = pytest.mark.prometheus

SCRAPES_SECONDS = 8.0
"""Within so long a scrape a second shows what changed."""

Result = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Scene:
    """Exporters on databases in different states, each scraped as an instance of its name."""

    exporters: dict[str, Exporter]
    dsns: dict[str, str]
    prometheus: Prometheus


def execute(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def scene(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    find_tool("prometheus")
    config = tmp_path_factory.mktemp("prometheus") / "config.yaml"
    text = SERVED
    assert "interval: 30s" in text
    config.write_text(
        text.replace("interval: 30s", "interval: 200ms")
        .replace("max_age: 5m", "max_age: 2s")
        .replace("duty: 5%", "duty: 100%")
    )
    states = {"healthy": "healthy", "backfill": "backfill", "changing": "backfill", "broken": "backfill", "down": None}
    dsns, exporters = {}, {}
    with ExitStack() as stack:
        for name, scenario in states.items():
            dsns[name] = server.dsn(f"prometheus_{name}")
            if scenario is not None:
                execute(server.dsn(), f"create database prometheus_{name}")
                stack.callback(execute, server.dsn(), f"drop database prometheus_{name} with (force)")
                execute(dsns[name], SCHEMA + SCENARIOS[scenario].sql)
        execute(dsns["broken"], "drop table fc_scores")
        for name, dsn in dsns.items():
            arguments = ("serve", "--config.file", str(config), *ANY_PORT)
            exporters[name] = stack.enter_context(Exporter(*arguments, environ=environment(DATABASE_URL=dsn)))
        targets = [
            {"targets": [exporter.url.removeprefix("http://")], "labels": {"instance": instance}}
            for instance, exporter in exporters.items()
        ]
        jobs = [{"job_name": "session-health", "static_configs": targets}]
        prometheus = stack.enter_context(running_prometheus(jobs))
        yield Scene(exporters, dsns, prometheus)


def promtool(page: str) -> tuple[int, str]:
    command = [str(find_tool("promtool")), "check", "metrics"]
    done = subprocess.run(
        command, input=page, capture_output=True, text=True, check=False, timeout=at_most(START_SECONDS)
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("instance", ["healthy", "backfill", "broken", "down"])
async def test_promtool_has_nothing_to_say_of_the_page(scene: Scene, instance: str) -> None:
    exporter = scene.exporters[instance]
    ended = {"down": "failure", "broken": "partial"}.get(instance, "success")
    page = await exporter.when(lambda page: page("collections_total", result=ended))

    assert promtool(page.text) == (0, "")


def test_promtool_would_speak_up() -> None:
    code, words = promtool("# TYPE wrong_total gauge\nwrong_total 1\n")

    assert code != 0
    assert "wrong_total" in words


async def scraped(scene: Scene) -> None:
    """Wait until every exporter was scraped after its first collection."""
    query = "max_over_time(session_health_up[1m]) or session_health_collections_total{result='failure'} > 0"

    def all_seen() -> bool:
        return {name for (name,) in scene.prometheus(query, "instance")} == scene.exporters.keys()

    assert await eventually(all_seen, START_SECONDS)
    for name in ("healthy", "backfill", "changing"):
        assert await eventually(
            lambda name=name: scene.prometheus(f"session_health_up{{instance='{name}'}} == 1"),  # type: ignore[misc]
            START_SECONDS,
        )


async def test_the_numbers_of_a_backfill_can_be_asked_for(scene: Scene) -> None:
    await scraped(scene)
    ask = scene.prometheus
    backfill = "instance='backfill', database='main', pipeline='assessments'"

    assert ask("up{instance='backfill'}") == {(): 1}
    assert ask(f"session_health_eligible_sessions{{{backfill}}}", "state") == {
        ("complete",): 118,
        ("pending",): 0,
        ("gap",): 39,
    }
    assert ask(f"sum by (record) (session_health_gap_sessions{{{backfill}}})", "record") == {
        ("profiles",): 13,
        ("fc_scores",): 39,
    }
    assert ask(f"session_health_gap_sessions{{{backfill}}} > 0", "record", "reason") == {
        ("profiles", "missing"): 13,
        ("fc_scores", "missing"): 28,
        ("fc_scores", "outdated"): 11,
    }
    [age] = ask(f"time() - session_health_gap_oldest_timestamp_seconds{{{backfill}, record='fc_scores'}}").values()
    assert age > 86400


async def test_a_healthy_platform_has_nothing_above_zero_that_is_a_gap(scene: Scene) -> None:
    await scraped(scene)
    ask = scene.prometheus

    assert ask("session_health_eligible_sessions{instance='healthy'}", "state") == {
        ("complete",): 157,
        ("pending",): 0,
        ("gap",): 0,
    }
    assert ask("session_health_gap_sessions{instance='healthy'} > 0") == {}
    assert ask("session_health_gap_oldest_timestamp_seconds{instance='healthy'}") == {}
    assert ask("time() - session_health_last_success_timestamp_seconds{instance='healthy'} < 30") != {}


async def test_every_target_is_scraped_without_an_error_and_in_openmetrics(scene: Scene) -> None:
    await scraped(scene)
    targets = scene.prometheus.api("targets", state="active")["activeTargets"]

    assert {(target["labels"]["instance"], target["health"], target["lastError"]) for target in targets} == {
        (name, "up", "") for name in scene.exporters
    }
    # The name of a counter's family tells the formats apart: in the text format it ends in _total.
    kinds = {entry["metric"]: entry["type"] for entry in scene.prometheus.api("targets/metadata")}
    assert kinds["session_health_collections"] == "counter"
    assert kinds["session_health_eligible_sessions"] == "gauge"
    log = scene.prometheus.log_file.read_text()
    assert "Starting" in log
    assert [
        line for line in log.splitlines() if "level=error" in line or ("scrape" in line and "level=warn" in line)
    ] == []
    assert "duplicate" not in log.lower()
    assert scene.prometheus("scrape_samples_scraped != scrape_samples_post_metric_relabeling") == {}


async def test_what_is_not_known_cannot_be_asked_for_and_never_is_0(scene: Scene) -> None:
    await scraped(scene)
    ask = scene.prometheus

    assert ask("session_health_up{instance=~'broken|down'}", "instance") == {("broken",): 0, ("down",): 0}
    assert ask("up{instance=~'broken|down'}", "instance") == {("broken",): 1, ("down",): 1}
    assert ask("session_health_eligible_sessions{instance=~'broken|down'}") == {}
    assert ask("session_health_record_sessions{instance='broken', state='missing'}", "record") == {("profiles",): 13}
    assert ask("session_health_record_up{instance='broken'}", "record") == {("profiles",): 1, ("fc_scores",): 0}


async def test_a_number_is_gone_with_its_table_back_with_it_and_gone_with_the_exporter(scene: Scene) -> None:
    await scraped(scene)
    ask = scene.prometheus
    gaps = "session_health_gap_sessions{instance='changing', record='fc_scores'}"
    eligible = "session_health_eligible_sessions{instance='changing'}"
    connection = await asyncpg.connect(scene.dsns["changing"])
    try:
        await connection.execute("alter table fc_scores rename to away")
        # Far sooner than the five minutes after which Prometheus would forget by itself.
        assert await eventually(lambda: not ask(gaps) and not ask(eligible), SCRAPES_SECONDS)
        assert ask("session_health_up{instance='changing'}") == {(): 0}
        assert ask("sum(session_health_gap_sessions{instance='changing'})") == {(): 13}

        await connection.execute("alter table away rename to fc_scores")
        assert await eventually(lambda: sum(ask(gaps, "reason").values()) == 39, SCRAPES_SECONDS)
        assert ask(eligible, "state")["gap",] == 39
        assert ask("session_health_up{instance='changing'}") == {(): 1}
    finally:
        await connection.close()

    # A counter goes on from where it was.
    assert ask("resets(session_health_collection_errors_total{instance='changing', reason='missing_object'}[1m])") == {
        (): 0
    }
    assert ask("session_health_collection_errors_total{instance='changing', reason='missing_object'} > 0") != {}

    assert scene.exporters["changing"].end(signal.SIGTERM, 2) == 0
    assert await eventually(lambda: ask("up{instance='changing'}") == {(): 0}, SCRAPES_SECONDS)
    assert ask("{instance='changing', __name__=~'session_health_.*'}") == {}
