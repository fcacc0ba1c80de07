"""What the processes of the soak hold, each second, and the table of it."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import asyncpg
from scene import Scene
from soak_clients import Clients

RSS_GROWTH: Final = 10.0
"""Megabytes that the largest RSS may grow from the first third to the last."""
SAMPLES_TO_COMPARE: Final = 240
"""Below so many samples, the thirds do not have the same faults: only the memory is compared."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SERVER: Final = """
select (select count(*) from pg_stat_activity where usename = $1),
  (select count(*) from pg_locks l join pg_stat_activity a using (pid) where a.usename = $1),
  (select coalesce(sum(temp_files), 0) from pg_stat_database)
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of one exporter.  `series` leaves out the counters of faults: each reason is a series of its own.

    `backends`, `locks` and `temp_files` are of both exporters: they share a role.
    """

    at: float
    rss: float
    descriptors: int
    threads: int
    series: int
    cpu: float
    backends: int
    locks: int
    temp_files: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done until a moment."""

    at: float
    rounds: int
    scrapes: int
    comparisons: int
    wrong: int


COMPARED: Final = ("descriptors", "threads", "series", "backends")
SLACK: Final = {"descriptors": 2}
"""A sample may meet a connection between two owners: an accepted client, a socket that is being closed."""


def of_process(pid: int) -> tuple[float, int, int, float]:
    """Megabytes of RSS, descriptors, threads and CPU seconds."""
    here = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (here / "status").read_text().splitlines() if ":" in line)
    times = (here / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(times[11]) + int(times[12])) / _TICKS
    return int(status["VmRSS"].split()[0]) / 1024, sum(1 for _ in (here / "fd").iterdir()), int(status["Threads"]), cpu


@dataclass
class Sampler:
    """Samples both exporters each second, for as long as it runs."""

    scene: Scene
    clients: Sequence[Clients]
    samples: tuple[list[Sample], ...]

    async def run(self) -> None:
        """Sample until cancelled; a second without an answer of the server repeats the numbers of before."""
        connection: asyncpg.Connection | None = None
        server = (0, 0, 0)
        try:
            while True:
                due = time.monotonic() + 1
                try:
                    if connection is None or connection.is_closed():
                        connection = await self.scene.connect("postgres")
                    row = await asyncio.wait_for(connection.fetchrow(_SERVER, self.scene.role), 5)
                    if row is not None:
                        server = (int(row[0]), int(row[1]), int(row[2]))
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    connection = None
                for clients, samples in zip(self.clients, self.samples, strict=True):
                    self._take(clients, samples, server)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            if connection is not None:
                connection.terminate()

    @staticmethod
    def _take(clients: Clients, samples: list[Sample], server: tuple[int, int, int]) -> None:
        if clients.last is None:
            return
        with suppress(OSError):
            rss, descriptors, threads, cpu = of_process(clients.exporter.pid)
            series = sum(not name.endswith("collection_errors_total") for name, _ in clients.last.series)
            samples.append(Sample(time.time(), rss, descriptors, threads, series, cpu, *server))


def grown(name: str, samples: Sequence[Sample]) -> list[str]:
    """What the last third of the samples holds more than the first third."""
    third = len(samples) // 3
    if not third:
        return [f"{name}: too few samples"]
    first, last = samples[:third], samples[-third:]
    problems = []
    before, after = max(one.rss for one in first), max(one.rss for one in last)
    if after > before + RSS_GROWTH:
        problems.append(f"{name}: RSS grows from {before:.1f} MB to {after:.1f} MB")
    for field in COMPARED if len(samples) >= SAMPLES_TO_COMPARE else ():
        was, now = (max(getattr(one, field) for one in part) for part in (first, last))
        if now > was + SLACK.get(field, 0):
            problems.append(f"{name}: {field} grow from at most {was} to at most {now}")
    return problems


def table(samples: Sequence[Sequence[Sample]], marks: Sequence[Progress]) -> str:
    """Markdown: start, each tenth, end; the largest of the samples of each tenth, full / tiered."""
    head = [
        "| until | RSS MB | fds | threads | series | backends | locks | rounds | CPU s | scrapes | compared | wrong |",
        "|---|---|---|---|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    lines, since = [], 0.0
    for number, mark in enumerate(marks):
        until = [[one for one in of_one if one.at <= mark.at] or list(of_one[:1]) for of_one in samples]
        parts = [[one for one in of_one if one.at >= since] or of_one[-1:] for of_one in until]
        since = mark.at
        label = "start" if number == 0 else "end" if number == len(marks) - 1 else f"{number}/10"
        cells = [
            label,
            " / ".join(f"{max(one.rss for one in part):.1f}" for part in parts),
            *(_largest(parts, field) for field in ("descriptors", "threads", "series")),
            str(max(one.backends for part in parts for one in part)),
            str(max(one.locks for part in parts for one in part)),
            f"{mark.rounds:,}",
            " / ".join(f"{part[-1].cpu:.0f}" for part in parts),
            f"{mark.scrapes:,}",
            f"{mark.comparisons:,}",
            str(mark.wrong),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*head, *lines])


def _largest(parts: Sequence[Sequence[Sample]], field: str) -> str:
    assert field in {one.name for one in fields(Sample)}  # noqa: S101
    return " / ".join(str(max(getattr(one, field) for one in part)) for part in parts)
