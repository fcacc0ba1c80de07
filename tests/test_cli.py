"""Words -> calls: what must hold however a command ends."""

import subprocess
import sys

import pytest
from waiting import at_most

from exporter import cli
from exporter.commands import config
from exporter.text.exits import ExitCode


def test_a_fault_of_ours_is_not_taken_for_a_broken_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_options: object) -> int:
        raise RuntimeError("a value of a row")

    monkeypatch.setattr(config, "run", broken)
    monkeypatch.setattr("exporter.text.logs.configure", lambda _level, _style: None)

    assert cli.main(["config", "check"]) == ExitCode.NOT_MEASURED
    assert caplog.messages == ["command.crashed"]


@pytest.mark.parametrize("flag", ["--conf", "--config", "--log.lev"])
def test_a_flag_is_written_out(flag: str) -> None:
    with pytest.raises(SystemExit) as refused:
        cli.main(["config", "check", flag, "debug"])

    assert refused.value.code == ExitCode.USAGE


def test_a_name_that_takes_for_ever_to_look_up_holds_up_no_end() -> None:
    """Names are looked up in threads, which cannot be interrupted and are not waited for."""
    program = """
import asyncio, time
from exporter.commands.process import serve_until_stopped

async def work(stop):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    await asyncio.sleep(0.1)

serve_until_stopped(work)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=at_most(20), check=False)

    assert done.returncode == 0


def test_an_answer_that_comes_after_the_asker_gave_up_is_dropped_in_silence() -> None:
    program = """
import asyncio, time
from exporter.commands.process import serve_until_stopped

async def work(stop):
    asking = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)
    asking.cancel()
    await asyncio.sleep(0.5)

serve_until_stopped(work)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=at_most(20), check=False, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")


LOADS = """
import sys
from exporter.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
names = {name.split(".")[0] for name in sys.modules}
sys.stderr.write(" ".join(sorted(names)))
"""


def loaded(*words: str) -> set[str]:
    """The packages that a command has loaded when it has said its help."""
    done = subprocess.run(
        [sys.executable, "-c", LOADS, *words], timeout=at_most(60), check=True, capture_output=True, text=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_a_short_answer_loads_no_package_of_others(words: list[str]) -> None:
    assert loaded(*words).isdisjoint({"pydantic", "asyncpg", "yaml", "aiohttp", "jinja2", "asyncio"})


HEAVY = {"aiohttp", "jinja2", "prometheus_client", "rich", "grafana_foundation_sdk"}


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name not in ("serve", "demo")])
def test_a_command_loads_nothing_that_only_another_needs(command: str) -> None:
    """Each of these takes a tenth to a third of the time in which all else is loaded."""
    assert loaded(command, "--help") & HEAVY == set()


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_server_loads_no_passwords_before_it_has_some(command: str) -> None:
    assert "bcrypt" not in loaded(command, "--help")
