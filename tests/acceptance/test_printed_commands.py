"""What the page, the report and the demo tell people to type works as they print it, for this config and no other."""

import html
import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import SERVED, Database
from processes import ANY_PORT, COMMAND, Exporter, environment, open_folder, run
from waiting import START_SECONDS, at_most, soon

import exporter

CODES = {"gaps": 0, "list": 0, "check": 1, "report": 0, "queries": 0, "curl": 0, "config": 3, "init": 0}
"""How each ends while there are gaps; `config check --connect` is asked for where something is not measured."""

NOT_INSTALLED = "/usr/local/bin:/usr/bin:/bin"
"""Where shells look before anybody says that the program is in a virtual environment."""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder where there is nothing; the one above has a config of a name that a shell would break up."""
    with open_folder() as folder:
        (folder / "it's a place").mkdir()
        (folder / "it's a place" / "my config.yaml").write_text(SERVED, encoding="utf-8")
        (folder / "elsewhere").mkdir()
        yield folder / "elsewhere"


def config_of(elsewhere: Path) -> Path:
    return elsewhere.parent / "it's a place" / "my config.yaml"


def typed(command: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """As somebody does who copies a line into a shell."""
    path = f"{Path(COMMAND[0]).parent}:{environment()['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**({"PATH": path} | environ)),
        timeout=at_most(START_SECONDS),
        check=False,
    )


def assert_works(commands: list[str], folder: Path, **environ: str) -> None:
    assert commands
    for command in dict.fromkeys(commands):
        done = typed(command, folder, **environ)
        name = shlex.split(command)[1] if command.startswith("session-health") else command.split()[0]
        assert done.returncode == CODES[name], (command, done.stdout, done.stderr)


def in_markdown(text: str) -> list[str]:
    return re.findall(r"`(session-health-exporter [^`]+)`", text)


def in_html(text: str) -> list[str]:
    words = re.sub(r"</?span>", "", text)
    return [html.unescape(found) for found in re.findall(r"<code>(session-health-exporter [^<]+)</code>", words)]


def in_json(text: str) -> list[str]:
    return [action["command"] for pipeline in json.loads(text)["pipelines"] for action in pipeline["actions"]]


READ = {"markdown": in_markdown, "html": in_html, "json": in_json}


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("spoil", ["select", "drop table fc_scores", "update fc_scores set version = 'v1.0'"])
async def test_a_report_prints_commands_that_work_from_any_folder(
    backfill: Database, elsewhere: Path, form: str, spoil: str
) -> None:
    await backfill.execute(spoil)
    config = config_of(elsewhere)
    text = run("report", "--config.file", str(config), "--format", form, DATABASE_URL=backfill.dsn).stdout

    commands = READ[form](text)

    assert all(shlex.split(command)[-1] == str(config) for command in commands)
    assert_works(commands, elsewhere, DATABASE_URL=backfill.dsn)


async def test_the_page_prints_commands_that_work_beside_its_config_and_tells_no_path(
    backfill: Database, elsewhere: Path
) -> None:
    config = config_of(elsewhere)
    arguments = ("serve", *ANY_PORT, "--config.file", str(config))
    with Exporter(*arguments, environ=environment(DATABASE_URL=backfill.dsn)) as exporter:
        assert soon(lambda: exporter.get("/-/ready").status == 200, START_SECONDS)
        told = {path: exporter.get(path).text for path in ("/", "/report.html", "/report.md", "/report.json")}

    assert not [path for path, text in told.items() if str(config.parent) in html.unescape(text)]
    assert "in the folder of the config file" in told["/"]
    for path, text in told.items():
        read = READ.get({"md": "markdown", "json": "json"}.get(path.rpartition(".")[2], "html"), in_html)
        assert_works(read(text), config.parent, DATABASE_URL=backfill.dsn)


def blocks(log: str) -> list[list[str]]:
    """The lines to type in each block that a demo prints."""
    last = log[log.index("\n  page ") :]
    found = ([line.strip() for line in block.splitlines() if line.startswith("    ")] for block in last.split("\n\n"))
    return [lines for lines in found if lines]


@pytest.mark.parametrize("own_server", [False, True])
@pytest.mark.parametrize("config", ["tour", "own"])
async def test_every_line_that_the_demo_says_to_type_works_while_it_runs(
    backfill: Database, elsewhere: Path, own_server: bool, config: str
) -> None:
    place = elsewhere.parent / "temporary"
    place.mkdir()
    url = ("--postgres.url", backfill.dsn) if own_server else ()
    words = ("--config.file", str(config_of(elsewhere))) if config == "own" else ()
    environ = environment(TMPDIR=str(place), PATH=NOT_INSTALLED)
    with Exporter("demo", "--scenario", "backfill", *ANY_PORT, *url, *words, environ=environ) as demo:
        assert soon(lambda: "Ctrl-C" in demo.log, START_SECONDS)
        [enter, variable, *commands], [reach], [again, own] = blocks(demo.log)
        begin = f"{enter} && {variable}"

        names = [shlex.split(command)[1] for command in commands]
        assert names == ["check", "gaps", "report", "gaps", "queries", "-s"]
        assert [command for command in commands if "--worklist" in command]
        for name, command in zip(names, commands, strict=True):
            done = typed(f"{begin} && {command}", elsewhere, PATH=NOT_INSTALLED)
            assert done.returncode == CODES.get(name, 0), (command, done.stdout, done.stderr)
        for command in dict.fromkeys(in_html(demo.get("/").text)):
            done = typed(f"{begin} && {reach} && {command}", elsewhere, PATH=NOT_INSTALLED)
            assert done.returncode == CODES[shlex.split(command)[1]], (command, done.stdout, done.stderr)
        assert typed(f"{enter} && {own}", elsewhere, PATH=NOT_INSTALLED).returncode == 0
        assert typed(f"{enter} && {again} --help", elsewhere, PATH=NOT_INSTALLED).returncode == 0

        [database] = [line.strip() for line in demo.log.splitlines() if line.startswith("  database ")]
        sample = urlsplit(backfill.dsn if own_server else "")
        assert re.fullmatch(
            rf"database +\w+ on {sample.hostname or '127.0.0.1'}, port {sample.port or '[0-9]+'}", database
        )
        assert not sample.password or sample.password not in demo.log
        assert demo.end(signal.SIGTERM, 5) == 0

    assert list(place.iterdir()) == []


async def test_a_checkout_names_its_program_from_its_own_folder() -> None:
    checkout = Path(exporter.__file__).parents[1]
    environ = environment(PATH=NOT_INSTALLED)
    with Exporter("demo", *ANY_PORT, environ=environ) as demo:
        assert soon(lambda: "Ctrl-C" in demo.log, START_SECONDS)
        [enter, _, *commands], *_ = blocks(demo.log)

    program = Path(COMMAND[0])
    inside = program.is_relative_to(checkout)
    assert enter == shlex.join(["cd", str(checkout)])
    assert commands[1] == f"{program.relative_to(checkout) if inside else program} gaps"


def next_of(done: subprocess.CompletedProcess[str]) -> str:
    """The command that a line says to type next."""
    [line] = [line for line in done.stderr.splitlines() if line.startswith("next: ")]
    return line[line.index("session-health-exporter ") :]


async def test_what_a_worklist_says_to_type_next_works_from_any_folder(backfill: Database, elsewhere: Path) -> None:
    config, environ = config_of(elsewhere), {"DATABASE_URL": backfill.dsn}
    relative = "gaps --worklist '-my list' --config.file 'my config.yaml'"
    made = typed(f"session-health-exporter {relative}", config.parent, **environ)

    verified = typed(f"{next_of(made)} --still 'the rest'", elsewhere, **environ)
    again = typed(next_of(verified), config.parent, **environ)

    assert verified.returncode == again.returncode == 1
    assert all("0 of 39 sessions fixed" in done.stdout for done in (verified, again))


async def test_what_a_verification_says_of_another_config_is_typed_as_it_says(
    backfill: Database, elsewhere: Path
) -> None:
    config, environ = config_of(elsewhere), {"DATABASE_URL": backfill.dsn}
    made = typed(
        "session-health-exporter gaps --worklist list --config.file 'my config.yaml'", config.parent, **environ
    )
    config.write_text(config.read_text().replace("grace: 5m", "grace: 6m").replace("> 0", "> 1"))

    refused = typed(next_of(made), elsewhere, **environ)
    allowed = typed(f"{next_of(made)} {refused.stderr.rpartition(' add ')[2].strip()}", elsewhere, **environ)

    assert "--allow-changed grace --allow-changed sessions.eligible" in refused.stderr
    assert "verify with the earlier config" not in allowed.stderr
    assert "and allowed: grace, sessions.eligible" in allowed.stderr


async def test_what_a_proposal_says_to_type_next_works_from_any_folder(healthy: Database, elsewhere: Path) -> None:
    place, environ = config_of(elsewhere).parent, {"DATABASE_URL": healthy.dsn}
    made = typed(
        "session-health-exporter init --sessions assessment_sessions --output 'a new one.yaml'", place, **environ
    )

    done = typed(next_of(made), elsewhere, **environ)

    assert "connected" in done.stdout, done.stderr
