"""`report` as a person, a timer and a pipeline of jobs use it; and Prometheus as its memory."""

import json
import re
import time
from pathlib import Path

import asyncpg
import pytest
from conftest import SERVED, TOUR, Database
from processes import ANY_PORT, Exporter, environment, run
from prometheus import running_prometheus
from waiting import eventually

from exporter.text.times import moment_text

CONFIG = ("--config.file", str(TOUR))
BACKFILL = """
insert into profiles
select id, 'v1.2.1', now() from assessment_sessions s where status = 'completed' and completed_questions > 0
  and not exists (select 1 from profiles where session_id = s.id);
insert into fc_scores
select id, 'v1.2', 'functions', 30, now() from assessment_sessions s
where status = 'completed' and completed_questions > 0
  and not exists (select 1 from fc_scores where session_id = s.id and version = 'v1.2');
"""


async def test_a_report_before_and_one_after_a_backfill(backfill: Database, tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.md"
    first = run("report", *CONFIG, "--format", "json", "--output", str(before), DATABASE_URL=backfill.dsn)
    assert (first.returncode, first.stdout) == (0, "")
    await backfill.execute(BACKFILL)

    second = run("report", *CONFIG, "--baseline", str(before), "--output", str(after), DATABASE_URL=backfill.dsn)

    assert (second.returncode, second.stderr) == (0, "")
    text = after.read_text(encoding="utf-8")
    assert text.startswith("# ✅ HEALTHY")
    assert "- ✅ Unique sessions needing a backfill: **39 → 0**" in text
    assert json.loads(before.read_text())["verdict"] == "unhealthy"


async def test_a_report_is_written_whatever_it_says(backfill: Database) -> None:
    """It is no judge of a job: `check` is."""
    await backfill.execute("drop table fc_scores")

    done = run("report", *CONFIG, DATABASE_URL=backfill.dsn)

    assert done.returncode == 0
    assert done.stdout.startswith("# ❓ UNKNOWN: fc_scores could not be measured\n")


async def test_as_html_it_is_one_file_with_the_same_first_line(backfill: Database, tmp_path: Path) -> None:
    file = tmp_path / "report.html"

    done = run("report", *CONFIG, "--format", "html", "--output", str(file), DATABASE_URL=backfill.dsn)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    html = file.read_text(encoding="utf-8")
    assert "<title>Unhealthy: 39 of 157 sessions need a backfill</title>" in html
    assert not re.search(r"<script|<link|<img|src=|https?://", html)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--prometheus", "http://127.0.0.1:1"), "--prometheus and --at need each other"),
        (("--at", "7d"), "--prometheus and --at need each other"),
        (("--at", "yesterday"), "or write a duration before now, such as 7d"),
        (("--baseline", "/nowhere/x.json"), "--baseline /nowhere/x.json cannot be read (No such file or directory)"),
        (("--baseline", str(TOUR)), "it is no report of format 1"),
        (
            ("--output", "/nowhere/report.md"),
            "/nowhere/report.md cannot be written (No such file or directory): name another file",
        ),
        (("--prometheus", "http://127.0.0.1:1", "--at", "7d"), "cannot query Prometheus"),
        (("--prometheus", "http://127.0.0.1:1", "--at", "7d", "--baseline", "x"), "exclude each other"),
    ],
)
async def test_what_cannot_be_compared_or_written_is_a_usage_error_with_a_remedy(
    backfill: Database, arguments: tuple[str, ...], remedy: str
) -> None:
    done = run("report", *CONFIG, *arguments, DATABASE_URL=backfill.dsn)

    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.prometheus
async def test_a_moment_in_prometheus_history_is_compared_with(backfill: Database, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SERVED.replace("interval: 30s", "interval: 200ms"))
    with Exporter(
        "serve", "--config.file", str(config), *ANY_PORT, environ=environment(DATABASE_URL=backfill.dsn)
    ) as it:
        target = {"targets": [it.url.removeprefix("http://")]}
        with running_prometheus([{"job_name": "session-health", "static_configs": [target]}]) as prometheus:
            seen = 'session_health_eligible_sessions{state="gap"} == 39'
            assert await eventually(lambda: prometheus(seen), 15)
            then = time.time()
            connection = await asyncpg.connect(backfill.dsn)
            await connection.execute(BACKFILL)
            await connection.close()
            url = ("--prometheus", f"http://127.0.0.1:{prometheus.port}")

            done = run("report", *CONFIG, *url, "--at", moment_text(then + 1), DATABASE_URL=backfill.dsn)
            early = run("report", *CONFIG, *url, "--at", "3d", DATABASE_URL=backfill.dsn)
            narrow = tmp_path / "narrow.yaml"
            narrow.write_text(TOUR.read_text().replace("{since: 2025-08-01}", "{since: 2025-09-01}"))
            other = run(
                "report", "--config.file", str(narrow), *url, "--at", moment_text(then + 1), DATABASE_URL=backfill.dsn
            )

    assert done.returncode == 0, done.stderr
    assert "by Prometheus at " in done.stdout
    assert "- ✅ Sessions without profiles: **13 → 0**" in done.stdout
    assert "- ✅ Unique sessions needing a backfill: **39 → 0**" in done.stdout
    assert early.returncode == 2
    assert "has no numbers of assessments: name another time with --at" in early.stderr
    assert other.returncode == 2
    assert "the window of assessments began at 2025-08-01T00:00:00Z, unlike the window of the config" in other.stderr
