"""What people are told: notifications of a real Alertmanager for each cause, with the shipped rules, routes and waits.

    make bench-notifications ARGS="--pipelines 10"

One job with one exporter, or with several of the same pipelines.  All times are shortened alike: an interval of 1 s
instead of 30 s, and waits of Alertmanager divided by 30.  The table has times at the default interval.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "acceptance")]

import asyncpg  # noqa: E402
import yaml  # noqa: E402
from alertmanager import Inbox, running_alertmanager, running_inbox, shipped_settings  # noqa: E402
from conftest import SERVED  # noqa: E402
from processes import ANY_PORT, Exporter, environment, run  # noqa: E402
from prometheus import running_prometheus  # noqa: E402

from exporter.demo.scenarios import SCENARIOS, SCHEMA  # noqa: E402
from exporter.embedded import EmbeddedPostgres  # noqa: E402

DEFAULT_INTERVAL: Final = 30
SETTLES: Final = 20
"""Seconds before the fault: every exporter has measured several times."""


@dataclass(frozen=True)
class Fault:
    """A cause, and the seconds until everybody has been told: 2 s are a minute at the default interval."""

    name: str
    seconds: float
    begin: Callable[["Lab"], None]


@dataclass(frozen=True)
class Lab:
    """The processes of one scenario."""

    server: EmbeddedPostgres
    exporters: tuple[Exporter, ...]
    database: str

    def execute(self, sql: str) -> None:
        """Run SQL in the platform's database."""

        async def connect_and_run() -> None:
            connection = await asyncpg.connect(self.server.dsn(self.database))
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        asyncio.run(connect_and_run())


def _kill(lab: Lab) -> None:
    for exporter in lab.exporters:
        exporter.process.send_signal(signal.SIGKILL)


GAPS: Final = """
delete from profiles where session_id in (select session_id from profiles order by created_at desc limit 20)
"""
DRIFT: Final = """
update profiles set results_version = 'v1.1.0', created_at = now()
where session_id in (select session_id from profiles limit 25)
"""

FAULTS: Final = (
    Fault("a gap burst", 60, lambda lab: lab.execute(GAPS)),
    Fault("version drift", 60, lambda lab: lab.execute(DRIFT)),
    Fault("a dropped table", 150, lambda lab: lab.execute("drop table fc_scores")),
    Fault("a dead database", 150, lambda lab: lab.server.stop_server()),
    Fault("a dead exporter", 60, _kill),
)


def config(pipelines: int, interval: str = "1s") -> str:
    """The sample config with several pipelines on one database."""
    text = SERVED
    for usual, here in (
        ("interval: 30s", f"interval: {interval}"),
        ("max_age: 5m", "max_age: 10s"),
        ("duty: 5%", "duty: 100%"),
    ):
        text = text.replace(usual, here)
    content: dict[str, Any] = yaml.safe_load(text)
    [pipeline] = content["pipelines"].values()
    content["pipelines"] = {f"pipeline-{number:02}": pipeline for number in range(pipelines)}
    return json.dumps(content, default=str)


@contextmanager
def lab_of(pipelines: int, exporters: int, folder: Path, inbox: Inbox) -> Iterator[Lab]:
    """A healthy platform, exporters, Prometheus and Alertmanager."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres())
        lab = Lab(server, (), "postgres")
        lab.execute(SCHEMA + SCENARIOS["healthy"].sql)
        (folder / "config.json").write_text(config(pipelines))
        arguments = ("serve", "--config.file", str(folder / "config.json"), *ANY_PORT)
        environ = environment(DATABASE_URL=server.dsn())
        running = tuple(stack.enter_context(Exporter(*arguments, environ=environ)) for _ in range(exporters))
        (folder / "rules.yml").write_text(run("rules", "--interval", "1s").stdout)
        alertmanager = stack.enter_context(running_alertmanager(shipped_settings(inbox.url, faster=DEFAULT_INTERVAL)))
        targets = [exporter.url.removeprefix("http://") for exporter in running]
        stack.enter_context(
            running_prometheus(
                [{"job_name": "session-health", "honor_labels": True, "static_configs": [{"targets": targets}]}],
                rules=[folder / "rules.yml"],
                alertmanager=alertmanager.address,
            )
        )
        time.sleep(SETTLES)
        yield Lab(server, running, "postgres")


def told(inbox: Inbox, receiver: str, since: float) -> str:
    """Notifications that fire, with their alerts, and the time of the first at the default interval."""
    found = [one for one in inbox.delivered if one["receiver"] == receiver and one["status"] == "firing"]
    if not found:
        return "-"
    names = {
        (
            alert["labels"]["alertname"],
            alert["labels"].get("pipeline"),
            alert["labels"].get("record"),
            alert["labels"].get("instance"),
        )
        for one in found
        for alert in one["alerts"]
        if alert["status"] == "firing"
    }
    minutes = (inbox.arrived[inbox.delivered.index(found[0])] - since) * DEFAULT_INTERVAL / 60
    kinds = sorted({name.removeprefix("SessionHealth") for name, *_ in names})
    return f"{len(found)} ({len(names)} alerts: {', '.join(kinds)}), first after {minutes:.0f} m"


def main() -> None:
    """Print a table: a row for each cause."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", type=int, default=10)
    parser.add_argument("--exporters", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the name of a cause")
    given = parser.parse_args()
    sys.stdout.write(
        f"| {given.pipelines} pipelines, {given.exporters} exporter(s) | pages | tickets |\n|---|---|---|\n"
    )
    for fault in FAULTS:
        if given.only not in fault.name:
            continue
        with (
            TemporaryDirectory() as name,
            running_inbox() as inbox,
            lab_of(given.pipelines, given.exporters, Path(name), inbox) as lab,
        ):
            before = len([one for one in inbox.delivered if one["receiver"] in ("pager", "tickets")])
            begun = time.monotonic()
            fault.begin(lab)
            time.sleep(fault.seconds)
            row = [told(inbox, receiver, begun) for receiver in ("pager", "tickets")]
            note = f" ({before} before)" if before else ""
            sys.stdout.write(f"| {fault.name}{note} | {row[0]} | {row[1]} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
