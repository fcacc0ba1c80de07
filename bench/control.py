"""What the control costs: rounds of the exporter with and without the control platform, in turn.

    make bench-control                            # 157 sessions, where the control weighs most
    make bench-control ARGS="--sessions 200000 --rounds 20"

CPU seconds of the server and seconds of the exporter, for a round on average: without the control, with the control
as `serve` counts it, and with the control in each round, as `check` and `report` count it once.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from costs import AWAITED, Server
from load import load

from exporter.config.read import parse_config
from exporter.control import control
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.rounds import Rounds
from exporter.plan.plan import compile_plan

TOUR: Final = Path(__file__).parent.parent / "config.yaml"
TURNS: Final = 4
"""Turns of each way to measure: the load of the machine changes meanwhile."""


async def measure(embedded: EmbeddedPostgres, sessions: int, rounds: int) -> None:
    """Load, run the three ways in turn, print a table."""
    server = await Server.of(embedded)
    await load(server.connection, sessions)
    text = TOUR.read_text(encoding="utf-8").replace("# allow_superuser: false", "allow_superuser: true ")
    config = parse_config(text, {"DATABASE_URL": embedded.dsn()})
    plan = compile_plan(config, config.pipelines["assessments"], DIMENSIONS)
    proved = replace(plan, control=control())
    seldom, never = Rounds(config.collection), Rounds(config.collection)
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "without the control": lambda: never(plan),
        "with the control, as in serve": lambda: seldom(proved),
        "with the control each time": lambda: collect(proved),
    }
    spent = {name: [0.0, 0.0] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():

            async def some(way: Callable[[], Awaitable[object]] = way) -> None:
                for _ in range(rounds // TURNS):
                    await way()

            began = time.monotonic()
            cost = await server.cost(some)
            spent[name][0] += cost.cpu
            spent[name][1] += time.monotonic() - began - 2 * AWAITED
    await server.connection.close()
    base = spent["without the control"]
    sys.stdout.write(f"{sessions:,} sessions, {rounds} rounds of each\n\n")
    sys.stdout.write("| a round | server, CPU ms | ratio | ms | ratio |\n|---|---:|---:|---:|---:|\n")
    for name, (cpu, seconds) in spent.items():
        told = f"| {name} | {cpu / rounds * 1e3:.1f} | {cpu / base[0]:.2f} | {seconds / rounds * 1e3:.1f} "
        sys.stdout.write(f"{told}| {seconds / base[1]:.2f} |\n")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=157)
    parser.add_argument("--rounds", type=int, default=400)
    options = parser.parse_args()
    with EmbeddedPostgres(settings={"fsync": "off", "autovacuum": "off"}) as server:
        asyncio.run(measure(server, options.sessions, options.rounds))


if __name__ == "__main__":
    main()
