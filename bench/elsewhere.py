"""What a record in another database costs, beside the same record at home: time and memory.

    make bench-elsewhere                          # 100,000 and 1,000,000 sessions, each with a row
    make bench-elsewhere ARGS="--sessions 2000000"

One private PostgreSQL has both databases; the row is read over a connection of its own.  The ratios are what to quote.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from exporter.embedded import EmbeddedPostgres

CONFIG = """
databases: {{shop: {{url: "${{DATABASE_URL}}"}}, warehouse: {{url: "${{DATABASE_URL}}"}}}}
pipelines:
  orders:
    database: shop
    window: {{since: 2025-01-01}}
    sessions: {{table: public.orders, key: id, started_at: at, completed_at: at, eligible: "true"}}
    records:
      parcels:
        {where}table: public.parcels
        session_key: order_id
        created_at: packed_at
        version: {{column: format, current: "2"}}
"""

LOAD = """
create table orders (id uuid primary key, at timestamptz);
create table parcels (order_id uuid, packed_at timestamptz, format int);
"""


def measured(dsn: str, config: Path) -> tuple[float, float]:
    """Seconds of `check`, and its peak memory in MB."""
    command = [sys.executable, "-m", "exporter", "check", "--config.file", str(config)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "DATABASE_URL": dsn})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"check ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


async def load(dsn: str, sessions: int) -> None:
    """Make the tables anew, with so many sessions, each with a row."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.execute(LOAD)
    await connection.execute(
        "insert into orders select md5(n::text)::uuid, timestamptz '2025-06-01' + n * interval '1 second' "
        "from generate_series(1, $1) n",
        sessions,
    )
    await connection.execute("insert into parcels select id, at, 2 from orders")
    await connection.execute("vacuum analyze")
    await connection.close()


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="*", default=[100_000, 1_000_000])
    options = parser.parse_args()
    say = sys.stdout.write
    say("| sessions | record | s | times at home | memory of the exporter, MB | bytes per row |\n")
    say("|---:|---|---:|---:|---:|---:|\n")
    with EmbeddedPostgres() as server, TemporaryDirectory() as folder:
        configs = {"at home": "", "in another database": "database: warehouse\n        "}
        for name, where in configs.items():
            (Path(folder) / f"{name}.yaml").write_text(CONFIG.format(where=where), encoding="utf-8")
        for sessions in options.sessions:
            asyncio.run(load(server.dsn(), sessions))
            home, least = 0.0, 0.0
            for name in configs:
                seconds, peak = measured(server.dsn(), Path(folder) / f"{name}.yaml")
                home, least = home or seconds, least or peak
                row = f"{(peak - least) * 1e6 / sessions:.0f}" if peak > least else ""
                say(f"| {sessions:,} | {name} | {seconds:.1f} | {seconds / home:.1f} | {peak:.0f} | {row} |\n")


if __name__ == "__main__":
    main()
