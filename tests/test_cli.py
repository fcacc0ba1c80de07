"""Words -> calls: what must hold however a command ends."""

import subprocess
import sys

import pytest

from exporter import cli


def test_a_fault_of_ours_is_not_taken_for_a_broken_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_options: object) -> int:
        raise RuntimeError("a value of a row")

    monkeypatch.setattr(cli, "_config_check", broken)
    monkeypatch.setattr("exporter.logs.configure", lambda _level, _style: None)

    assert cli.main(["config", "check"]) == cli.NOT_MEASURED
    assert caplog.messages == ["command.crashed"]


@pytest.mark.parametrize("flag", ["--conf", "--config", "--log.lev"])
def test_a_flag_is_written_out(flag: str) -> None:
    with pytest.raises(SystemExit) as refused:
        cli.main(["config", "check", flag, "debug"])

    assert refused.value.code == cli.USAGE


def test_a_name_that_takes_for_ever_to_look_up_holds_up_no_end() -> None:
    """Names are looked up in threads, which cannot be interrupted and are not waited for."""
    program = """
import asyncio, time
from exporter.cli import _run

async def work(stop):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    await asyncio.sleep(0.1)

raise SystemExit(_run(work))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)

    assert done.returncode == 0


def test_an_answer_that_comes_after_the_asker_gave_up_is_dropped_in_silence() -> None:
    program = """
import asyncio, time
from exporter.cli import _run

async def work(stop):
    asking = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)
    asking.cancel()
    await asyncio.sleep(0.5)

raise SystemExit(_run(work))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=False, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")


def test_no_command_waits_for_what_others_need() -> None:
    """Each of these takes a tenth to a third of the time in which all else is loaded."""
    program = "import sys, exporter.cli; print({'aiohttp', 'jinja2', 'prometheus_client', 'rich'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"
