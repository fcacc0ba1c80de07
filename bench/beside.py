"""What the platform's own transactions lose while the exporter measures the same tables.

    make bench-beside                                        # 1,000,000 sessions, full passes
    make bench-beside ARGS="--mode tiered --window 60"

Two processes with two connections each write sessions and records as fast as they can.  The exporter runs with the
defaults (`duty: 5%`), and is stopped (SIGSTOP, between two rounds) for every other window of time.
"""

import argparse
import asyncio
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg
from load import load

from exporter import APPLICATION_NAME
from exporter.embedded import EmbeddedPostgres

TOUR: Final = Path(__file__).parent.parent / "config.yaml"
PORT: Final = 19561
WRITERS: Final = 2
READER: Final = """
create role reader login password 'reader';
grant select on assessment_sessions, profiles, fc_scores to reader;
"""
WRITE: Final = """
with started as (
  insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions)
  values (gen_random_uuid(), 'completed', now() - interval '20 minutes', now(), now(), 240)
  returning id
), scored as (
  insert into fc_scores (session_id, version, fc_kind) select id, 'v1.2', 'functions' from started
)
insert into profiles (session_id, results_version) select id, 'v1.2.1' from started
"""


async def _write(dsn: str, seconds: float) -> int:
    """Transactions of one connection in some seconds."""
    connection = await asyncpg.connect(dsn)
    until, done = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        await connection.execute(WRITE)
        done += 1
    await connection.close()
    return done


async def _write_twice(dsn: str, seconds: float) -> int:
    return sum(await asyncio.gather(_write(dsn, seconds), _write(dsn, seconds)))


def write(dsn: str, seconds: float) -> int:
    """Transactions of two connections."""
    return asyncio.run(_write_twice(dsn, seconds))


def rate(dsn: str, seconds: float) -> float:
    """Transactions a second of all writers."""
    with multiprocessing.Pool(WRITERS) as pool:
        return sum(pool.starmap(write, [(dsn, seconds)] * WRITERS)) / seconds


def until_measured() -> None:
    """Wait for the first numbers of the exporter."""
    while True:
        time.sleep(1)
        with suppress(OSError):
            page = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10).read().decode()
            if any(line.startswith("session_health_up{") and line.endswith(" 1.0") for line in page.split("\n")):
                return


async def until_idle(dsn: str) -> None:
    """Wait until the exporter has no connection."""
    connection = await asyncpg.connect(dsn)
    ours = f"select count(*) from pg_stat_activity where application_name = '{APPLICATION_NAME}'"
    while True:
        if not await connection.fetchval(ours):
            break
        await asyncio.sleep(0.05)
    await connection.close()


async def fill(dsn: str, sessions: int) -> None:
    """Create and fill the tables, and the role of the exporter."""
    connection = await asyncpg.connect(dsn)
    await load(connection, sessions)
    await connection.execute(READER)
    await connection.close()


def compare(server: EmbeddedPostgres, options: argparse.Namespace, directory: Path) -> None:
    """Run the windows in turn, and print the ratio of each pair."""
    dsn = server.dsn()
    asyncio.run(fill(dsn, options.sessions))
    text = TOUR.read_text(encoding="utf-8").replace("mode: auto", f"mode: {options.mode}")
    config = directory / "config.yaml"
    config.write_text(text, encoding="utf-8")
    place = dsn.partition("@")[2]
    words = ["serve", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{PORT}", "--log.level=error"]
    exporter = subprocess.Popen(
        [sys.executable, "-m", "exporter", *words],
        env={**os.environ, "DATABASE_URL": f"postgresql://reader:reader@{place}"},
    )
    try:
        until_measured()
        ratios = []
        for _ in range(options.pairs):
            beside = rate(dsn, options.window)
            asyncio.run(until_idle(dsn))
            exporter.send_signal(signal.SIGSTOP)
            alone = rate(dsn, options.window)
            exporter.send_signal(signal.SIGCONT)
            ratios.append(beside / alone)
            sys.stdout.write(f"{beside:8.0f} beside, {alone:8.0f} alone: {ratios[-1]:.3f}\n")
            sys.stdout.flush()
        sys.stdout.write(f"median {statistics.median(ratios):.3f} ({options.mode}, {options.sessions:,} sessions)\n")
    finally:
        exporter.send_signal(signal.SIGCONT)
        exporter.terminate()
        exporter.wait()


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--mode", choices=("full", "tiered"), default="full")
    parser.add_argument("--window", type=float, default=110.0, help="seconds of a window, several rounds")
    parser.add_argument("--pairs", type=int, default=4)
    options = parser.parse_args()
    with (
        EmbeddedPostgres(settings={"max_wal_size": "4GB", "fsync": "off"}) as server,
        tempfile.TemporaryDirectory() as directory,
    ):
        compare(server, options, Path(directory))


if __name__ == "__main__":
    main()
