"""README.md as a stranger works through it: every block is run as printed, in order, on a real database."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import promql_parser
import pytest
import yaml
from conftest import Database
from processes import ANY_PORT, COMMAND, Exporter, environment, open_folder
from test_printed_commands import blocks as told
from waiting import START_SECONDS, at_most, soon

from exporter.cli import build_parser
from exporter.config.read import parse_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROGRAMS = Path(COMMAND[0]).parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ADDRESS, URL, ROLE = "localhost:10157", "postgresql://session_health:secret@db.example:5432/shop", "session_health"
PLATFORM = """
create table public.orders (id int primary key, state text not null, created_at timestamptz not null,
  paid_at timestamptz);
create table public.invoices (id int primary key, order_id int references public.orders, created_at timestamptz);
insert into public.orders
select n, case when n % 4 = 0 then 'open' else 'paid' end, now() - n * interval '1 hour',
  case when n % 4 <> 0 then now() - n * interval '1 hour' + interval '1 minute' end
from generate_series(1, 40) n;
update public.orders set paid_at = null where id = 7;
insert into public.invoices select id, id, created_at from public.orders where state = 'paid';
"""


def blocks(title: str, language: str) -> list[str]:
    """The blocks of a language in a section of the page."""
    section = README[README.index(f"## {title}\n") :].partition("\n## ")[0]
    return [text for name, text in BLOCK.findall(section) if name == language]


SEE, POINT, BELIEVE, RUN = (
    "See the exporter",
    "Point the exporter at your database",
    "Believe the numbers",
    "Run the exporter",
)


def test_every_block_is_in_a_section_that_is_run() -> None:
    known = {
        SEE: {"sh": 3, "text": 1},
        POINT: {"sh": 3, "sql": 1, "yaml": 1},
        BELIEVE: {"sh": 1, "sql": 1},
        RUN: {"sh": 1, "yaml": 1, "promql": 1},
    }
    found = {title: {name: len(blocks(title, name)) for name in languages} for title, languages in known.items()}

    assert found == known
    assert len(BLOCK.findall(README)) == sum(sum(languages.values()) for languages in known.values())


def test_a_line_to_type_has_no_prompt_and_no_comment() -> None:
    lines = [line for name, text in BLOCK.findall(README) if name == "sh" for line in text.splitlines()]

    assert [line for line in lines if re.search(r"^[$#>]| # ", line)] == []


def shell(script: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=folder,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=at_most(3 * START_SECONDS),
        check=False,
    )


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A folder in which the program is where a checkout has it."""
    with open_folder() as folder:
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(PROGRAMS)
        shutil.copy(ROOT / "config.yaml", folder)
        yield folder


async def test_the_demo_shows_the_numbers_of_the_page_and_the_commands_read_its_database(checkout: Path) -> None:
    start, metrics, commands = blocks(SEE, "sh")
    make, target, arguments = shlex.split(start)
    assert (make, target) == ("make", "demo")

    with Exporter("demo", *shlex.split(arguments.removeprefix("ARGS=")), *ANY_PORT, environ=environment()) as demo:
        assert soon(lambda: "Ctrl-C" in demo.log, START_SECONDS)
        shown = shell(metrics.replace(ADDRESS, f"127.0.0.1:{demo.port}"), checkout)
        [_, variable, *_], *_ = told(demo.log)
        done = [shell(f"{variable}\n{line}", checkout) for line in commands.splitlines()]
        assert demo.end(signal.SIGTERM, 5) == 0

    assert [shown.stdout] == blocks(SEE, "text")
    assert [(one.returncode, one.stderr) for one in done] == [(0, ""), (1, ""), (0, "")]


class Shop:
    """The platform of the page, and the page's texts with the names of this database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        parts = urlsplit(database.dsn)
        self.role = f"reader{parts.path.strip('/')}"
        self.url = urlunsplit(parts._replace(netloc=f"{self.role}:secret@{parts.netloc.rpartition('@')[2]}"))

    def here(self, text: str) -> str:
        return (
            text.replace(URL, self.url)
            .replace(f"role {ROLE}", f"role {self.role}")
            .replace(f"to {ROLE}", f"to {self.role}")
        )

    @property
    def entered(self) -> str:
        """What has been typed once: the path, and the variable."""
        return "\n".join(line for line in self.here(blocks(POINT, "sh")[0]).splitlines() if line.startswith("export "))

    def type(self, text: str) -> list[int]:
        """The exit code of each line."""
        done = [shell(f"set -e\n{self.entered}\n{line}", self.folder) for line in self.here(text).splitlines()]
        assert not [one.stderr for one in done if "Traceback" in one.stderr]
        return [one.returncode for one in done]

    async def by_hand(self) -> int:
        """The missing invoices, counted with the statement of the page."""
        [sql] = blocks(BELIEVE, "sql")
        return int(await self.database.connection.fetchval(sql))

    @contextmanager
    def served(self) -> Iterator[Exporter]:
        """As the page serves, on another port."""
        [line] = blocks(POINT, "sh")[2].splitlines()
        program, *words = shlex.split(line)
        assert program == Path(COMMAND[0]).name
        environ = environment(DATABASE_URL=self.url)
        with Exporter(*words, *ANY_PORT, cwd=self.folder, environ=environ) as it:
            yield it


@pytest.fixture
async def shop(empty: Database, checkout: Path) -> AsyncIterator[Shop]:
    shop = Shop(empty, checkout)
    await empty.execute(PLATFORM)
    for sql in blocks(POINT, "sql"):
        await empty.execute(shop.here(sql))
    yield shop
    await empty.execute(f"drop owned by {shop.role}; drop role {shop.role}")


async def test_a_database_of_yours_is_measured_by_the_steps_of_the_page(shop: Shop) -> None:
    propose, check, _ = blocks(POINT, "sh")

    assert shop.type(propose.splitlines()[-1]) == [0]
    assert "public.invoices" in (shop.folder / "shop.yaml").read_text()
    assert shop.type(check) == [0, 0]
    assert shop.type(blocks(BELIEVE, "sh")[0]) == [0, 0]
    assert shop.type(blocks(RUN, "sh")[0]) == [0]
    assert yaml.safe_load((shop.folder / "session-health-rules.yml").read_text())["groups"]
    with shop.served() as it:
        assert (await it.measured())("up") == 1


async def test_the_short_config_counts_what_is_counted_by_hand(shop: Shop) -> None:
    [text] = blocks(POINT, "yaml")
    (shop.folder / "shop.yaml").write_text(text.replace("grace: 5m", "grace: 5m\n    interval: 200ms"))
    assert shop.type(blocks(POINT, "sh")[1]) == [0, 0]

    with shop.served() as it:
        assert (await it.measured())("verdict", verdict="healthy") == await shop.by_hand() + 1 == 1

        await shop.database.execute("delete from public.invoices where order_id in (5, 6, 7)")
        page = await it.when(lambda page: page("gap_sessions", record="invoices", reason="missing"))
        assert page("gap_sessions", record="invoices", reason="missing") == await shop.by_hand() == 3
        assert page("verdict", verdict="unhealthy") == 1
        assert shop.type(blocks(BELIEVE, "sh")[0]) == [0, 1]

        await shop.database.execute(
            "insert into public.invoices select id, id, created_at from public.orders where id in (5, 6, 7)"
        )
        await it.when(lambda page: page("verdict", verdict="healthy") == 1)
        assert await shop.by_hand() == 0


def test_the_short_config_is_a_config() -> None:
    [text] = blocks(POINT, "yaml")

    assert list(parse_config(text, {"DATABASE_URL": URL}).pipelines) == ["orders"]


def test_prometheus_is_shown_the_job_and_the_rules_that_the_page_writes() -> None:
    [scrape] = [yaml.safe_load(text) for text in blocks(RUN, "yaml")]
    [write] = blocks(RUN, "sh")[0].splitlines()

    assert scrape["rule_files"] == [write.rpartition("> ")[2]]
    assert scrape["scrape_configs"][0]["job_name"] == "session-health"
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": [ADDRESS]}]
    for query in blocks(RUN, "promql")[0].splitlines():
        promql_parser.parse(query.partition("#")[0].strip())


def test_the_unit_of_the_docs_runs_a_command_that_is_there(tmp_path: Path) -> None:
    section = OPERATIONS[OPERATIONS.index("## As a service\n") : OPERATIONS.index("## In a container\n")]
    [unit] = [text for name, text in BLOCK.findall(section) if name == "ini"]
    [start] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *words = shlex.split(start)

    assert f"scripts/install-release {Path(program).parents[1]}\n" in section
    assert build_parser().parse_args(words).command.__module__ == "exporter.commands.serve"
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NOT CHECKED: needs systemd-analyze")
    file = tmp_path / "session-health-exporter.service"
    file.write_text(unit.replace(program, COMMAND[0]))
    done = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if file.name in line] == []
