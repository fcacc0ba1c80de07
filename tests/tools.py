"""Finds promtool and prometheus for the tests, and says what went unchecked without them."""

import os
import re
import shutil
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[1] / ".cache" / "tools" / "bin"
_REMEDY = "run: make tools"
_SKIPPED = re.compile(rf"needs [\w-]+; {_REMEDY}")


def find_tool(name: str) -> Path:
    """Find a command by its variable (`PROMTOOL=…`), on PATH or in .cache.

    Without it the test is skipped, or fails where the tools are required.
    """
    variable = name.upper().replace("-", "_")
    if wanted := os.environ.get(variable):
        if found := shutil.which(wanted):
            return Path(found).absolute()
        pytest.fail(f"{variable}={wanted} is not a command: correct it or unset it", pytrace=False)
    if found := shutil.which(name) or shutil.which(name, path=CACHE):
        return Path(found).absolute()
    reason = f"needs {name}; {_REMEDY}"
    if _is_set("CI") or _is_set("SESSION_HEALTH_REQUIRE_TOOLS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def not_checked_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the price of the skipped tests in one last line."""
    skipped = {
        report.nodeid
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and _SKIPPED.search(report.longrepr[2])
    }
    if skipped:
        terminalreporter.write_line(
            f"NOT CHECKED: {len(skipped)} test(s) need promtool, prometheus or pgbouncer; {_REMEDY}",
            yellow=True,
        )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in {"", "0", "false"}
