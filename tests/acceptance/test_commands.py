"""The commands that print and end, and what is said to whoever holds them wrong."""

import asyncio
import functools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from conftest import SERVED, TOUR, Database
from processes import ANY_PORT, COMMAND, MODULE, Exporter, begin, environment, run
from test_collect import OURS, until
from waiting import START_SECONDS, at_most

import exporter
from exporter.cli import main
from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres

DEAD = "postgresql://nobody:geheim@127.0.0.1:1/nowhere"


def with_tour(*command: str, dsn: str = DEAD) -> subprocess.CompletedProcess[str]:
    return run(*command, "--config.file", str(TOUR), DATABASE_URL=dsn)


# --- config check


def test_config_check_says_what_a_valid_file_has() -> None:
    done = with_tour("config", "check")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{TOUR}: valid (1 database, 1 pipeline, 2 records)\n"


def test_config_check_says_every_problem_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = TOUR.read_text()
    for old, new in (
        ("interval: 30s", "intervall: 30s"),
        ("max_label_values: 50", "max_label_values: many"),
        ("current: v1.2}", "current: 1.10}"),
        ("table: public.profiles", "table: public.pro files"),
        ("database: main  ", "database: mian  "),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)

    done = run("config", "check", "--config.file", str(path), DATABASE_URL=DEAD)

    assert (done.returncode, done.stdout) == (2, "")
    head, *problems = done.stderr.splitlines()
    assert head == f"{path}: 5 problems"
    for place, remedy in (
        ("collection.intervall", "did you mean interval"),
        ("collection.max_label_values", "number"),
        ("pipelines.assessments.database", "did you mean main"),
        ("pipelines.assessments.records.profiles.table", "double quotes"),
        ("pipelines.assessments.records.fc_scores.version.current", '"1.10"'),
    ):
        assert [line for line in problems if place in line and remedy in line and re.match(r"  line \d+: ", line)]


def test_config_check_does_not_connect_nor_repeat_a_secret() -> None:
    done = run("config", "check", "--config.file", str(TOUR), DATABASE_URL="geheim://user:geheim@host/db")

    assert done.returncode == 2
    assert "databases.main.url" in done.stderr
    assert "geheim" not in done.stderr + done.stdout


# --- config check --connect


def test_config_check_connects_when_asked_and_says_the_numbers(healthy: Database) -> None:
    done = with_tour("config", "check", "--connect", dsn=healthy.dsn)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{TOUR}: valid (1 database, 1 pipeline, 2 records)\n\ndatabase main\n")
    assert "  ok     pipelines.assessments: 157 sessions analysed: 157 complete, 0 pending, 0 gap\n" in done.stdout
    assert "  ok     pipelines.assessments.records.profiles: sessions by state: 157 current\n" in done.stdout


async def test_config_check_exits_3_where_something_cannot_be_measured(healthy: Database) -> None:
    await healthy.execute("alter table profiles rename to profile")

    done = with_tour("config", "check", "--connect", dsn=healthy.dsn)

    assert (done.returncode, done.stderr) == (3, "")
    assert 'records.profiles.table: "public"."profiles" does not exist; did you mean profile?' in done.stdout
    assert "sessions by state: 157 current" in done.stdout


def test_config_check_exits_3_without_a_database_and_repeats_no_secret() -> None:
    done = with_tour("config", "check", "--connect")

    assert (done.returncode, done.stderr) == (3, "")
    assert "  error  databases.main: connection refused" in done.stdout
    assert not [secret for secret in ("geheim", "nobody", "127.0.0.1", "nowhere") if secret in done.stdout]


def test_config_check_exits_2_for_the_file_before_it_connects() -> None:
    done = run("config", "check", "--connect", "--config.file", str(TOUR))

    assert (done.returncode, done.stdout) == (2, "")
    assert "DATABASE_URL" in done.stderr


# --- init


def test_init_proposes_a_config_that_passes_both_checks(healthy: Database, tmp_path: Path) -> None:
    path = tmp_path / "proposed.yaml"

    proposed = run("init", "--output", str(path), DATABASE_URL=healthy.dsn)
    done = run("config", "check", "--connect", "--config.file", str(path), DATABASE_URL=healthy.dsn)

    assert (proposed.returncode, proposed.stdout) == (0, "")
    assert f"config check --connect --config.file {path}" in proposed.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert "records.fc_scores: sessions by state: " in done.stdout


def test_init_prints_what_it_proposes_for_the_tables_named_and_never_the_url(healthy: Database) -> None:
    arguments = ("--sessions", "public.assessment_sessions", "--record", "profiles")

    done = run("init", "--database.url", healthy.dsn, *arguments)

    assert done.returncode == 0
    assert "table: public.profiles" in done.stdout
    assert "fc_scores" not in done.stdout
    assert "url: ${DATABASE_URL}" in done.stdout
    assert "set DATABASE_URL" in done.stderr
    assert "postgresql://" not in done.stdout + done.stderr


def test_init_leaves_a_file_that_is_there_alone(healthy: Database, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mine")

    done = run("init", "--output", str(path), DATABASE_URL=healthy.dsn)

    assert (done.returncode, done.stdout, path.read_text()) == (2, "", "mine")
    assert f"{path} exists: name another file, or remove it" in done.stderr


def test_init_exits_3_where_nothing_can_be_proposed_and_says_what_to_do(empty: Database) -> None:
    nothing = run("init", DATABASE_URL=empty.dsn)
    dead = run("init", DATABASE_URL=DEAD)

    assert (nothing.returncode, dead.returncode) == (3, 3)
    assert "the database has no tables: check the database in the url" in nothing.stderr
    assert "connection refused" in dead.stderr
    assert "geheim" not in dead.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [(["--sessions", "or ders"], "double quotes"), (["--database.url", "geheim"], "postgresql://")],
    ids=["table", "url"],
)
def test_init_exits_2_for_words_that_make_no_sense(arguments: list[str], remedy: str) -> None:
    done = run("init", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr
    assert "geheim" not in done.stderr


# --- queries


@functools.cache
def queries() -> str:
    """What `queries` prints of the tour; no database is there."""
    done = with_tour("queries")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SILENT_ABOUT = re.compile(r"(savepoint|rollback to savepoint|release savepoint) attempt")
"""What a collection says beside its statements, so that one refusal does not end its transaction."""


@pytest.fixture(scope="module")
def telling() -> Iterator[EmbeddedPostgres]:
    """A server that logs every statement, with the name of whoever sent it."""
    settings = {"log_statement": "all", "log_line_prefix": "%a> "}
    with EmbeddedPostgres(settings=settings) as started:
        yield started


def statements_in(log: str) -> list[str]:
    """What the exporter was heard to say, in order."""
    entries = re.split(r"^(?=\S+> LOG:)", log.replace("\n\t", "\0"), flags=re.MULTILINE)
    heard = (
        re.match(r"session-health-exporter> LOG:  (?:statement|execute [^:]+): ([^\n]*)\n", entry) for entry in entries
    )
    return [match[1].replace("\0", "\n") for match in heard if match]


def statements_printed(text: str) -> list[str]:
    parts = re.split(r"^-- [\w-]+: [^\n]*\n(?:-- \$\d+ = [^\n]*\n)*", text, flags=re.MULTILINE)
    assert re.fullmatch(r"(--[^\n]*\n|\n)*", parts[0])
    return [part.rstrip().removesuffix(";") for part in parts[1:]]


OF_THE_DATABASE = re.compile(r"(sessions|delays|duplicates of \w+) \*/")


async def test_queries_prints_exactly_what_a_collection_runs(telling: EmbeddedPostgres, tmp_path: Path) -> None:
    connection = await asyncpg.connect(telling.dsn())
    await connection.execute(SCHEMA + SCENARIOS["backfill"].sql)
    await connection.close()
    printed = statements_printed(queries())
    served = tmp_path / "config.yaml"
    served.write_text(SERVED)

    arguments = ("serve", "--config.file", str(served), *ANY_PORT)
    with Exporter(*arguments, environ=environment(DATABASE_URL=telling.dsn())) as it:
        await it.measured()
        assert it.end(signal.SIGTERM, 2) == 0

    heard = [sql for sql in statements_in(telling.log_file.read_text()) if not SILENT_ABOUT.fullmatch(sql)]
    # Settings that only some servers know are sent together with those that begin the transaction.
    later = r";\n(?=set local (?:transaction_timeout|client_connection_check_interval))"
    heard = [part for sql in heard for part in re.split(later, sql) if '"control ' not in part]
    # These depend on what only the database knows: unique indexes, and the values of other versions.
    known = [sql for sql in printed if not OF_THE_DATABASE.search(sql)]
    assert [sql for sql in heard if not OF_THE_DATABASE.search(sql)] == known
    assert len(known) > 5
    assert {found[0] for sql in heard if (found := OF_THE_DATABASE.search(sql))} == {"sessions */", "delays */"}


def test_queries_needs_no_database_and_shows_what_fills_the_placeholders() -> None:
    assert "-- $1 = " in queries()
    assert "'v1.2.1'" in queries()
    assert "the snapshot's clock" in queries()
    assert "geheim" not in queries()


def test_queries_explain_adds_what_the_database_expects(backfill: Database) -> None:
    done = with_tour("queries", "--explain", dsn=backfill.dsn)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^--   \w.*\(cost=[\d.]+ rows=\d+ width=\d+\)$", done.stdout, re.MULTILINE)) >= 3
    titles = [line for line in done.stdout.splitlines() if re.match(r"-- \w+: ", line)]
    assert titles == [t for t in queries().splitlines() if re.match(r"-- \w+: (?!duplicates)", t)]


def test_queries_explain_without_a_database_could_not_measure() -> None:
    done = with_tour("queries", "--explain")

    assert done.returncode == 3
    assert "connection refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stderr


@pytest.mark.parametrize("command", [("queries",), ("config", "check")], ids=" ".join)
def test_whoever_stops_reading_is_no_error(command: tuple[str, ...]) -> None:
    """As in `queries | head -1`; here the reader is gone before the first word."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, *command, "--config.file", str(TOUR)],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(DATABASE_URL=DEAD),
            timeout=at_most(START_SECONDS),
            check=False,
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (0, "")


# --- Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["check", "gaps"])
async def test_a_signal_ends_a_command_silently_and_what_it_asked_the_server(
    backfill: Database, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    path = tmp_path / "config.yaml"
    before, line, after = TOUR.read_text().partition("        accepted_values: {fc_kind:")
    path.write_text(f"{before}        valid: pg_sleep(60) is not null\n{line}{after}")
    with begin(command, "--config.file", str(path), DATABASE_URL=backfill.dsn) as process:
        await until(backfill, f"exists (select {OURS} and wait_event = 'PgSleep')")
        process.send_signal(number)
        printed, said = await asyncio.to_thread(process.communicate, timeout=at_most(START_SECONDS))

    assert (process.returncode, printed, said) == (-number, b"", b"")
    await until(backfill, f"not exists (select {OURS})")


# --- Usage


@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["script", "module"])
def test_it_says_its_version_under_both_of_its_names(command: tuple[str, ...]) -> None:
    done = run("--version", command=command)

    assert (done.returncode, done.stdout) == (0, f"session-health-exporter {exporter.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["nonsense"], "serve"),
        (["serve", "--web.listen-address", "nonsense"], "127.0.0.1:10157"),
        (["serve"], "--config.file"),
        (["config", "check", "--config.file", "."], "directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_exits_2_and_names_the_remedy(arguments: list[str], remedy: str) -> None:
    done = run(*arguments, DATABASE_URL=DEAD)

    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "COMMAND"),
        (["config"], "COMMAND"),
        (["serve", "--web.listen-address", "127.0.0.1:99999"], "127.0.0.1:10157"),
        (["serve", "--web.listen-address", "::1:80"], "[::1]:10157"),
        (["serve", "--log.format", "xml"], "logfmt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_make_no_command_exit_2_before_anything_is_done(
    arguments: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert remedy in capsys.readouterr().err


def test_an_address_of_nobody_here_exits_2_and_names_the_remedy() -> None:
    done = with_tour("serve", "--web.listen-address", "192.0.2.1:10157")

    assert done.returncode == 2
    assert "192.0.2.1:10157" in done.stderr.splitlines()[-1]
    assert "--web.listen-address" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
