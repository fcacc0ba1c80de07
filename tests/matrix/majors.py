"""A server of every major version of PostgreSQL: a plugin, for several modules share what it starts."""

import re
from collections.abc import Generator, Iterator
from typing import Final

import pytest
from conftest import memory
from servers import MAJORS, REMEDY, binaries_of, chosen, name_of

from exporter.embedded import EmbeddedPostgres

_SKIPPED: Final = re.compile(rf"needs .+; {REMEDY}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    yield
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if _SKIPPED.search(str(report.longrepr))]
    if skipped:
        terminalreporter.write_line(f"NOT CHECKED: {len(skipped)} test(s) of the matrix; {REMEDY}", yellow=True)


@pytest.fixture(scope="session", params=chosen(MAJORS), ids=name_of)
def major(request: pytest.FixtureRequest) -> int:
    """Each test runs once for each."""
    return int(request.param)


@pytest.fixture(scope="session")
def postgres(major: int) -> Iterator[EmbeddedPostgres]:
    """The server of this major, one for the whole session."""
    with EmbeddedPostgres(binaries_of(major), directory=memory()) as started:
        yield started


@pytest.fixture(scope="session")
def postgres_templates(postgres: EmbeddedPostgres) -> dict[str, str]:
    """Names of template databases made so far on this server, by scenario."""
    del postgres
    return {}
