"""The time limits of the tests: from one place, and longer on a busy machine."""

import os
import re
from pathlib import Path

import pytest
from waiting import VARIABLE, at_most

TESTS = Path(__file__).parent
FIXED = re.compile(
    r"(?:asyncio\.timeout|process\.wait|communicate|settimeout)\((?:timeout=)?\d|[,\s]timeout=\d+\b[^.]*check="
)


@pytest.mark.parametrize(
    ("environ", "load", "factor"),
    [
        ({}, 0.0, 1),
        ({"CI": "false"}, 0.5, 1),
        ({}, 2.0, 2),
        ({"CI": "true"}, 2.0, 3),
        ({"CI": "true"}, 4.0, 4),
        ({}, 99.0, 5),
        ({VARIABLE: "12", "CI": "true"}, 99.0, 12),
    ],
)
def test_a_limit_grows_with_the_load_unless_the_environment_names_a_factor(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], load: float, factor: float
) -> None:
    """`load` is for each core."""
    for name in ("CI", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "getloadavg", lambda: (load * (os.cpu_count() or 1), 0.0, 0.0))

    assert at_most(10) == pytest.approx(10 * factor)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.name)
def test_no_test_has_a_fixed_limit(path: Path) -> None:
    assert FIXED.findall(path.read_text(encoding="utf-8")) == []
