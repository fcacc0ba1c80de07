"""Finds promtool, prometheus and the like for the tests, and says what went unchecked without them."""

import os
import re
import shutil
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[1] / ".cache" / "tools" / "bin"
NEWER_SUITE = "forky"
"""The suite of Debian that has Prometheus 3 and a newer Alertmanager: everything is checked with both."""

_OF_DEBIAN = {"alertmanager": "prometheus-alertmanager"}
"""What an installed package of Debian calls a program otherwise."""

_REMEDY = "run: make tools"
_REMEDIES = {name: f"run: apt-get install {name}" for name in ("chromium", "jq")}
"""Of what `make tools` cannot bring without root."""
_SKIPPED = re.compile(rf"needs [\w-]+; {_REMEDY}")
_SKIPPED_BROWSER = re.compile(rf"needs chromium; {_REMEDIES['chromium']}")
_SKIPPED_JQ = re.compile(rf"needs jq; {_REMEDIES['jq']}")
NO_STANDBY = "needs pg_basebackup beside postgres"
NO_IPV6 = "needs an address of IPv6; run where ::1 is one"
NO_ICU = "this server has no ICU"
_SKIPPED_NEWER = re.compile(rf"needs [\w-]+ of {NEWER_SUITE}; {_REMEDY}")


def find_tool(name: str, suite: str | None = None) -> Path:
    """Find a command by its variable (`PROMTOOL=…`), on PATH or in .cache; one of another suite in .cache alone.

    Without it the test is skipped, or fails where the tools are required.  Those of another suite never are: it
    moves, and may not be had today.
    """
    if suite is not None:
        folders = [CACHE.parent / folder / "bin" for folder in (suite, f"{suite}-alertmanager")]
        if found := shutil.which(name, path=os.pathsep.join(map(str, folders))):
            return Path(found).absolute()
        pytest.skip(f"needs {name} of {suite}; {_REMEDY}")
    variable = name.upper().replace("-", "_")
    if wanted := os.environ.get(variable):
        if found := shutil.which(wanted):
            return Path(found).absolute()
        pytest.fail(f"{variable}={wanted} is not a command: correct it or unset it", pytrace=False)
    if found := shutil.which(name) or shutil.which(_OF_DEBIAN.get(name, name)) or shutil.which(name, path=CACHE):
        return Path(found).absolute()
    reason = f"needs {name}; {_REMEDIES.get(name, _REMEDY)}"
    if _is_set("CI") or _is_set("SESSION_HEALTH_REQUIRE_TOOLS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def not_checked_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the price of the skipped tests in the last lines."""
    reasons = {
        report.nodeid: report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    }
    if newer := [reason for reason in reasons.values() if _SKIPPED_NEWER.search(reason)]:
        terminalreporter.write_line(f"NOT CHECKED with Prometheus 3: {len(newer)} test(s); {_REMEDY}", yellow=True)
    if standby := [reason for reason in reasons.values() if NO_STANDBY in reason]:
        terminalreporter.write_line(f"NOT CHECKED on a replica: {len(standby)} test(s); {NO_STANDBY}", yellow=True)
    if families := [reason for reason in reasons.values() if NO_IPV6 in reason]:
        terminalreporter.write_line(f"NOT CHECKED over IPv6: {len(families)} test(s); {NO_IPV6}", yellow=True)
    if blind := [reason for reason in reasons.values() if NO_ICU in reason]:
        terminalreporter.write_line(
            f"NOT CHECKED with collations that tell no capitals: {len(blind)} test(s); {NO_ICU}: set "
            "SESSION_HEALTH_POSTGRES_BIN to one that has it",
            yellow=True,
        )
    if browser := [reason for reason in reasons.values() if _SKIPPED_BROWSER.search(reason)]:
        terminalreporter.write_line(
            f"NOT CHECKED in a browser: {len(browser)} test(s); {_REMEDIES['chromium']}", yellow=True
        )
    if looped := [reason for reason in reasons.values() if _SKIPPED_JQ.search(reason)]:
        terminalreporter.write_line(f"NOT CHECKED by jq: {len(looped)} test(s); {_REMEDIES['jq']}", yellow=True)
    if skipped := [reason for reason in reasons.values() if _SKIPPED.search(reason)]:
        terminalreporter.write_line(
            f"NOT CHECKED: {len(skipped)} test(s) need promtool, prometheus, alertmanager or pgbouncer; {_REMEDY}",
            yellow=True,
        )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in {"", "0", "false"}
