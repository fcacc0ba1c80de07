"""Commands that write files and streams, on a full disk; and files that no command can read."""

import os
import resource
import subprocess
from pathlib import Path

import pytest
from conftest import TOUR, Database
from processes import COMMAND, begin, environment, run
from waiting import START_SECONDS, at_most

CONFIG = ("--config.file", str(TOUR))
SMALL = 4096
"""Bytes of the largest file of a full disk: a longer write fails with EFBIG."""


def test_a_report_on_a_full_disk_leaves_the_earlier_report(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    report = ("report", *CONFIG, "--format", "json", "--output", str(path))
    assert run(*report, DATABASE_URL=backfill.dsn).returncode == 0
    before = path.read_bytes()

    with begin(*report, DATABASE_URL=backfill.dsn) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SMALL, SMALL))
        _, told = process.communicate(timeout=at_most(START_SECONDS))

    assert process.returncode == 3
    assert f"{path} is not written (File too large), and no file has changed" in told.decode()
    assert "Traceback" not in told.decode()
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_a_report_to_standard_output_by_name_follows_what_is_there(backfill: Database, tmp_path: Path) -> None:
    """`--output /dev/stdout` writes to the file of the shell, and makes no file beside it."""
    path = tmp_path / "both"
    with path.open("wb") as file:
        process = begin("report", *CONFIG, "--output", "/dev/stdout", stdout=file.fileno(), DATABASE_URL=backfill.dsn)
        process.communicate(timeout=at_most(START_SECONDS))
        same = os.fstat(file.fileno()).st_ino == path.stat().st_ino

    assert (process.returncode, same) == (0, True)
    assert path.read_text(encoding="utf-8").startswith("# ❌")
    assert [*tmp_path.iterdir()] == [path]


WRITING = (
    "check",
    "check --format json",
    "report",
    "report --format html",
    "queries",
    "config check",
    "rules",
    "gaps",
    "gaps --count",
    "init",
)
"""Commands that write to standard output."""


def with_output(to: str, *arguments: str, dsn: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with the streams as a shell redirects them."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {to}', "sh", *COMMAND, *arguments],
        capture_output=True,
        text=True,
        env=environment(DATABASE_URL=dsn),
        cwd=TOUR.parent,
        timeout=at_most(START_SECONDS),
        check=False,
    )


@pytest.mark.parametrize("command", [*WRITING, "--help", "--version"])
@pytest.mark.parametrize(
    ("to", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")], ids=["full", "closed"]
)
def test_an_output_that_cannot_be_written_exits_3(backfill: Database, command: str, to: str, why: str) -> None:
    done = with_output(to, *command.split(), dsn=backfill.dsn)

    assert done.returncode == 3
    assert f"the output is incomplete ({why}): correct the cause and run the command again" in done.stderr
    assert "crashed" not in done.stderr


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_a_remark_that_cannot_be_written_changes_no_exit_code(backfill: Database, tmp_path: Path, to: str) -> None:
    path = tmp_path / "list"

    made = with_output(to, "gaps", "--worklist", str(path), dsn=backfill.dsn)
    judged = with_output(to, "check", dsn=backfill.dsn)
    wrong = with_output(to, "check", "--config.file", "none", dsn=backfill.dsn)

    assert (made.returncode, judged.returncode, wrong.returncode) == (0, 1, 2)
    assert path.read_bytes().startswith(b'{"worklist":2')
    assert judged.stdout.startswith("assessments: unhealthy")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with files that no command may read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_bytes(b'{"worklist":' + b"[" * 100_000 + b"\n")
    (tmp_path / "long").touch()
    os.truncate(tmp_path / "long", 100 << 20)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" * 1000)
    (tmp_path / "nothing").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("pipe", "is not a regular file: save the config as a file of its own, and name the file with --config.file"),
        ("/dev/zero", "is not a regular file"),
        ("/dev/stdin", "is not a regular file"),
        ("long", "is larger than 1 MB"),
        ("bytes", "is not UTF-8 at byte 0: save it as UTF-8"),
        ("deep", "more than 20 levels: remove levels"),
        ("nothing", "is empty: start from the commented example config.yaml"),
        (".", "cannot be read (Is a directory): name the file with --config.file"),
    ],
)
@pytest.mark.parametrize("command", ["check", "serve", "config check"])
def test_a_config_that_no_command_can_read(odd: Path, command: str, name: str, fault: str) -> None:
    pipe, end = os.pipe()
    with os.fdopen(pipe), os.fdopen(end, "wb"):
        done = subprocess.run(
            [*COMMAND, *command.split(), "--config.file", str(odd / name)],
            stdin=pipe,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=at_most(START_SECONDS),
            check=False,
        )

    assert (done.returncode, done.stdout) == (2, "")
    assert fault in done.stderr
    assert str(odd / name) in done.stderr
    assert "crashed" not in done.stderr


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("pipe", "cannot be read (not a regular file): name a report written with --format json"),
        ("/dev/zero", "cannot be read (not a regular file)"),
        ("long", "cannot be read (larger than 64 MB)"),
        ("bytes", "it is no report of format 1"),
        ("deep", "it is no report of format 1"),
        ("nothing", "it is no report of format 1"),
    ],
)
def test_a_baseline_that_cannot_be_read(odd: Path, name: str, fault: str) -> None:
    done = run("report", *CONFIG, "--baseline", str(odd / name), DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"--baseline {odd / name}" in done.stderr
    assert fault in done.stderr
    assert "crashed" not in done.stderr


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("pipe", "cannot be read (not a regular file): name a worklist written by gaps --worklist"),
        ("/dev/zero", "cannot be read (not a regular file)"),
        ("long", "not a worklist: name a file written by gaps --worklist"),
        ("bytes", "not a worklist"),
        ("deep", "not a worklist"),
        ("nothing", "not a worklist"),
    ],
)
def test_a_worklist_that_cannot_be_read(odd: Path, name: str, fault: str) -> None:
    done = run("verify", *CONFIG, str(odd / name), DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")

    assert (done.returncode, done.stdout) == (2, "")
    assert str(odd / name) in done.stderr
    assert fault in done.stderr
    assert "crashed" not in done.stderr


@pytest.mark.parametrize(
    "address", ["a..b:1", f"{'a' * 64}:1", f"{'ä' * 60}:1", "[a..b]:1", "[[]]:1", f":{'9' * 5000}", ":65536"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    done = run("serve", *CONFIG, "--web.listen-address", address, DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")

    assert (done.returncode, done.stdout) == (2, "")
    assert "argument --web.listen-address" in done.stderr
    assert "is not an address: " in done.stderr
