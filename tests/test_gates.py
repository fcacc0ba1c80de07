"""The gates in front of a change: hooks, the hosted workflow, updates of the locks, and the changelog's version."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import exporter

ROOT = Path(__file__).parents[1]
HOOKS: list[dict[str, Any]] = [
    hook
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    if repo["repo"] == "local"
    for hook in repo["hooks"]
]
JOBS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def commands(target: str) -> list[str]:
    """The commands that `make` would run for a target."""
    make = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.stamp", target]
    return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_newest_release_of_the_changelog_is_the_version() -> None:
    found = RELEASE.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))

    assert found[0][0] == exporter.__version__
    assert [day for _, day in found] == sorted((day for _, day in found), reverse=True)


def test_every_hook_is_a_command_of_make_check() -> None:
    checked = commands("check")

    assert HOOKS
    assert {hook["language"] for hook in HOOKS} == {"system"}
    assert [hook["entry"] for hook in HOOKS if hook["entry"] not in checked] == []


def test_the_hooks_come_from_this_repository_alone() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]

    assert [repo["repo"] for repo in repos] == ["local"]


def test_the_hosted_workflow_runs_the_same_gate() -> None:
    ran = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in JOBS.items()}

    assert ran["all"][-1] == ".ci/run"
    assert ran["coverage"] == ["make coverage"]


def test_renovate_reads_every_lock() -> None:
    settings = json.loads((ROOT / "renovate.json").read_text())
    patterns = [pattern.strip("/") for pattern in settings["pip_requirements"]["managerFilePatterns"]]
    locks = [path.relative_to(ROOT).as_posix() for path in (ROOT / "requirements").glob("*.txt")]

    assert locks
    assert [lock for lock in locks if not any(re.search(pattern, lock) for pattern in patterns)] == []
    assert {"pip_requirements", "github-actions", "dockerfile"} <= set(settings["enabledManagers"])


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The only folder on PATH: the programs of the gate itself, a `make` that prints its target, and no package."""
    path = tmp_path / "path"
    path.mkdir()
    for name in ("bash", "dirname", "env", "mktemp", "rm"):
        (path / name).symlink_to(str(shutil.which(name)))
    stand_in(path, "make", 'echo "make $1"')
    stand_in(path, "python3", "exit 1")
    stand_in(path, "grep", "exit 1")
    return path


def stand_in(folder: Path, name: str, does: str) -> None:
    (folder / name).write_text(f"#!{shutil.which('bash')}\n{does}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def gate(path: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": str(path), "VENV": str(tmp_path / "none")}
    return subprocess.run([ROOT / ".ci/run"], capture_output=True, text=True, env=environ, check=False)


PACKAGES = ("python3-venv", "libxml2 openssl jq", "chromium")
TARGETS = ["make setup", "make check", "make test", "make test-matrix", "make audit"]


def test_the_gate_installs_what_is_missing_if_it_may(bare: Path, tmp_path: Path) -> None:
    stand_in(bare, "apt-get", 'echo "apt-get $*"')
    stand_in(bare, "sudo", 'while [[ $1 == -* ]]; do shift; done; "$@"')
    done = gate(bare, tmp_path)
    ran = [line for line in done.stdout.splitlines() if line.startswith(("apt-get", "make"))]

    installs = [f"apt-get -qq install -y --no-install-recommends {packages}" for packages in PACKAGES]
    assert [line for line in ran if line != "apt-get -qq update"] == [*installs, *TARGETS]
    assert (done.returncode, done.stderr) == (0, "")


def test_the_gate_names_what_it_may_not_install_and_goes_on(bare: Path, tmp_path: Path) -> None:
    done = gate(bare, tmp_path)

    assert [line for line in done.stdout.splitlines() if line.startswith("make")] == TARGETS
    assert done.stderr.endswith(f"Install as root: apt-get install {' '.join(PACKAGES)}\n")
