"""A day of collections in minutes: exporters under faults, changes, scrapes and reloads, compared with plain SQL.

    make soak                                 # 2,880 collections: a day of one pipeline
    make soak ARGS="--short"                  # 2 minutes
    make soak ARGS="--rounds 500 --seed 7"

A private PostgreSQL, two exporter processes (`mode: full` and `mode: tiered`, three pipelines each), each behind a
proxy of tests/faults.  A writer changes the tables all the time.  Every few seconds comes a random fault of the table
of docs/reliability.md, for 1 to 2.5 s.  Between two faults the writer pauses, and every published number must be the
independent count.  The last line is the verdict; the exit code is 1 if something is broken.
Ctrl-C ends the run early, with the table.
"""

import argparse
import asyncio
import random
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
from conftest import memory
from fault import LEFT_SECONDS, STOP_SECONDS, Fault
from process import Exporter, errors
from processes import Page
from proxy import HOST, Proxy
from rows_network import NETWORK
from rows_server import REWRITES, SERVER
from rows_sql import CONTENT, LOCKS, RIGHTS
from scene import DURABLE, Scene
from soak_clients import Clients
from soak_platform import PIPELINES, SINCE, Truth, Writer, config, truth_at, verdict_of
from soak_samples import Progress, Sample, Sampler, grown, table
from waiting import START_SECONDS, at_most

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.embedded import EmbeddedPostgres

DAY: Final = 2_880
"""Collections of a pipeline in a day, at the default interval of 30 s."""
SHORT_SECONDS: Final = 120.0
MAX_AGE: Final = 6.0
SLACK: Final = 0.5
"""Seconds between the request of a scrape and its page, and between two clocks that are read."""
MOMENTS: Final = 100
"""Comparisons in a whole run, at least."""
COMPARED_WITHIN: Final = 15.0
"""Seconds until the numbers of a quiet moment are published: four intervals of the slowest pipeline, and a sweep."""
LOG_PER_FAULT: Final = 5_000
"""Letters of the log for each fault, on average, at most."""
MODES: Final = ("full", "tiered")
RELOAD_EVERY: Final = 6
HEALED: Final = 0.4
"""The share (0 to 1) of quiet moments before which a backfill derives everything."""
TENTHS: Final = 10
CHOSEN: Final = frozenset(
    {
        "port refuses",
        "reset at accept",
        "accepted, closed at once",
        "accepts, never answers",
        "black hole, both ways",
        "half open: the server's answers are lost",
        "slow: 1 byte/s from the server",
        "garbage instead of the protocol",
        "latency 5 ms each way",
        "cut in mid-result",
        "pg_terminate_backend, again and again",
        "pg_cancel_backend, again and again",
        "the role's connection limit is 0",
        "password changed on the server",
        "the role may not log in",
        "CONNECT revoked",
        "SELECT on a record revoked",
        "SELECT on the sessions revoked",
        "USAGE of the schema revoked",
        "row security on a record hides the broken rows",
        "row security on the sessions hides the gaps",
        "record locked by a migration",
        "sessions locked by a migration",
        "record dropped",
        "server restarted",
        "sessions table renamed",
        "column dropped",
        "record key of another type",
        "version becomes an enum",
        "record swapped by rename, again and again",
        "VACUUM FULL of each table, again and again",
        "ALTER COLUMN TYPE to and fro",
    }
)
"""Faults that end soon after their mend, and leave nothing behind.  Each comes once before one comes again."""
FAULTS: Final = tuple(
    fault for fault in (*NETWORK, *SERVER, *RIGHTS, *LOCKS, *CONTENT, *REWRITES) if fault.name in CHOSEN
)
FORBIDDEN: Final = re.compile(r"Traceback|collection\.crashed|never retrieved|never awaited")


@dataclass
class Quiet:
    """A moment without a writer and without a fault: since when, and the pipelines whose truth is not healthy."""

    since: float
    bad: frozenset[str]


@dataclass
class Soak:
    """The course of a run, and everything that was found."""

    scene: Scene
    chance: random.Random
    since: str
    writer: Writer
    clients: tuple[Clients, ...] = ()
    quiet: Quiet | None = None
    comparisons: int = 0
    moments: int = 0
    faults: int = 0
    refused: int = 0
    reloads: int = 0
    numbers: int = 0
    wrong: list[str] = field(default_factory=list)
    last: str = ""
    seen: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    oldest: float = 0.0
    _rounds: int = 0
    _counted: dict[str, float] = field(default_factory=dict)
    _variant: int = 0
    _deck: list[Fault] = field(default_factory=list)

    def look(self, mode: str, page: Page, at: float) -> None:
        """Judge one scrape: no old numbers, no `healthy` while the truth of a quiet moment is not."""
        counted, before = page.total("collections_total"), self._counted.get(mode, 0.0)
        # A reload may begin the counters of a pipeline again.
        self._rounds += int(counted - before if counted >= before else counted)
        self._counted[mode] = counted
        for pipeline in PIPELINES:
            taken = page("snapshot_timestamp_seconds", pipeline=pipeline)
            if taken is None:
                continue
            self.oldest = max(self.oldest, at - taken)
            if at - taken > MAX_AGE + SLACK:
                self.wrong.append(f"{mode}, {pipeline}: a snapshot {at - taken:.1f} s old is served")
            quiet, whole = self.quiet, whole_since(page, pipeline)
            is_bad = quiet and whole and whole >= quiet.since and pipeline in quiet.bad
            if is_bad and page("verdict", pipeline=pipeline, verdict="healthy") == 1:
                self.wrong.append(f"{mode}, {pipeline}: healthy while the truth is not")

    @property
    def rounds(self) -> int:
        """Collections of all pipelines so far."""
        return self._rounds

    def configure(self) -> None:
        """Write the next variant of the config; the old file is replaced at once."""
        for mode, exporter in zip(MODES, self.scene.exporters, strict=True):
            text = config(mode, self.since, MAX_AGE, self._variant)
            fresh = exporter.folder / "fresh"
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(exporter.config)
        self._variant += 1

    async def fault(self) -> None:
        """One fault, while the writer goes on; mended after 1 to 2.5 s."""
        if not self._deck:
            self._deck = self.chance.sample(FAULTS, len(FAULTS))
        fault = self._deck.pop()
        scope = fault.inject(self.scene)
        # Without the writer: a change of a table must not meet the writer in a deadlock.
        async with self.writer.pause:
            try:
                await scope.__aenter__()
            except asyncpg.DeadlockDetectedError:
                # With the exporter: the statements are one transaction, and the next fault comes.
                self.refused += 1
                return
        try:
            await asyncio.sleep(self.chance.uniform(1.0, 2.5))
        finally:
            async with self.writer.pause:
                await scope.__aexit__(None, None, None)
        self.faults += 1
        self.last = fault.name
        self.seen[fault.name] = self.seen.get(fault.name, 0) + 1

    def reload(self) -> None:
        """Another config, and SIGHUP."""
        self.configure()
        for exporter in self.scene.exporters:
            exporter.signal(signal.SIGHUP)
        self.reloads += 1

    async def compare(self) -> None:
        """Pause the writer, and compare every pipeline of both exporters with the independent count."""
        if self.chance.random() < HEALED:
            await self.writer.heal()
        async with self.writer.pause:
            began = time.monotonic()
            since = await self._clock()
            truths = {pipeline: await self._truth(pipeline, since) for pipeline in PIPELINES}
            bad = frozenset(name for name, truth in truths.items() if verdict_of(truth) != "healthy")
            self.quiet = Quiet(since, bad)
            try:
                await asyncio.gather(
                    *(
                        self._compare(mode, clients, pipeline, since)
                        for mode, clients in zip(MODES, self.clients, strict=True)
                        for pipeline in PIPELINES
                    )
                )
            finally:
                self.quiet = None
            self.slowest = max(self.slowest, time.monotonic() - began)
        self.moments += 1

    async def _clock(self) -> float:
        connection = await self.scene.connect()
        try:
            return float(await connection.fetchval("select extract(epoch from clock_timestamp())::float8"))
        finally:
            await connection.close(timeout=at_most(5))

    async def _truth(self, pipeline: str, moment: float) -> Truth:
        return await truth_at(self.scene, pipeline, self.since if pipeline == "scores" else SINCE, moment)

    async def _compare(self, mode: str, clients: Clients, pipeline: str, since: float) -> None:
        deadline = time.monotonic() + at_most(COMPARED_WITHIN)
        while True:
            page = clients.last
            whole = whole_since(page, pipeline) if page else None
            if page is not None and whole is not None and whole >= since:
                taken = page("snapshot_timestamp_seconds", pipeline=pipeline) or 0.0
                truth = await self._truth(pipeline, taken)
                # A round in slices counts until its end.  The end of a grace period in between gives another number.
                until = taken + (page("collection_duration_seconds", pipeline=pipeline) or 0.0) + SLACK
                is_steady = truth == await self._truth(pipeline, whole) == await self._truth(pipeline, until)
                if mode == "full" or is_steady:
                    self.comparisons += 1
                    self.numbers += len(truth)
                    self.wrong += [f"{mode}, {pipeline}: {text}" for text in differences(page, pipeline, truth)]
                    return
            if time.monotonic() > deadline:
                told = "" if page is None else f"up {page('up', pipeline=pipeline)}, faults {errors_of(page, pipeline)}"
                self.wrong.append(f"{mode}, {pipeline}: no numbers of a quiet moment: {told}")
                return
            await clients.news(1.0)


def whole_since(page: Page, pipeline: str) -> float | None:
    """The moment (Unix seconds) after which every number was counted; None if not all are measured."""
    taken = page("snapshot_timestamp_seconds", pipeline=pipeline)
    if taken is None or page("up", pipeline=pipeline) != 1:
        return None
    if page("sweep_coverage_ratio", pipeline=pipeline) not in {None, 1.0}:
        return None
    return taken - (page("oldest_slice_age_seconds", pipeline=pipeline) or 0.0)


def errors_of(page: Page, pipeline: str) -> dict[str, float]:
    """The faults of a pipeline by reason."""
    return {reason: page.total("collection_errors_total", pipeline=pipeline, reason=reason) for reason in errors(page)}


_LABELS: Final = {
    "eligible_sessions": (None, "state"),
    "record_sessions": ("record", "state"),
    "check_sessions": ("check", "result"),
    "sessions": (None, "status"),
    "records": ("record", "version"),
    "invalid_records": ("record", None),
    "orphaned_records": ("record", None),
}
"""For each metric, the labels of the independent count: the record or check, and the value."""


def differences(page: Page, pipeline: str, truth: Truth) -> list[str]:
    """Every number that is not the independent count, in both directions, and the verdict."""
    published: dict[tuple[str, str, str], float] = {}
    for (name, labels), value in page.series.items():
        metric, own = name.removeprefix("session_health_"), dict(labels)
        if metric in _LABELS and own.get("pipeline") == pipeline and value:
            part, kind = (own[label] if label else "" for label in _LABELS[metric])
            published[metric, part, kind] = published.get((metric, part, kind), 0) + value
    found = [
        f"{' '.join(key)} is {published.get(key, 0):g}, not {truth.get(key, 0)}"
        for key in sorted(published.keys() | truth.keys())
        if published.get(key, 0) != truth.get(key, 0)
    ]
    if page("verdict", pipeline=pipeline, verdict=verdict_of(truth)) != 1:
        found.append(f"the verdict is not {verdict_of(truth)}")
    return found


@asynccontextmanager
async def staged() -> AsyncIterator[Scene]:
    """The server, the tables, two proxies, and two exporters that are not started."""
    async with AsyncExitStack() as stack:
        server = EmbeddedPostgres(settings=DURABLE, directory=memory())
        await asyncio.to_thread(server.start)
        stack.push_async_callback(asyncio.to_thread, server.stop)
        database, role, password = "soak", "reader", secrets.token_urlsafe(12)
        admin = await asyncpg.connect(server.dsn())
        await admin.execute(f"create database {database}")
        await admin.execute(f"create role {role} login password '{password}'")
        await admin.close()
        owner = await asyncpg.connect(server.dsn(database))
        await owner.execute(SCHEMA)
        await owner.execute(SCENARIOS["healthy"].sql)
        await owner.execute(f"grant select on all tables in schema public to {role}")
        await owner.execute("analyze")
        await owner.close()
        folder = Path(tempfile.mkdtemp(prefix="soak-"))
        stack.callback(shutil.rmtree, folder)
        proxies = (
            await stack.enter_async_context(Proxy(server.port)),
            await stack.enter_async_context(Proxy(server.port)),
        )
        exporters = []
        for mode, proxy in zip(MODES, proxies, strict=True):
            own = folder / mode
            own.mkdir()
            exporter = Exporter(own, f"postgresql://{role}:{password}@{HOST}:{proxy.port}/{database}")
            stack.push_async_callback(exporter.end)
            exporters.append(exporter)
        full, tiered = exporters
        yield Scene(server, server, database, role, password, full, tiered, proxies)


async def left(scene: Scene) -> str:
    """What is on the server of ended exporters, after the time that they have; empty if there is nothing."""
    connection = await scene.connect("postgres")
    deadline = time.monotonic() + at_most(LEFT_SECONDS)
    try:
        while True:
            found = await connection.fetch("select pid, state from pg_stat_activity where usename = $1", scene.role)
            files = await connection.fetchval("select count(*) from pg_ls_tmpdir()")
            if not found and not files:
                return ""
            if time.monotonic() > deadline:
                return f"{len(found)} backends, {files} temporary files"
            await asyncio.sleep(0.05)
    finally:
        await connection.close(timeout=at_most(5))


async def end(soak: Soak) -> str:
    """SIGTERM to both exporters; what was measured, and what is wrong is kept."""
    for exporter in soak.scene.exporters:
        exporter.signal(signal.SIGTERM)
    ends = await asyncio.gather(*(exporter.ended(at_most(10)) for exporter in soak.scene.exporters))
    for mode, (seconds, code) in zip(MODES, ends, strict=True):
        if code != 0 or seconds > at_most(STOP_SECONDS):
            soak.wrong.append(f"{mode}: SIGTERM: exit {code} after {seconds:.2f} s")
    if remains := await left(soak.scene):
        soak.wrong.append(f"left on the server: {remains}")
    return ", ".join(f"{mode} {seconds:.2f} s, exit {code}" for mode, (seconds, code) in zip(MODES, ends, strict=True))


def of_logs(soak: Soak) -> list[int]:
    """The letters of each log; what must not be in a log is kept as wrong."""
    sizes = []
    for mode, exporter in zip(MODES, soak.scene.exporters, strict=True):
        log = exporter.log
        sizes.append(len(log))
        for found in FORBIDDEN.finditer(log):
            soak.wrong.append(
                f"{mode}: the log has {found[0]!r}: …{log[max(0, found.start() - 300) : found.end() + 1500]}"
            )
        if len(log) > LOG_PER_FAULT * (soak.faults + soak.reloads + 1):
            soak.wrong.append(f"{mode}: {len(log):,} letters of log in {soak.faults} faults")
    return sizes


def mark(soak: Soak) -> Progress:
    """The progress now."""
    scrapes = sum(clients.scrapes for clients in soak.clients)
    return Progress(time.time(), soak.rounds, scrapes, soak.comparisons, len(soak.wrong))


async def course(soak: Soak, rounds: int, seconds: float | None) -> list[Progress]:
    """Faults, reloads and comparisons until enough rounds, or seconds; the progress at each tenth."""
    marks, began, told = [mark(soak)], time.monotonic(), 0

    def share() -> float:
        by_time = (time.monotonic() - began) / seconds if seconds else 0.0
        return max(min(soak.rounds / rounds, 1.0 if seconds else soak.moments * DAY / rounds / MOMENTS), by_time)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    async with asyncio.TaskGroup() as group:
        samples: tuple[list[Sample], ...] = ([], [])
        tasks = [group.create_task(clients.run()) for clients in soak.clients]
        sampler = Sampler(soak.scene, soak.clients, samples)
        tasks += [group.create_task(sampler.run()), group.create_task(soak.writer.run())]
        try:
            while (done := share()) < 1 and not stop.is_set():
                await soak.fault()
                if soak.faults % RELOAD_EVERY == 0:
                    soak.reload()
                await asyncio.sleep(soak.chance.uniform(0.2, 1.0))
                await soak.compare()
                if done >= len(marks) / TENTHS and len(marks) < TENTHS:
                    marks.append(mark(soak))
                    sys.stderr.write(f"{done:.0%}: {soak.rounds} rounds, {soak.faults} faults\n")
                sys.stderr.writelines(
                    f"{datetime.now(UTC):%H:%M:%S}, {soak.last}: {text}\n" for text in soak.wrong[told:]
                )
                told = len(soak.wrong)
        finally:
            marks.append(mark(soak))
            for task in tasks:
                task.cancel()
    for mode, own in zip(MODES, samples, strict=True):
        soak.wrong += grown(mode, own)
    for clients, mode in zip(soak.clients, MODES, strict=True):
        soak.wrong += [f"{mode}: a lost request: {text}" for text in clients.failed]
    temp = max((one.temp_files for one in samples[0]), default=0)
    sys.stdout.write(f"{table(samples, marks)}\n\nTemporary files of the server: {temp}.\n")
    return marks


async def until_listening(exporters: Sequence[Exporter]) -> None:
    """Wait until both answer a scrape."""
    deadline = time.monotonic() + at_most(START_SECONDS)
    for exporter in exporters:
        while (await exporter.scrape()).page is None:
            if exporter.code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the exporter does not listen:\n{exporter.log}")
            await asyncio.sleep(0.1)


async def soak(rounds: int, seconds: float | None, seed: int) -> int:
    """The whole run; the exit code."""
    chance = random.Random(seed)  # noqa: S311
    began = time.monotonic()
    async with staged() as scene:
        since = (datetime.now(UTC) - timedelta(days=30)).date().isoformat()
        run = Soak(scene, chance, since, Writer(scene, random.Random(seed + 1)))  # noqa: S311
        run.configure()
        for exporter in scene.exporters:
            exporter.start()
        await until_listening(scene.exporters)
        run.clients = tuple(
            Clients(exporter, random.Random(seed + n), partial(run.look, mode))  # noqa: S311
            for n, (mode, exporter) in enumerate(zip(MODES, scene.exporters, strict=True))
        )
        await course(run, rounds, seconds)
        ended = await end(run)
        sizes = of_logs(run)
    _report(run, seed, time.monotonic() - began, ended, sizes)
    return 1 if run.wrong else 0


def _report(run: Soak, seed: int, seconds: float, ended: str, sizes: Sequence[int]) -> None:
    """The lines below the table."""
    longest = max(clients.longest for clients in run.clients)
    pages = sum(clients.pages for clients in run.clients)
    sys.stdout.write(
        f"Seed {seed}, {seconds:.0f} s: {run.faults} faults of {len(run.seen)} kinds ({run.refused} refused), "
        f"{run.reloads} reloads, "
        f"{run.writer.done:,} transactions of the writer ({run.writer.refused} refused).\n"
        f"{run.moments} quiet moments, {run.comparisons} comparisons of {run.numbers:,} numbers; the slowest moment "
        f"took {run.slowest:.1f} s.  Oldest served snapshot: {run.oldest:.1f} s.\n"
        f"Longest answer: {longest:.2f} s; {pages:,} pages.  Log: {' / '.join(f'{n:,}' for n in sizes)} letters.\n"
        f"SIGTERM: {ended}.\n"
    )
    for text, times in Counter(run.wrong).items():
        sys.stdout.write(f"- {times} times: {text}\n")
    sys.stdout.write(f"\nVerdict: {f'broken, {len(run.wrong)} findings' if run.wrong else 'holds'}.\n")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=DAY, help="collections of all pipelines together")
    parser.add_argument("--seconds", type=float, help="end after so many seconds, with fewer rounds")
    parser.add_argument("--short", action="store_true", help=f"the same as --seconds {SHORT_SECONDS:g}")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seconds = SHORT_SECONDS if options.short else options.seconds
    sys.exit(asyncio.run(soak(options.rounds, seconds, options.seed)))


if __name__ == "__main__":
    main()
