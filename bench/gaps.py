"""How much memory `gaps`, its worklist, `verify` and `list` take for few and for many gaps, and how long.

    make bench-gaps                          # 10,000 and 1,000,000 gaps
    make bench-gaps ARGS="--many 3000000"

A private PostgreSQL holds nothing but gaps; each command runs as a process of its own, whose peak memory the system
tells (Linux).  The ratio is what to quote.  Of `verify` it is told from one portion of keys on: `verify.PORTION`.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from exporter.demo.scenarios import SCHEMA
from exporter.embedded import EmbeddedPostgres
from exporter.mend.verify import PORTION

TOUR = Path(__file__).parent.parent / "config.yaml"

LISTED = {
    "csv": ("gaps", "--format", "csv"),
    "ndjson": ("gaps", "--format", "ndjson"),
    "json": ("gaps", "--format", "json"),
    "list": ("list", "failed_checks", "--check", "finalized"),
}
"""What is timed."""

LOAD = """
insert into assessment_sessions
select gen_random_uuid(), 'completed', started, started + interval '20 minutes', null, 240
from (
  select timestamptz '2025-09-01' + random() * interval '30 days' as started from generate_series(1, $1)
) s
"""


@dataclass(frozen=True)
class Run:
    """Peak memory in kB, seconds until the first line and until the last one, and how many lines there were."""

    peak: int
    first: float
    whole: float
    lines: int


def listed(dsn: str, *arguments: str) -> Run:
    """Run the command to its end."""
    command = [sys.executable, "-m", "exporter", *arguments, "--config.file", str(TOUR)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "DATABASE_URL": dsn}) as process:
        output = process.stdout or sys.exit("no output")
        lines = output.read(1).count(b"\n")
        first = time.perf_counter() - began
        # It has read all there is, and waits for us: a pipe holds less than the list.
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        while piece := output.read(1 << 20):
            lines += piece.count(b"\n")
        whole = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{arguments[0]} ended with {process.returncode}")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return Run(int(peak), first, whole, lines)


def seconds_and_peak(dsn: str, *arguments: str) -> tuple[float, int]:
    """Run a command to its end: how long it took, and its peak memory in kB."""
    command = [sys.executable, "-m", "exporter", *arguments, "--config.file", str(TOUR)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "DATABASE_URL": dsn})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"{arguments[0]} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss


def worklists(dsn: str, sessions: int, folder: Path) -> dict[str, int]:
    """Write a worklist and verify it; the peak memory of each."""
    path = folder / f"{sessions}.jsonl"
    peaks = {}
    for what, arguments in (("worklist", ("gaps", "--worklist", str(path))), ("verify", ("verify", str(path)))):
        seconds, peaks[what] = seconds_and_peak(dsn, *arguments)
        sys.stdout.write(f"{sessions:>10,}{what:>10}{seconds:>29.1f} s{peaks[what] / 1024:>11.1f} MB\n")
    sys.stdout.write(f"{'':>10}{path.stat().st_size / 1e6:>10.0f} MB of file\n")
    return peaks


async def load(dsn: str, sessions: int) -> None:
    """Make the tables anew, with so many sessions without any record."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.execute(SCHEMA)
    await connection.execute(LOAD, sessions)
    await connection.execute("vacuum analyze")
    await connection.close()


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    options = parser.parse_args()
    say = sys.stdout.write
    with EmbeddedPostgres() as server, TemporaryDirectory() as folder:
        say(f"{'gaps':>10}{'what':>10}{'lines':>11}{'first line':>12}{'whole':>8}{'peak memory':>14}\n")
        peaks: dict[str, list[int]] = {}
        for sessions in (options.few, PORTION, options.many):
            asyncio.run(load(server.dsn(), sessions))
            for what, arguments in LISTED.items() if sessions != PORTION else ():
                run = listed(server.dsn(), *arguments)
                peaks.setdefault(what, []).append(run.peak)
                say(f"{sessions:>10,}{what:>10}{run.lines:>11,}{run.first:>10.1f} s{run.whole:>6.1f} s")
                say(f"{run.peak / 1024:>11.1f} MB\n")
            for what, peak in worklists(server.dsn(), sessions, Path(folder)).items():
                if sessions != (options.few if what == "verify" else PORTION):
                    peaks.setdefault(what, []).append(peak)
        for what, (few, many) in peaks.items():
            least = PORTION if what == "verify" else options.few
            say(f"{what}: {options.many / least:.0f} times the gaps, {many / few:.2f} times the memory\n")


if __name__ == "__main__":
    main()
