"""The forks that stand for commands do what a new process does."""

import pytest
from conftest import TOUR
from processes import run

DEAD = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("check", "--help"),
        ("check", "--colour"),
        ("check", "--config.file", str(TOUR)),
        ("gaps", "--config.file", "not-there.yaml"),
        ("config", "check", "--config.file", str(TOUR)),
        ("rules", "--format", "operator"),
    ],
    ids=" ".join,
)
def test_a_fork_prints_and_ends_as_a_new_process(arguments: tuple[str, ...]) -> None:
    fork = run(*arguments, DATABASE_URL=DEAD)
    new = run(*arguments, DATABASE_URL=DEAD, PYTHONHASHSEED="0")

    assert (fork.returncode, fork.stderr) == (new.returncode, new.stderr)
    assert fork.stdout == new.stdout
