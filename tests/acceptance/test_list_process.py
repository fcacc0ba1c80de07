"""`list` as whoever types or pipes it sees it: a whole list or none, an exit code, and a remedy that works."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import TOUR, Database
from processes import run

from exporter.commands.list import LISTS

DEAD = "postgresql://nobody:geheim@127.0.0.1:1/nowhere"
HEAD = 'database: {url: "${DATABASE_URL}"}\npipelines:\n'
PIPELINE = """
  NAME:
    window: {since: 2025-01-01}
    sessions: {table: assessment_sessions, key: id, status: status, started_at: created_at, completed_at: completed_at,
      eligible: "true"}
    records:
      invoices: {table: profiles, session_key: session_id, unique: [session_id]}
      returns: {table: fc_scores, session_key: session_id}
"""


def with_tour(*arguments: str, dsn: str = DEAD) -> subprocess.CompletedProcess[str]:
    return run("list", *arguments, "--config.file", str(TOUR), DATABASE_URL=dsn)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(HEAD + PIPELINE.replace("NAME", "orders"))
    return path


@pytest.mark.parametrize("form", ["csv", "ndjson", "json"])
async def test_the_rows_are_listed_and_counted(backfill: Database, form: str) -> None:
    await backfill.execute("update assessment_sessions set finalized_at = null")
    counted = with_tour("failed_checks", "--check", "finalized", "--count", dsn=backfill.dsn)
    done = with_tour("failed_checks", "--check", "finalized", "--format", form, dsn=backfill.dsn)

    number = int(counted.stdout)
    lines = done.stdout.splitlines()
    assert number > 10
    assert (counted.returncode, done.returncode, done.stderr) == (0, 0, "")
    assert len(lines) == number + {"csv": 1, "ndjson": 0, "json": 2}[form]
    if form == "csv":
        assert lines[0] == "session,check,status,started_at,completed_at"


@pytest.mark.parametrize(
    ("form", "text"), [("csv", "session,record,row,created_at\n"), ("ndjson", ""), ("json", "[\n]\n")]
)
def test_an_empty_list_is_a_whole_document(healthy: Database, form: str, text: str) -> None:
    done = with_tour("orphaned_records", "--format", form, dsn=healthy.dsn)

    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


async def test_without_a_record_the_rows_of_every_record_are_listed(backfill: Database) -> None:
    await backfill.execute("alter table profiles drop constraint profiles_session_id_fkey")
    await backfill.execute("delete from assessment_sessions")
    done = with_tour("orphaned_records", "--format", "ndjson", dsn=backfill.dsn)

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["record"] for row in rows} == {"profiles", "fc_scores"}
    assert all(row["row"] for row in rows)


WRONG = {
    "an unknown list": (("orphan_records",), "'orphan_records' is no list; did you mean orphaned_records? (known: "),
    "a limit on gaps": (("outdated_sessions",), "outdated_sessions counts gaps: use `gaps --reason outdated`"),
    "a metric of gaps": (("gap_sessions",), "gap_sessions counts gaps: use `gaps`"),
    "a reason of gaps": (("too_few",), "too_few counts gaps: use `gaps --reason too_few`"),
    "a record of sessions": (("failed_checks", "--record", "invoices"), "list failed_checks has no --record"),
    "a check of rows": (("orphaned_records", "--check", "priced"), "list orphaned_records has no --check"),
    "an unknown record": (
        ("orphaned_records", "--record", "invoice"),
        "is not a record of orders; did you mean invoices?",
    ),
    "a record without the number": (("duplicate_records", "--record", "returns"), "choose one of invoices"),
    "nothing counted": (("failed_checks",), "nothing to list: pipeline orders does not count failed_checks: set sess"),
    "an unknown pipeline": (("orphaned_records", "--pipeline", "order"), "--pipeline order is not in the config"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_listed_is_refused_with_the_remedy_before_anything_is_read(own: Path, name: str) -> None:
    arguments, message = WRONG[name]

    done = run("list", *arguments, "--config.file", str(own), DATABASE_URL=DEAD)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())


def test_the_help_names_every_list() -> None:
    shown = run("list", "--help").stdout

    assert all(name in shown for name in LISTS)


async def test_a_table_that_cannot_be_read_leaves_no_list_and_other_records_can_be_listed(
    backfill: Database, own: Path
) -> None:
    await backfill.execute("drop table fc_scores cascade")
    arguments = ("--config.file", str(own))

    done = run("list", "orphaned_records", *arguments, DATABASE_URL=backfill.dsn)
    other = run("list", "orphaned_records", "--record", "invoices", *arguments, DATABASE_URL=backfill.dsn)

    assert (done.returncode, done.stdout) == (3, "")
    assert "pipelines.orders.records.returns" in done.stderr
    assert "no list" in done.stderr
    assert "--record" in done.stderr
    assert (other.returncode, other.stderr) == (0, "")


async def test_sessions_are_listed_without_a_record_table(backfill: Database) -> None:
    await backfill.execute("drop table fc_scores cascade; drop table profiles cascade")

    done = with_tour("failed_checks", "--count", dsn=backfill.dsn)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_is_down_is_told_without_the_password() -> None:
    done = with_tour("stuck_sessions", "--count")

    assert (done.returncode, done.stdout) == (2, "") or done.returncode == 3
    assert "geheim" not in done.stderr


async def test_rows_that_policies_may_hide_are_said(empty: Database, tmp_path: Path) -> None:
    number = await empty.connection.fetchval("select pg_backend_pid()")
    await empty.execute(
        f"""
        create table visits (id int primary key, at timestamptz); create table scores (id int primary key, visit int);
        insert into visits values (1, now()); insert into scores values (1, 1), (2, 2), (3, 3);
        create role reader_{number} login password 'pw'; grant select on visits, scores to reader_{number};
        alter table scores enable row level security; create policy few on scores using (id < 3)
        """
    )
    path = tmp_path / "config.yaml"
    path.write_text(
        'database: {url: "${DATABASE_URL}", row_security: allow}\npipelines:\n  care:\n    window: {last: 1d}\n'
        '    sessions: {table: visits, key: id, started_at: at, eligible: "true"}\n'
        "    records: {scores: {table: scores, session_key: visit}}\n"
    )
    user = empty.dsn.partition("//")[2].partition("@")[0]
    dsn = empty.dsn.replace(user, f"reader_{number}:pw", 1)

    done = run("list", "orphaned_records", "--config.file", str(path), DATABASE_URL=dsn)

    assert (done.returncode, done.stdout) == (3, "session,record,row,created_at\n2,scores,2,\n")
    assert "policies may hide rows" in done.stderr
