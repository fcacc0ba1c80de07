"""How much memory `gaps` takes for few and for many gaps, and how long.

    make bench-gaps                          # 10,000 and 1,000,000 gaps
    make bench-gaps ARGS="--many 3000000"

A private PostgreSQL holds nothing but gaps; the command runs as a process of its own, and its peak memory is read when
its list is whole, from /proc (Linux).  The ratio is what to quote.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from exporter.demo.scenarios import SCHEMA
from exporter.embedded import EmbeddedPostgres

TOUR = Path(__file__).parent.parent / "config.yaml"

LOAD = """
insert into assessment_sessions
select gen_random_uuid(), 'completed', started, started + interval '20 minutes', started + interval '21 minutes', 240
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


def gaps(dsn: str, *arguments: str) -> Run:
    """Run the command to its end."""
    command = [sys.executable, "-m", "exporter", "gaps", "--config.file", str(TOUR), *arguments]
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
        sys.exit(f"gaps ended with {process.returncode}")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return Run(int(peak), first, whole, lines)


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
    with EmbeddedPostgres() as server:
        say(f"{'gaps':>10}{'format':>8}{'lines':>11}{'first line':>12}{'whole':>8}{'peak memory':>14}\n")
        peaks: dict[str, list[int]] = {}
        for sessions in (options.few, options.many):
            asyncio.run(load(server.dsn(), sessions))
            for shape in ("csv", "ndjson", "json"):
                run = gaps(server.dsn(), "--format", shape)
                peaks.setdefault(shape, []).append(run.peak)
                say(f"{sessions:>10,}{shape:>8}{run.lines:>11,}{run.first:>10.1f} s{run.whole:>6.1f} s")
                say(f"{run.peak / 1024:>11.1f} MB\n")
        for shape, (few, many) in peaks.items():
            say(f"{shape}: {options.many / options.few:.0f} times the gaps, {many / few:.2f} times the memory\n")


if __name__ == "__main__":
    main()
