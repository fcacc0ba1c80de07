"""A real PostgreSQL for every test: one server, one database each."""

import asyncio
import itertools
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from table import fault_table
from tools import not_checked_summary

from exporter.config.read import parse_config
from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.model.sections import Config, Pipeline
from exporter.plan.plan import Plan, compile_plan
from exporter.state.snapshot import Snapshot

TOUR = Path(__file__).parent.parent / "config.yaml"
SERVED = TOUR.read_text(encoding="utf-8").replace("# allow_superuser: false", "allow_superuser: true")
"""The tour, for a process that stays and is given the url of a superuser."""

ROOM = 4 << 30
"""Bytes that the servers of all workers fit into."""

_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    yield
    fault_table(terminalreporter)
    not_checked_summary(terminalreporter)


def another_clock(body: str, language: str = "sql") -> str:
    """SQL that puts another clock into the place of a database's own, for a superuser; one after the other, too.

    Its own goes on as `real_clock_timestamp`.  The catalog itself is changed, which each database has for itself: a
    schema before it on the search_path is overlooked by whoever pins the path or names the schema.
    https://www.postgresql.org/docs/current/runtime-config-developer.html#GUC-ALLOW-SYSTEM-TABLE-MODS
    """
    return f"""
    set allow_system_table_mods = on;
    do $rename$ begin
      if to_regproc('pg_catalog.real_clock_timestamp') is null then
        alter function pg_catalog.clock_timestamp() rename to real_clock_timestamp;
      end if;
    end $rename$;
    create or replace function pg_catalog.clock_timestamp() returns timestamptz language {language} as $$ {body} $$;
    reset allow_system_table_mods;
    """


@dataclass(frozen=True)
class Database:
    """An empty database, or the sample platform in one of its states; `connection` is a superuser's."""

    dsn: str
    connection: asyncpg.Connection

    async def execute(self, sql: str, *arguments: object) -> None:
        await self.connection.execute(sql, *arguments)

    async def set(self, name: str, value: str) -> None:
        """A default of this database, for every connection from now on."""
        database = await self.connection.fetchval("select quote_ident(current_database())")
        await self.execute(f"alter database {database} set {name} = {value}")

    async def stop_clock(self, moment: str) -> None:
        """Every collection from now on happens at `moment`: the clock of this database stands."""
        await self.execute(another_clock(f"select timestamptz '{moment}'"))

    def plan(self, text: str | None = None, pipeline: str | None = None) -> Plan:
        """The plan of a config (default: the tour) on this database."""
        return plan_of(text or TOUR.read_text(), self.dsn, pipeline)

    def config(self, text: str) -> Config:
        """A config for this database."""
        return parse_config(text, {"DATABASE_URL": self.dsn})

    async def measure(self, text: str | None = None, pipeline: str | None = None) -> "Numbers":
        """Collect once."""
        return Numbers(await collect(self.plan(text, pipeline)))


def whole_tour(**values: str) -> str:
    """The tour with every key and limit of a dimension, also those that it has in comments.

    `values` replace some: `deleted="status = 'deleted'"`.
    """
    # The sample platform has no tenants.
    values = {"segment": "{columns: [status], top: 3}", **values}
    names = [key.name for d in DIMENSIONS for key in d.keys] + [limit.name for d in DIMENSIONS for limit in d.limits]
    text = re.sub(rf"^( +)# ((?:{'|'.join(names)}): )", r"\1\2", TOUR.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for key, value in values.items():
        lines = [line for line in text.splitlines() if line.lstrip().startswith(f"{key}: ")]
        assert len(lines) == 1, f"the tour has {len(lines)} keys {key}"
        text = text.replace(lines[0], f"{lines[0][: lines[0].index(key)]}{key}: {value}")
    return text


def plan_of(text: str, dsn: str, pipeline: str | None = None) -> Plan:
    config = parse_config(text, {"DATABASE_URL": dsn})
    name = pipeline or next(iter(config.pipelines))
    return compile_plan(config, config.pipelines[name], DIMENSIONS)


def a_pipeline(name: str = "assessments", *records: str, **changes: object) -> Pipeline:
    """The config of a pipeline with these records (default: profiles), which nobody measures."""
    lines = "".join(f"      {record}: {{table: t, session_key: session_id}}\n" for record in records or ("profiles",))
    text = (
        "database: {url: postgresql://nowhere}\npipelines:\n  it:\n    window: {since: 2025-08-01}\n"
        "    sessions: {table: s, key: id, status: status, started_at: a, completed_at: b, eligible: 'true'}\n"
        f"    records:\n{lines}"
    )
    return plan_of(text, "").pipeline.model_copy(update={"name": name, **changes})


def care(
    *lines: str,
    window: str = "{since: 2025-01-01}",
    eligible: str = "done",
    database: str = "",
    collection: str = "",
    limits: str = "",
    **records: str,
) -> str:
    """The config of one pipeline, `care`: its visits, and for each record table the keys beside table and session key.

    `lines` are more lines of the pipeline, `database` more keys of the database.
    """
    sessions = (
        "table: visits, key: id, status: status, started_at: started_at, completed_at: completed_at,\n      "
        f"eligible: {eligible}"
    )
    body = [f"window: {window}", *lines, f"sessions: {{{sessions}}}", *_tables("", "visit_id", records)]
    return _one_pipeline("care", [*body, *([f"limits: {limits}"] if limits else [])], database, collection)


def of_orders(
    *lines: str,
    eligible: str = '"true"',
    database: str = "",
    key: str = "order_id",
    **records: str,
) -> str:
    """The same of a pipeline `shop`, whose orders start and complete at one time."""
    sessions = f"table: public.orders, key: id, status: status, started_at: at, completed_at: at, eligible: {eligible}"
    body = ["window: {since: 2025-01-01}", *lines, f"sessions: {{{sessions}}}", *_tables("public.", key, records)]
    return _one_pipeline("shop", body, database)


def _tables(schema: str, session_key: str, records: Mapping[str, str]) -> list[str]:
    return [
        "records:",
        *(
            f"  {name}: {{table: {schema}{name}, session_key: {session_key}{keys and ', '}{keys}}}"
            for name, keys in records.items()
        ),
    ]


def _one_pipeline(name: str, body: Iterable[str], database: str, collection: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in body)
    top = f'\ndatabase: {{url: "${{DATABASE_URL}}"{database and ", "}{database}}}\n'
    labels = f"collection: {collection}\n" if collection else ""
    return f"{top}{labels}pipelines:\n  {name}:\n{lines}"


@dataclass(frozen=True)
class Beginning:
    """What the fixture `visits` of a module has before each test: its `BEGINNING`."""

    sql: str
    clock: str | None = None
    timezone: str | None = None


class Numbers:
    """The samples of a snapshot: `numbers("gap_sessions", "profiles", "missing")`; None where there is none."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._samples = snapshot.readings.numbers

    def __call__(self, metric: str, *labels: str) -> float | None:
        return self._samples.get((metric, *labels))

    def family(self, metric: str) -> dict[tuple[str, ...], float]:
        """Labels and values of one metric."""
        return {key[1:]: value for key, value in self._samples.items() if key[0] == metric}

    def positive(self, metric: str) -> dict[tuple[str, ...], float]:
        """The same without the zeros."""
        return {labels: value for labels, value in self.family(metric).items() if value}


class NamedServer(EmbeddedPostgres):
    """A server of yours, neither started nor stopped: `url` is a superuser's, named in the environment."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = urlsplit(url)
        self.host, self.port = self._url.hostname or "127.0.0.1", self._url.port or 5432

    def dsn(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        who = self._url.netloc.rpartition("@")[0] if user is None else f"{user}:{password or ''}"
        return urlunsplit(self._url._replace(netloc=f"{who}@{self.host}:{self.port}", path=f"/{database}"))

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"needs the {name} of a server of our own")

    def start(self) -> None: ...

    def stop(self) -> None: ...


def memory() -> Path | None:
    """Where files are kept in memory, and a database is made in a quarter of the time; None where there is no room."""
    place = Path("/dev/shm")  # noqa: S108 - each server makes a folder of its own in it
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    has_room = found.f_bavail * found.f_frsize > ROOM
    return place if has_room and os.access(place, os.W_OK) and not found.f_flag & os.ST_NOEXEC else None


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """The server of SESSION_HEALTH_POSTGRES_URL, else an embedded one (see SESSION_HEALTH_POSTGRES_BIN)."""
    url = os.environ.get("SESSION_HEALTH_POSTGRES_URL")
    with NamedServer(url) if url else EmbeddedPostgres(directory=memory()) as chosen:
        yield chosen


@pytest.fixture(scope="session")
def templates(server: EmbeddedPostgres) -> Iterator[dict[str, str]]:
    """Names of template databases made so far, by scenario."""
    made: dict[str, str] = {}
    yield made
    for name in made.values():
        asyncio.run(_drop(server, name))


async def _drop(server: EmbeddedPostgres, name: str) -> None:
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


NewDatabase = Callable[[str | None], Awaitable[Database]]


@pytest.fixture
async def new_database(server: EmbeddedPostgres, templates: dict[str, str]) -> AsyncIterator[NewDatabase]:
    """A maker of databases in the state of a scenario; "tables" has no rows, None no tables."""
    admin = await asyncpg.connect(server.dsn())
    opened: list[tuple[str, asyncpg.Connection]] = []
    # Copying files takes a third of the time where nothing waits for the disk; older versions know no other.
    strategy = "strategy file_copy" if admin.get_server_version().major >= 15 else ""

    async def make(scenario: str | None) -> Database:
        if scenario is not None and scenario not in templates:
            name = f"template_{os.getpid()}_{scenario}"
            await admin.execute(f'create database "{name}"')
            connection = await asyncpg.connect(server.dsn(name))
            await connection.execute(SCHEMA)
            if scenario != "tables":
                await connection.execute(SCENARIOS[scenario].sql)
            await connection.close()
            templates[scenario] = name
        name = f"test_{os.getpid()}_{next(_numbers)}"
        template = f'template "{templates[scenario]}"' if scenario else ""
        await admin.execute(f'create database "{name}" {template} {strategy}')
        connection = await asyncpg.connect(server.dsn(name))
        opened.append((name, connection))
        return Database(server.dsn(name), connection)

    yield make
    for name, connection in opened:
        await connection.close(timeout=5)
        await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture
async def empty(new_database: NewDatabase) -> Database:
    """A database without tables."""
    return await new_database(None)


@pytest.fixture
async def tables(new_database: NewDatabase) -> Database:
    """The tables of the sample platform, without rows."""
    return await new_database("tables")


@pytest.fixture
async def healthy(new_database: NewDatabase) -> Database:
    return await new_database("healthy")


@pytest.fixture
async def backfill(new_database: NewDatabase) -> Database:
    return await new_database("backfill")


@pytest.fixture
async def unhandled() -> list[object]:
    """The errors that the event loop reports because nothing has taken them."""
    found: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: found.append(context["message"]))
    return found


@pytest.fixture
async def visits(request: pytest.FixtureRequest, empty: Database) -> Database:
    """A database with what the module of the test begins with: its `BEGINNING`."""
    beginning: Beginning = sys.modules[request.function.__module__].BEGINNING
    await empty.execute(beginning.sql)
    if beginning.clock:
        await empty.stop_clock(beginning.clock)
    if beginning.timezone:
        await empty.set("timezone", f"'{beginning.timezone}'")
    return empty
