"""`gaps` as whoever types or pipes it sees it: a whole list or none, an exit code, and never a value in an error."""

import asyncio
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from conftest import TOUR, Database
from processes import begin, run
from test_collect import OURS, until
from waiting import START_SECONDS, at_most

from exporter.demo.scenarios import SCHEMA

DEAD = "postgresql://nobody:geheim@127.0.0.1:1/nowhere"

HEAD = """
database: {url: "${DATABASE_URL}"}
pipelines:
"""
PIPELINE = """
  NAME:
    window: {since: 2025-01-01}
    sessions: {table: assessment_sessions, key: id, status: status, started_at: created_at, completed_at: completed_at,
      eligible: "true"}
    records:
      invoices: {table: profiles, session_key: session_id}
"""

ONLY_GAPS = """
insert into assessment_sessions
select md5(n::text)::uuid, 'completed', timestamptz '2025-09-01' + n * interval '1 s', '2025-09-02', null, 240
from generate_series(1, {}) n
"""
"""Each of them lacks both records."""


def with_tour(*arguments: str, dsn: str = DEAD) -> subprocess.CompletedProcess[str]:
    return run("gaps", "--config.file", str(TOUR), *arguments, DATABASE_URL=dsn)


def gaps(*arguments: str, dsn: str, config: Path = TOUR, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start it; nobody reads what it prints yet."""
    return begin("gaps", "--config.file", str(config), *arguments, stdout=stdout, DATABASE_URL=dsn)


# --- What it prints


def test_the_sessions_of_a_backfill_are_as_many_as_the_gauges_say(backfill: Database) -> None:
    listed = with_tour("--format", "ndjson", dsn=backfill.dsn)
    rows = [json.loads(line) for line in listed.stdout.splitlines()]

    assert (listed.returncode, listed.stderr) == (0, "")
    assert with_tour("--count", dsn=backfill.dsn).stdout == "39\n"
    assert len({row["session"] for row in rows}) == 39
    for record, reason, number in (
        ("profiles", "missing", 13),
        ("fc_scores", "missing", 28),
        ("fc_scores", "outdated", 11),
    ):
        assert sum((row["record"], row["reason"]) == (record, reason) for row in rows) == number
        counted = with_tour("--count", "--record", record, "--reason", reason, dsn=backfill.dsn)
        assert (counted.returncode, counted.stdout) == (0, f"{number}\n")


@pytest.mark.parametrize(
    ("name", "text"), [("csv", "session,record,reason,completed_at\n"), ("ndjson", ""), ("json", "[\n]\n")]
)
def test_no_gap_is_an_empty_list_and_done(healthy: Database, name: str, text: str) -> None:
    done = with_tour("--format", name, dsn=healthy.dsn)

    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")
    assert with_tour("--count", dsn=healthy.dsn).stdout == "0\n"


async def test_a_terminal_is_told_no_command(empty: Database, tmp_path: Path) -> None:
    await empty.execute(
        r"""
        create table assessment_sessions (id text, status text, created_at date, completed_at date);
        create table profiles (session_id text);
        insert into assessment_sessions values (E'\x1b[2Jnew\nline', '', '2025-05-01', null)
        """
    )
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + PIPELINE.replace("NAME", "orders"))
    ours, theirs = pty.openpty()
    with gaps("--pipeline", "orders", dsn=empty.dsn, config=path, stdout=theirs) as process:
        os.close(theirs)
        code = await asyncio.to_thread(process.wait, at_most(START_SECONDS))
        shown = os.read(ours, 4096)
    os.close(ours)

    assert code == 0
    assert shown.decode().splitlines() == [
        "session,record,reason,completed_at",
        r"\x1b[2Jnew\nline,invoices,missing,",
    ]


# --- Whom it is about


def test_one_segment_is_listed_and_a_name_that_no_session_has_is_refused(backfill: Database, tmp_path: Path) -> None:
    path, worklist = tmp_path / "config.yaml", tmp_path / "worklist.jsonl"
    text = TOUR.read_text(encoding="utf-8")
    path.write_text(re.sub(r"# segment: \{[^}]*\}", "segment: {columns: status, least: 1}", text), encoding="utf-8")

    def of_segment(name: str) -> tuple[int, str, str]:
        done = run("gaps", "--count", "--config.file", str(path), "--segment", name, DATABASE_URL=backfill.dsn)
        return done.returncode, done.stdout, done.stderr

    wrong = run(
        *("gaps", "--worklist", str(worklist), "--config.file", str(path), "--segment", "klienbahn"),
        DATABASE_URL=backfill.dsn,
    )
    assert wrong.returncode == 2
    assert of_segment("completed") == (0, "39\n", "")
    code, count, remark = of_segment("complete\x1b[2J")
    assert (code, count) == (2, "")
    assert r"--segment complete\x1b[2J: no eligible session of the window has this segment" in remark
    assert of_segment("<other>")[0] == 2
    assert not worklist.exists()


def test_of_several_pipelines_one_must_be_named(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(HEAD + PIPELINE.replace("NAME", "orders") + PIPELINE.replace("NAME", "returns"))
    arguments = ("gaps", "--count", "--config.file", str(path))

    unnamed = run(*arguments, DATABASE_URL=backfill.dsn)
    named = run(*arguments, "--pipeline", "returns", DATABASE_URL=backfill.dsn)

    assert (unnamed.returncode, unnamed.stdout) == (2, "")
    assert "--pipeline with one of orders, returns" in unnamed.stderr
    assert (named.returncode, named.stderr) == (0, "")
    assert int(named.stdout) > 13


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--pipeline", "asessments"], "did you mean assessments?"),
        (["--record", "profile"], "did you mean profiles? (known: fc_scores, profiles)"),
        (["--reason", "late"], "missing"),
        (["--reason", "too_few"], "never makes a gap here: every record needs no such number of rows"),
        (["--record", "profiles", "--reason", "invalid"], "profiles has satisfied_by: any_version"),
        (["--format", "xml"], "ndjson"),
        (["--segment", "acme"], "--segment needs pipelines.assessments.sessions.segment in the config"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_none_exits_2_and_says_which_are(arguments: list[str], remedy: str) -> None:
    done = with_tour(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


# --- Whole or none


@pytest.mark.parametrize("arguments", [(), ("--format", "json"), ("--count",)], ids=" ".join)
async def test_what_cannot_be_measured_prints_no_list_and_exits_3(
    backfill: Database, arguments: tuple[str, ...]
) -> None:
    await backfill.execute("alter table profiles rename to away")

    broken = with_tour(*arguments, dsn=backfill.dsn)
    dead = with_tour(*arguments)
    other = with_tour(*arguments, "--record", "fc_scores", dsn=backfill.dsn)

    assert (broken.returncode, broken.stdout) == (3, "")
    assert 'pipelines.assessments.records.profiles: relation "public.profiles" does not exist' in broken.stderr
    assert "--record NAME" in broken.stderr
    assert (dead.returncode, dead.stdout) == (3, "")
    assert "connection refused" in dead.stderr
    assert "geheim" not in dead.stderr
    assert (other.returncode, other.stderr) == (0, "")
    assert other.stdout


@pytest.mark.parametrize("arguments", [(), ("--count",)], ids=["list", "count"])
def test_a_disk_that_is_full_is_said_and_exits_3(backfill: Database, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full, gaps(*arguments, dsn=backfill.dsn, stdout=full.fileno()) as process:
        _, said = process.communicate(timeout=at_most(START_SECONDS))

    assert process.returncode == 3
    assert said.endswith(b"(No space left on device): correct the cause and run the command again\n")


# --- Whoever reads it


@pytest.fixture
async def many(empty: Database) -> Database:
    """20,000 gaps: far more than a pipe holds."""
    await empty.execute(SCHEMA + ONLY_GAPS.format(20_000))
    return empty


def test_whoever_stops_reading_is_no_error(many: Database) -> None:
    with gaps("--format", "ndjson", dsn=many.dsn) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        code = process.wait(at_most(START_SECONDS))

    assert json.loads(line)["reason"] == "missing"
    assert (code, said) == (0, b"")


async def test_whoever_reads_slowly_gets_all_and_holds_nothing_on_the_server(many: Database) -> None:
    """As in `gaps | less`: however long a page is looked at."""
    with gaps(dsn=many.dsn) as process:
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.read, 1)
        await until(many, f"not exists (select {OURS})")
        rest = await asyncio.to_thread(process.stdout.read)
        code = process.wait(at_most(START_SECONDS))

    assert (first + rest).count(b"\n") == 1 + 2 * 20_000
    assert code == 0


# --- How much memory it takes


def peak_of(database: Database) -> int:
    """The most memory, in kB, that a list takes: it is whole, and waits to be read."""
    with gaps(dsn=database.dsn) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.stdout.read()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
async def test_ten_times_the_gaps_take_no_more_memory(many: Database) -> None:
    few = await asyncio.to_thread(peak_of, many)
    await many.execute("truncate assessment_sessions cascade;" + ONLY_GAPS.format(200_000))

    assert await asyncio.to_thread(peak_of, many) < 1.1 * few
