"""From a row that is missing to whoever is woken up by it: real exporters, Prometheus and Alertmanager, our settings.

Only the receivers, the intervals and the waits are others.  Every platform has a job of its own, with rules of its own,
so that what befalls one is told of it alone.
"""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
from alertmanager import Alertmanager, Inbox, running_alertmanager, running_inbox, shipped_settings
from conftest import SERVED
from processes import ANY_PORT, Exporter, environment, run
from prometheus import Prometheus, running_prometheus
from tools import find_tool
from waiting import START_SECONDS, soon

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres

pytestmark = pytest.mark.prometheus

INTERVAL = "300ms"

PATIENCE_SECONDS = 40.0
"""How long anything may take here; 30 rounds of measuring, the longest wait of a rule, are 9 s."""

PLATFORMS = {"whole": "healthy", "lacking": "backfill", "deserted": "backfill", "unreachable": "healthy"}
"""Job and scenario.  Of `deserted` the exporter is killed, of `unreachable` the database."""

BACKFILL = """
insert into profiles
select id, 'v1.2.1', completed_at + interval '4 seconds' from assessment_sessions s
where status = 'completed' and completed_questions > 0 and not exists (select 1 from profiles where session_id = s.id);
insert into fc_scores
select id, 'v1.2', 'functions', 30, completed_at + interval '6 seconds' from assessment_sessions s
where status = 'completed' and completed_questions > 0
  and not exists (select 1 from fc_scores where session_id = s.id and version = 'v1.2');
"""


RECEIVERS = ("pager", "tickets", "dead-mans-switch", "nobody")


@dataclass(frozen=True)
class Scene:
    """All of it, after everything has befallen the platforms.

    `rounds_until_fired` is how long the number of gaps took to fire.
    """

    exporters: dict[str, Exporter]
    prometheus: Prometheus
    alertmanager: Alertmanager
    inbox: Inbox
    rounds_until_fired: float

    def told(self, receiver: str, job: str, status: str = "firing") -> list[dict[str, Any]]:
        """The alerts of a job that a receiver was told of."""
        return [alert for alert in self.inbox.alerts(receiver, status) if alert["labels"].get("job") == job]

    def names(self, receiver: str, job: str, status: str = "firing") -> set[str]:
        return {name_of(alert) for alert in self.told(receiver, job, status)}

    def fires(self, job: str, name: str) -> bool:
        """Whether Alertmanager has the alert, muted or not."""
        return name in {name_of(alert) for alert in self.alertmanager.alerts(job=job)}

    def told_anybody(self, job: str) -> set[str]:
        return {name for receiver in RECEIVERS for name in self.names(receiver, job)}


def name_of(alert: dict[str, Any]) -> str:
    return str(alert["labels"]["alertname"]).removeprefix("SessionHealth")


def execute(dsn: str, sql: str) -> None:
    async def connect_and_run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(connect_and_run())


@pytest.fixture(scope="module")
def scene(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    find_tool("prometheus")
    find_tool("alertmanager")
    folder = tmp_path_factory.mktemp("paging")
    text = SERVED
    for usual, here in (
        ("interval: 30s", f"interval: {INTERVAL}"),
        # Also the time for one collection: a busy machine may stand still for seconds.
        ("max_age: 5m", "max_age: 8s"),
        ("duty: 5%", "duty: 100%"),
    ):
        assert usual in text
        text = text.replace(usual, here)
    (folder / "config.yaml").write_text(text)
    with ExitStack() as stack:
        doomed = stack.enter_context(EmbeddedPostgres())
        exporters, dsns = {}, {}
        for job, scenario in PLATFORMS.items():
            host = doomed if job == "unreachable" else server
            dsns[job] = host.dsn(f"paging_{job}")
            execute(host.dsn(), f"create database paging_{job}")
            if host is server:
                stack.callback(execute, host.dsn(), f"drop database paging_{job} with (force)")
            execute(dsns[job], SCHEMA + SCENARIOS[scenario].sql)
            arguments = ("serve", "--config.file", str(folder / "config.yaml"), *ANY_PORT)
            exporters[job] = stack.enter_context(Exporter(*arguments, environ=environment(DATABASE_URL=dsns[job])))
            made = run("rules", "--interval", INTERVAL, "--job", job)
            assert made.returncode == 0, made.stderr
            (folder / f"{job}.yml").write_text(made.stdout)
        for exporter in exporters.values():
            assert soon(lambda exporter=exporter: exporter.page()("up") == 1, START_SECONDS)  # type: ignore[misc]
        inbox = stack.enter_context(running_inbox())
        alertmanager = stack.enter_context(running_alertmanager(shipped_settings(inbox.url)))
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [exporter.url.removeprefix("http://")]}]}
            for job, exporter in exporters.items()
        ]
        prometheus = stack.enter_context(
            running_prometheus(
                jobs,
                interval=INTERVAL,
                rules=[folder / f"{job}.yml" for job in PLATFORMS],
                alertmanager=alertmanager.address,
            )
        )
        scene = Scene(exporters, prometheus, alertmanager, inbox, rounds_until_fired=0)

        def is_paged(job: str, name: str) -> bool:
            return bool(soon(lambda: name in scene.names("pager", job), PATIENCE_SECONDS))

        # What takes its time goes on side by side.
        assert is_paged("deserted", "GapAge")
        doomed.stop_server()
        exporters["deserted"].process.send_signal(signal.SIGKILL)
        assert is_paged("lacking", "GapAge")
        assert soon(lambda: scene.fires("lacking", "SessionsWithGap"), PATIENCE_SECONDS)
        rounds = prometheus("count_over_time(up{job='lacking'}[10m])")[()]
        execute(dsns["lacking"], BACKFILL)
        yield replace(scene, rounds_until_fired=rounds)


def test_gaps_page_in_time_with_what_to_read_and_to_type(scene: Scene) -> None:
    [page, *_] = [alert for alert in scene.told("pager", "lacking") if name_of(alert) == "GapAge"]

    assert 30 <= scene.rounds_until_fired <= 60
    assert page["labels"] == {
        "alertname": "SessionHealthGapAge",
        "limit": "gap_age",
        "severity": "critical",
        "job": "lacking",
        "database": "main",
        "pipeline": "assessments",
    }
    about = page["annotations"]
    assert about["summary"] == "A session has waited too long for a required record."
    # The sample platform grows older with each day.
    assert re.search(r"age of the oldest gap: \d+d ", about["description"])
    assert "assessments" in about["description"]
    assert about["command"].startswith("session-health-exporter gaps")
    assert about["runbook_url"].endswith("#sessionhealthgapage")
    assert "/d/session-health-" in about["dashboard_url"]
    assert "pipeline=assessments" in about["dashboard_url"]


def test_a_backfill_resolves_every_page_and_ticket_where_it_was_sent(scene: Scene) -> None:
    def open_(receiver: str) -> set[str]:
        return scene.names(receiver, "lacking") - scene.names(receiver, "lacking", "resolved")

    assert soon(lambda: not open_("pager") and not open_("tickets"), PATIENCE_SECONDS)
    assert "GapAge" in scene.names("pager", "lacking", "resolved")
    assert "OutdatedSessions" in scene.names("tickets", "lacking", "resolved")
    # What says the same of these gaps, or says less, was muted all the time.
    assert "SessionsWithGap" not in scene.names("pager", "lacking")
    assert not {"GapAge", "GapRatio"} & scene.names("tickets", "lacking")


def test_a_dead_database_is_unknown_and_nothing_else_of_the_data(scene: Scene) -> None:
    assert soon(lambda: "CollectionFailing" in scene.names("tickets", "unreachable"), PATIENCE_SECONDS)
    assert soon(lambda: not scene.prometheus("session_health_snapshot_timestamp_seconds{job='unreachable'}"))

    assert not scene.prometheus("session_health_eligible_sessions{job='unreachable'}")
    # A machine with other work answers some scrapes late.
    assert scene.told_anybody("unreachable") - {"ScrapesFailing"} == {"CollectionFailing"}


def test_a_dead_exporter_is_absent_and_mutes_whatever_else_is_its_own(scene: Scene) -> None:
    assert soon(lambda: "ExporterAbsent" in scene.names("pager", "deserted"), PATIENCE_SECONDS)

    others = [one for one in scene.alertmanager.alerts(job="deserted") if name_of(one) != "ExporterAbsent"]
    assert "TargetDown" in {name_of(one) for one in others}
    assert [name_of(one) for one in others if not one["status"]["inhibitedBy"]] == []


def test_a_dead_exporter_resolves_no_page(scene: Scene) -> None:
    def gaps() -> set[str]:
        return {name_of(one) for one in scene.alertmanager.alerts(job="deserted") if "Gap" in name_of(one)}

    assert "GapAge" in scene.names("pager", "deserted")
    assert soon(lambda: not gaps(), PATIENCE_SECONDS)  # Prometheus has nothing left that could fire
    time.sleep(2)
    assert scene.names("pager", "deserted", "resolved") == set()


def test_of_a_healthy_platform_nobody_is_told_anything_but_that_telling_works(scene: Scene) -> None:
    # Longer than any rule on data waits.
    rounds = "count_over_time(session_health_up{job='whole'}[10m])"
    assert soon(lambda: scene.prometheus(rounds)[()] > 40, PATIENCE_SECONDS)

    assert scene.told_anybody("whole") == set()
    assert scene.inbox.names("dead-mans-switch") == {"SessionHealthWatchdog"}
    assert {alert["labels"]["alertname"] for alert in scene.alertmanager.alerts() if "job" not in alert["labels"]} == {
        "SessionHealthWatchdog"
    }
