"""Which versions of PostgreSQL there are here, and how to change the settings of a running server."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

import asyncpg
import pytest
from waiting import at_most

from exporter.embedded import Binaries, EmbeddedPostgres, EmbeddedPostgresError, find_binaries

CACHE: Final = Path(__file__).parents[2] / ".cache" / "pg"
FETCHED: Final = (14, 15, 16, 17)
"""Built with TLS."""
MAJORS: Final = (*FETCHED, 18)
"""The last is the wheel of the ordinary tests, built without TLS."""
CHOICE: Final = os.environ.get("SESSION_HEALTH_MATRIX", "").split()
"""The majors that are asked for, as in `make test-matrix PG="14 15"`; empty for all."""

REMEDY: Final = "run: make test-matrix"


def chosen(majors: tuple[int, ...]) -> list[int]:
    return [major for major in majors if not CHOICE or str(major) in CHOICE]


def name_of(major: int) -> str:
    return f"pg{major}"


def lacking(what: str) -> NoReturn:
    """Skip the test, loudly, or fail it where nothing may be skipped."""
    reason = f"needs {what}; {REMEDY}"
    wishes = (os.environ.get(name, "") for name in ("CI", "SESSION_HEALTH_REQUIRE_TOOLS"))
    if any(wish.lower() not in {"", "0", "false"} for wish in wishes):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def binaries_of(major: int) -> Binaries:
    """The programs of a major version; skips or fails without them."""
    with suppress(EmbeddedPostgresError):
        # Not from the environment: whatever it names, this test is about one version.
        return find_binaries(CACHE / str(major) / "bin" if major in FETCHED else None, environ={})
    lacking(f"PostgreSQL {major}")


@asynccontextmanager
async def settings(server: EmbeddedPostgres, hba: str = "", **values: str) -> AsyncIterator[None]:
    """Other settings of a running server, and lines in front of its pg_hba.conf; taken back at the end."""
    file = server.data_directory / "pg_hba.conf"
    lines = file.read_text()
    admin = await asyncpg.connect(server.dsn())
    try:
        file.write_text(f"{hba}\n{lines}")
        for name, value in values.items():
            await admin.execute(f"alter system set {name} = '{value}'")
        await _reload(server, admin)
        yield
    finally:
        file.write_text(lines)
        for name in values:
            await admin.execute(f"alter system reset {name}")
        await _reload(server, admin)
        await admin.close()


async def _reload(server: EmbeddedPostgres, admin: asyncpg.Connection) -> None:
    """Return when new connections are under the new settings."""
    before = await admin.fetchval("select pg_conf_load_time()")
    await admin.execute("select pg_reload_conf()")
    async with asyncio.timeout(at_most(5)):
        loaded = before
        while loaded == before:
            connection = await asyncpg.connect(server.dsn())
            loaded = await connection.fetchval("select pg_conf_load_time()")
            await connection.close()
