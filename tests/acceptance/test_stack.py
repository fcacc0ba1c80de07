"""`make stack`: everything side by side, as whoever tries it sees it."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alertmanager import Alertmanager
from processes import Exporter, content, environment, family, nothing_left, open_folder, processes
from prometheus import Prometheus
from tools import find_tool
from waiting import at_most, soon

pytestmark = pytest.mark.prometheus

ROOT = Path(__file__).parents[2]
STACK = (sys.executable, str(ROOT / "scripts" / "stack"))
PARTS = ("exporter", "prometheus", "alertmanager")

START_SECONDS = 40.0
"""How long all of it may take until it says where to look; usually four seconds."""
STOP_SECONDS = 10.0
"""How long it may take to end; usually two seconds."""


@pytest.fixture
def place() -> Iterator[Path]:
    find_tool("prometheus")
    find_tool("alertmanager")
    with open_folder() as folder:
        yield folder


@pytest.fixture
def ports() -> dict[str, int]:
    with ExitStack() as probes:
        taken = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PARTS]
        return {part: probe.getsockname()[1] for part, probe in zip(PARTS, taken, strict=True)}


def stack(place: Path, ports: dict[str, int], *arguments: str, **environ: str) -> Exporter:
    """A stack whose temporary files are all in `place`."""
    flags = [f"--{part}-port={port}" for part, port in ports.items()]
    return Exporter(*flags, *arguments, command=STACK, environ=environment(TMPDIR=str(place), **environ))


def test_it_shows_every_part_at_work_and_ctrl_c_leaves_nothing(place: Path, ports: dict[str, int]) -> None:
    with stack(place, ports, "--interval=1s", "--scenario=drift", "--live") as it:
        assert soon(lambda: "Ctrl-C" in it.log or it.process.poll() is not None, START_SECONDS)
        pids = family(it.process.pid)
        for port in ports.values():
            assert f"http://127.0.0.1:{port}/" in it.log
        ask = Prometheus(ports["prometheus"], place)
        assert soon(lambda: ask('session_health_drifted_records{job="session-health", record="profiles"} > 0'), 10)
        assert ask('up{job="session-health"}', "instance") == {(f"127.0.0.1:{ports['exporter']}",): 1}
        assert ask.api("alertmanagers")["activeAlertmanagers"] == [
            {"url": f"http://127.0.0.1:{ports['alertmanager']}/api/v2/alerts"}
        ]
        # The shortest way through all of it: what always fires is told at once.
        assert soon(lambda: "ALIVE" in it.log, 20)
        [line] = [line for line in it.log.splitlines() if "ALIVE" in line]
        assert "SessionHealthWatchdog" in line
        assert Alertmanager(ports["alertmanager"], place).alerts(alertname="SessionHealthWatchdog")

        assert it.end(signal.SIGINT, STOP_SECONDS) == 0

        assert nothing_left(pids, place)
        assert it.log.endswith("stopped; nothing is left behind\n")
        assert "Traceback" not in it.log


@pytest.mark.parametrize("part", ["exporter", "prometheus"])
def test_the_end_of_any_part_is_said_and_ends_all(place: Path, ports: dict[str, int], part: str) -> None:
    with stack(place, ports) as it:
        assert soon(lambda: "Ctrl-C" in it.log or it.process.poll() is not None, START_SECONDS)
        pids = family(it.process.pid)
        [victim] = [pid for pid in pids if f"--web.listen-address=127.0.0.1:{ports[part]}" in processes()[pid][1]]

        os.kill(victim, signal.SIGKILL)

        assert it.process.wait(at_most(STOP_SECONDS)) == 3
        assert f"{part} has ended" in it.log
        assert "Traceback" not in it.log
        assert soon(lambda: nothing_left(pids, place))


def test_a_signal_while_it_starts_ends_it_too(place: Path, ports: dict[str, int]) -> None:
    with stack(place, ports) as it:
        assert soon(lambda: "starting" in it.log, START_SECONDS)
        pids = family(it.process.pid)
        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0
        assert soon(lambda: nothing_left(pids, place))
        assert "Traceback" not in it.log


def test_what_is_in_the_way_is_said_all_at_once_with_the_remedy(place: Path, ports: dict[str, int]) -> None:
    with socket.create_server(("127.0.0.1", ports["prometheus"])):
        with stack(place, ports, ALERTMANAGER="/nowhere/alertmanager") as it:
            assert it.process.wait(at_most(START_SECONDS)) == 2
            missing, taken = it.log.splitlines()
            assert missing == "alertmanager is missing: run `make tools`, or name the program in ALERTMANAGER="
            assert taken.startswith(f"prometheus cannot listen on 127.0.0.1:{ports['prometheus']} (")
            assert taken.endswith("): choose another with --prometheus-port")
        assert not content(place)
