"""From the list to the proof, as whoever mends a platform sees it; and what a terminal shows meanwhile."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import TOUR, Database
from processes import COMMAND, begin, environment, read_terminal, run
from test_collect import OURS, until
from test_gaps_process import DEAD, ONLY_GAPS
from tools import find_tool
from waiting import START_SECONDS, at_most

from exporter.demo.scenarios import SCHEMA

CONFIG = ("--config.file", str(TOUR))
DOCS = Path(__file__).parents[2] / "docs"

BACKFILL = """#!{python}
import asyncio, os, sys
import asyncpg

async def main():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await connection.execute({sql!r}, sys.argv[1:])
    await connection.close()

asyncio.run(main())
"""
SQL = {
    "profiles": "insert into profiles select id, 'v1.2.1', now() from unnest($1::uuid[]) id",
    "fc_scores": "insert into fc_scores select id, 'v1.2', 'functions', 30, now() from unnest($1::uuid[]) id",
}


def gaps(path: Path, dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("gaps", *CONFIG, "--worklist", str(path), *arguments, DATABASE_URL=dsn)


def verify(path: Path, dsn: str, *arguments: str, config: Path = TOUR) -> subprocess.CompletedProcess[str]:
    return run("verify", str(path), "--config.file", str(config), *arguments, DATABASE_URL=dsn)


def backfill_by_the_list(path: Path, dsn: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the loop that the docs give."""
    find_tool("jq")
    page = (DOCS / "worklist.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    programs = {"backfill": script}
    programs |= {f"backfill-{name}": BACKFILL.format(python=sys.executable, sql=sql) for name, sql in SQL.items()}
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["./backfill", str(path), *arguments],
        cwd=folder,
        env=environment(DATABASE_URL=dsn),
        capture_output=True,
        text=True,
        check=False,
    )


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def of_sessions(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    numbers: dict[str, int] = json.loads(done.stdout)["sessions"]
    return {name: number for name, number in numbers.items() if number}


# --- From the list to the proof


async def test_a_backfill_by_the_worklist_is_proved(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "before.jsonl"

    made = gaps(path, backfill.dsn, "--batch-size", "10")
    before = verify(path, backfill.dsn)
    mended = backfill_by_the_list(path, backfill.dsn, tmp_path)
    after = verify(path, backfill.dsn)
    check = run("check", *CONFIG, DATABASE_URL=backfill.dsn)

    assert (made.returncode, made.stdout) == (0, "")
    assert made.stderr.splitlines() == [
        f"{path}: 39 sessions in 4 batches of at most 10",
        "  profiles: 13 to create, 0 to derive again",
        "  fc_scores: 28 to create, 11 to derive again",
        f"next: run the backfill, then session-health-exporter verify {path} --config.file {TOUR}",
    ]
    assert (before.returncode, before.stderr) == (1, "")
    assert before.stdout.startswith("assessments: not all fixed: 0 of 39 sessions fixed, measured at ")
    assert mended.stderr == ""
    assert mended.stdout.splitlines() == [f"batch {n} is done" for n in range(1, 5)]
    assert (after.returncode, after.stderr) == (0, "")
    assert after.stdout.startswith("assessments: 39 of 39 sessions fixed, measured at ")
    assert [line.split() for line in after.stdout.splitlines()[2:]] == [
        ["sessions", "39", "39", "of", "39", "0", "0", "0", "0"],
        ["profiles", "13", "13", "of", "13", "0", "0", "0", "0"],
        ["fc_scores", "39", "39", "of", "39", "0", "0", "0", "0"],
    ]
    assert check.returncode == 0


async def test_the_list_of_the_rest_has_the_window_of_the_first(backfill: Database, tmp_path: Path) -> None:
    path, rest, config = tmp_path / "before.jsonl", tmp_path / "rest.jsonl", tmp_path / "config.yaml"
    config.write_text(TOUR.read_text().replace("window: {since: 2025-08-01}", "window: {last: 900d}"))
    [(today, tomorrow)] = await backfill.connection.fetch("select now()::text, (now() + interval '1 day')::text")
    await backfill.stop_clock(today)
    run("gaps", "--config.file", str(config), "--worklist", str(path), DATABASE_URL=backfill.dsn)
    await backfill.stop_clock(tomorrow)

    left = verify(path, backfill.dsn, "--still", str(rest), config=config)
    first, second = (json.loads(file.read_text().splitlines()[0]) for file in (path, rest))

    assert left.returncode == 1
    assert first["since"] == second["since"]
    assert first["made_at"] < second["made_at"]


async def test_a_backfill_that_did_not_do_all_leaves_a_list_of_the_rest(backfill: Database, tmp_path: Path) -> None:
    path, rest = tmp_path / "before.jsonl", tmp_path / "rest.jsonl"
    gaps(path, backfill.dsn, "--batch-size", "10")
    backfill_by_the_list(path, backfill.dsn, tmp_path, "3")

    after = verify(path, backfill.dsn, "--still", str(rest), "--format", "json")
    first, *batches, _ = [json.loads(line) for line in path.read_text().splitlines()]
    header, *left, _ = [json.loads(line) for line in rest.read_text().splitlines()]

    assert after.returncode == json.loads(after.stdout)["exit_code"] == 1
    assert of_sessions(after) == {"listed": 39, "fixed": 19, "gap": 20}
    assert [batch["sessions"] for batch in left] == [batch["sessions"] for batch in batches[:2]]
    assert (header["sessions"], header["identity"]) == (20, first["identity"])
    assert backfill_by_the_list(rest, backfill.dsn, tmp_path).returncode == 0
    assert verify(rest, backfill.dsn).returncode == verify(path, backfill.dsn).returncode == 0


async def test_vanished_sessions_are_settled_only_where_that_is_allowed(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "list"
    gaps(path, backfill.dsn)
    await backfill.execute("update assessment_sessions set status = 'archived'")

    strict = verify(path, backfill.dsn)
    lenient = verify(path, backfill.dsn, "--allow-vanished")

    assert (strict.returncode, lenient.returncode) == (1, 0)
    assert "  vanished: 39 no longer eligible\n" in strict.stdout


async def test_no_gap_is_a_list_that_is_all_fixed(healthy: Database, tmp_path: Path) -> None:
    made = gaps(tmp_path / "list", healthy.dsn)
    after = verify(tmp_path / "list", healthy.dsn)

    assert (made.returncode, after.returncode) == (0, 0)
    assert "next:" not in made.stderr
    assert after.stdout.startswith("assessments: the worklist is empty: nothing to fix, measured at ")


async def test_another_config_proves_nothing_until_its_keys_are_allowed_as_printed(
    backfill: Database, tmp_path: Path
) -> None:
    path, rest, config = tmp_path / "list", tmp_path / "rest", tmp_path / "config.yaml"
    gaps(path, backfill.dsn)
    text = TOUR.read_text().replace("grace: 5m", "grace: 10m", 1)
    for line in ("        table: public.profiles\n", "        table: public.fc_scores\n"):
        assert line in text
        text = text.replace(line, f"{line}        required_when: 'false'\n")
    config.write_text(text)
    keys = ["grace", "records.profiles.required_when", "records.fc_scores.required_when"]

    refused = verify(path, backfill.dsn, "--still", str(rest), config=config)
    as_json = verify(path, backfill.dsn, "--format", "json", config=config)
    [flags] = re.findall(r"--allow-changed .*", refused.stderr)
    some = verify(path, backfill.dsn, "--allow-changed", "grace", config=config)
    allowed = verify(path, backfill.dsn, *flags.split(), "--still", str(rest), config=config)

    assert (refused.returncode, as_json.returncode, some.returncode) == (1, 1, 1)
    assert refused.stderr == (
        f"session-health-exporter: changed since the worklist was made: {', '.join(keys)}; verify with the earlier "
        f"config or, if the change is intended, add {flags}\n"
        f"{rest} is not written: the worklist was made with another config\n"
    )
    assert refused.stdout.startswith("assessments: not proved: 39 of 39 sessions fixed, but the config has changed ")
    assert json.loads(as_json.stdout)["changed"] == [{"key": key, "allowed": False} for key in keys]
    assert "and allowed: grace\n" in some.stderr
    assert f"the worklist was made: {', '.join(keys[1:])}; verify with the earlier config" in some.stderr
    assert allowed.returncode == 0
    assert allowed.stdout.startswith("assessments: 39 of 39 sessions fixed, measured at ")
    assert f"and allowed: {', '.join(keys)}\n" in allowed.stderr
    assert json.loads(rest.read_text().partition("\n")[0])["sessions"] == 0


async def test_a_new_current_version_is_allowed_by_name_and_measured(backfill: Database, tmp_path: Path) -> None:
    path, rest, config = tmp_path / "list", tmp_path / "rest", tmp_path / "config.yaml"
    gaps(path, backfill.dsn)
    config.write_text(TOUR.read_text().replace("current: v1.2}", "current: v1.3}"))
    assert config.read_text() != TOUR.read_text()
    await backfill.execute(
        "insert into profiles select id, 'v1.2.1' from assessment_sessions on conflict do nothing;"
        "insert into fc_scores select id, 'v1.3', 'functions', 30 from assessment_sessions"
    )
    key = ("--allow-changed", "records.fc_scores.version.current")

    refused = verify(path, backfill.dsn, config=config)
    allowed = verify(path, backfill.dsn, *key, config=config)
    await backfill.execute("update fc_scores set version = 'v0' where version = 'v1.3'")
    not_fixed = verify(path, backfill.dsn, *key, "--still", str(rest), config=config)
    with_the_new_config = verify(rest, backfill.dsn, config=config)

    assert (refused.returncode, allowed.returncode, not_fixed.returncode) == (1, 0, 1)
    # What is left is a list by the config that was allowed.
    assert (with_the_new_config.returncode, with_the_new_config.stderr) == (1, "")


async def test_a_config_of_other_words_that_measures_the_same_proves_the_list(
    backfill: Database, tmp_path: Path
) -> None:
    path, config = tmp_path / "list", tmp_path / "config.yaml"
    gaps(path, backfill.dsn)
    text = TOUR.read_text()
    for old, new in (
        ("interval: 30s", "interval: 45s  # another comment"),
        ("sessions_with_gap: {critical: 0}", "sessions_with_gap: {warning: 7, critical: 9}"),
        ("window: {since: 2025-08-01}", "window: {since: '2025-08-01T00:00:00Z'}"),
        ("lock_timeout: 1s", "lock_timeout: 3s"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    config.write_text(text)
    await backfill.execute(
        "insert into profiles select id, 'v1.2.1' from assessment_sessions on conflict do nothing;"
        "insert into fc_scores select id, 'v1.2', 'functions', 30 from assessment_sessions on conflict do nothing"
    )

    done = verify(path, backfill.dsn, config=config)

    assert (done.returncode, done.stderr) == (0, "")


async def test_where_no_identity_is_told_that_is_said(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "list"
    gaps(path, backfill.dsn)
    await backfill.execute("create role reader login password 'r'; grant pg_read_all_data to reader")
    try:
        await backfill.execute("revoke execute on function pg_control_system() from public")
        dsn = re.sub(r"//[^@]+@", "//reader:r@", backfill.dsn)
        done = verify(path, dsn)
    finally:
        await backfill.execute("drop owned by reader; drop role reader")

    assert done.returncode == 1, done.stderr
    assert "cannot check that the worklist is from this database: no identity" in done.stderr


# --- What is wrong


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (
            ("--worklist", "/nowhere/list"),
            "/nowhere/list cannot be written (No such file or directory): name another file",
        ),
        (("--worklist", str(TOUR)), f"{TOUR} exists: name another file, or remove it"),
        (("--worklist", "l", "--count"), "--worklist has its own format: remove --count and --format"),
        (("--worklist", "l", "--format", "csv"), "remove --count and --format"),
        (("--batch-size", "5"), "--batch-size needs --worklist"),
        (("--worklist", "l", "--batch-size", "0"), "'0' is not a number from 1 to 10000"),
        (("--worklist", "l", "--batch-size", "many"), "'many' is not a number from 1 to 10000"),
    ],
)
def test_a_worklist_that_cannot_be_is_a_usage_error_before_anything_is_asked(
    arguments: tuple[str, ...], remedy: str
) -> None:
    done = run("gaps", *CONFIG, *arguments, DATABASE_URL=DEAD)

    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_list_of_something_else_exits_2_and_says_what_to_do(backfill: Database, tmp_path: Path) -> None:
    path, other = tmp_path / "list", tmp_path / "other.yaml"
    gaps(path, backfill.dsn)
    cut = tmp_path / "cut"
    cut.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    other.write_text(TOUR.read_text().replace("  assessments:\n", "  assessment:\n"))
    of_before = tmp_path / "of_before"
    of_before.write_bytes(path.read_bytes().replace(b'"worklist":2', b'"worklist":1'))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for done, remedy in (
        (
            verify(tmp_path / "none", DEAD),
            "none cannot be read (No such file or directory): name a worklist written by gaps",
        ),
        (verify(tmp_path, DEAD), "cannot be read (Is a directory)"),
        (verify(TOUR, DEAD), f"{TOUR}: not a worklist: name a file written by gaps --worklist"),
        (verify(cut, DEAD), "cut: cut off: the last line, with the digest, is missing: copy the file again"),
        (verify(path, DEAD, config=other), "the worklist has the pipeline assessments, not in the config; did you"),
        (verify(path, DEAD, "--still", str(path)), "exists: name another file, or remove it"),
        (verify(path, DEAD, "--format", "xml"), "choose from"),
        (
            verify(path, DEAD, "--allow-changed", "grcae"),
            "--allow-changed grcae is not a key that decides about gaps; d",
        ),
        (
            verify(path, DEAD, "--allow-changed", "interval"),
            "--allow-changed interval is not a key that decides about gaps",
        ),
        (verify(of_before, DEAD), "a worklist of format 1 lacks the terms of the config"),
    ):
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert remedy in done.stderr
        assert "Traceback" not in done.stderr


async def test_another_database_exits_2_and_nothing_is_said_of_it(
    backfill: Database, healthy: Database, tmp_path: Path
) -> None:
    gaps(tmp_path / "list", backfill.dsn)

    done = verify(tmp_path / "list", healthy.dsn, "--still", str(tmp_path / "rest"))

    assert (done.returncode, done.stdout) == (2, "")
    assert "the worklist was made from another database than main now is" in done.stderr
    assert names(tmp_path) == ["list"]


async def test_what_cannot_be_measured_writes_no_list_proves_nothing_and_exits_3(
    backfill: Database, tmp_path: Path
) -> None:
    path = tmp_path / "list"
    gaps(path, backfill.dsn)
    await backfill.execute("alter table profiles rename to away")

    unlisted = gaps(tmp_path / "another", backfill.dsn)
    unproved = verify(path, backfill.dsn, "--still", str(tmp_path / "rest"))
    dead = verify(path, DEAD)

    for done in (unlisted, unproved, dead):
        assert (done.returncode, done.stdout) == (3, "")
        assert "geheim" not in done.stderr
    assert 'records.profiles: relation "public.profiles" does not exist' in unproved.stderr
    assert "nothing is verified: verify needs every record of the worklist" in unproved.stderr
    assert "connection refused" in dead.stderr
    assert names(tmp_path) == ["list"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_leaves_no_file_and_nothing_on_the_server(
    backfill: Database, tmp_path: Path, number: signal.Signals
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(TOUR.read_text().replace("status = 'completed' and", "pg_sleep(60) is not null and", 1))
    assert config.read_text() != TOUR.read_text()
    folder = tmp_path / "lists"
    folder.mkdir()
    words = ("gaps", "--config.file", str(config), "--worklist", str(folder / "list"))
    with begin(*words, DATABASE_URL=backfill.dsn) as process:
        await until(backfill, f"exists (select {OURS} and wait_event = 'PgSleep')")
        process.send_signal(number)
        _, said = await asyncio.to_thread(process.communicate, timeout=at_most(START_SECONDS))
        await until(backfill, f"not exists (select {OURS})")

    assert process.returncode == -number
    assert b"Traceback" not in said
    assert names(folder) == []


# --- How much memory it takes


def peak_of(*words: str, dsn: str) -> int:
    """The most memory, in kB, that a command takes."""
    program = (
        "import resource, sys; from exporter.cli import main; code = main(sys.argv[1:]);"
        "sys.stderr.write(f'\\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}'); sys.exit(code)"
    )
    done = run(*words, *CONFIG, command=(sys.executable, "-c", program), DATABASE_URL=dsn)
    assert done.returncode in (0, 1), done.stderr
    return int(done.stderr.rpartition("peak ")[2])


async def test_ten_times_the_sessions_take_no_more_memory(empty: Database, tmp_path: Path) -> None:
    """To list them; to verify them as well, beyond the keys of one portion."""
    peaks = []
    for number in (20_000, 200_000):
        await empty.execute("drop schema public cascade; create schema public")
        await empty.execute(SCHEMA + ONLY_GAPS.format(number))
        path = tmp_path / str(number)
        words = ("gaps", "--worklist", str(path))
        peaks.append(await asyncio.to_thread(peak_of, *words, dsn=empty.dsn))

    assert peaks[1] < 1.1 * peaks[0]
    assert json.loads((tmp_path / "200000").read_text().partition("\n")[0])["sessions"] == 200_000


# --- What a terminal shows


@dataclass(frozen=True)
class Shown:
    """What two terminals got, of stdout and of stderr."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """What is to be read on the first one."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.out).replace("\r\n", "\n")


def on_terminals(*words: str, **environ: str) -> Shown:
    """Run a command whose stdout and stderr are a terminal each, of 100 columns."""
    pairs = [pty.openpty(), pty.openpty()]
    usual = {"TERM": "xterm-256color", "COLUMNS": "100", "CI": "", "NO_COLOR": "", **environ}
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=pairs[0][1], stderr=pairs[1][1], env=environment(**usual), stdin=subprocess.DEVNULL
    )
    for _, theirs in pairs:
        os.close(theirs)
    shown = [read_terminal(ours).decode() for ours, _ in pairs]
    return Shown(process.wait(at_most(START_SECONDS)), *shown)


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


async def test_a_terminal_shows_colours_and_a_table_and_the_same_words(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "list"
    gaps(path, backfill.dsn)
    for words in (("check", *CONFIG), ("verify", str(path), *CONFIG)):
        piped = run(*words, DATABASE_URL=backfill.dsn)

        shown = on_terminals(*words, DATABASE_URL=backfill.dsn)

        assert shown.code == piped.returncode == 1
        assert COLOUR.search(shown.out)
        without_rules = shown.text.replace("─", "")
        times = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
        assert times.sub("T", without_rules).split() == times.sub("T", piped.stdout).split()


@pytest.mark.parametrize(
    "environ",
    [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}, {"CI": "true"}],
    ids=lambda environ: "=".join(*environ.items()),
)
async def test_where_colours_are_not_wanted_a_terminal_gets_what_a_pipe_gets(
    backfill: Database, environ: dict[str, str]
) -> None:
    piped = run("check", *CONFIG, DATABASE_URL=backfill.dsn).stdout

    shown = on_terminals("check", *CONFIG, DATABASE_URL=backfill.dsn, **environ)

    assert "\x1b" not in shown.out
    assert shown.out.replace("\r\n", "\n").splitlines()[1:] == piped.splitlines()[1:]


async def test_a_bar_shows_how_far_it_is_and_a_pipe_gets_nothing_of_it(backfill: Database, tmp_path: Path) -> None:
    for place, (words, name) in enumerate(
        [
            (("gaps",), "listing"),
            (("gaps", "--worklist", "LIST"), "listing"),
            (("verify", str(tmp_path / "1")), "verifying"),
        ]
    ):
        typed = [word.replace("LIST", str(tmp_path / str(place))) for word in words]

        shown = on_terminals(*typed, *CONFIG, DATABASE_URL=backfill.dsn)

        assert name in shown.err
        assert re.search(r"39( of 39)? sessions", shown.err)
        # It is wiped away, and the cursor is there again.
        assert "\x1b[2K" in shown.err
        assert shown.err.rindex("\x1b[?25h") > shown.err.rindex("\x1b[?25l")
        assert name not in shown.out
    for environ in ({"TERM": "dumb"}, {"CI": "true"}):
        assert on_terminals("gaps", *CONFIG, DATABASE_URL=backfill.dsn, **environ).err == ""
    assert run("gaps", *CONFIG, DATABASE_URL=backfill.dsn).stderr == ""


async def test_without_colours_a_bar_has_none(backfill: Database) -> None:
    shown = on_terminals("gaps", *CONFIG, DATABASE_URL=backfill.dsn, NO_COLOR="1")

    assert "listing" in shown.err
    assert not re.search(r"\x1b\[(3|9)[0-9][0-9;]*m", shown.err)
