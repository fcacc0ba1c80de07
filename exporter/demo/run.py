"""The demo from start to end: a sample platform, the exporter, and the next commands."""

import asyncio
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path

from exporter.config.read import Loaded
from exporter.connection.target import target
from exporter.demo.live import keep_writing
from exporter.demo.platform import Report, SamplePlatform
from exporter.demo.scenarios import SCENARIOS
from exporter.present.report.shell import Shell
from exporter.serve.run import WebOptions, serve


async def demo(
    platform: AbstractAsyncContextManager[SamplePlatform],
    *,
    scenario: str,
    live: bool,
    load: Callable[[Mapping[str, str]], Loaded],
    web: WebOptions,
    stop: asyncio.Event,
    report: Report,
) -> None:
    """Serve the sample platform in a scenario until `stop` is set.

    `load` reads the config, given the sample's DATABASE_URL.

    Raises ConfigError, ListenError, EmbeddedPostgresError, SampleError.
    """
    chosen = SCENARIOS[scenario]
    async with platform as sample:
        environ = {"DATABASE_URL": sample.dsn}
        writing = asyncio.create_task(keep_writing(sample.writer_dsn, chosen.loss)) if live else None
        try:
            await serve(
                lambda: _trusting(load(environ)),
                web,
                stop,
                announce=lambda urls: report(_welcome(scenario, urls, sample, live=live)),
            )
        finally:
            if writing is not None:
                writing.cancel()
                with suppress(asyncio.CancelledError):
                    await writing
    report("stopped; nothing is left behind")


def _trusting(loaded: Loaded) -> Loaded:
    """The config with allow_superuser: on a named server, the role that reads the tables also made the tables."""
    config = loaded.config
    databases = {name: one.model_copy(update={"allow_superuser": True}) for name, one in config.databases.items()}
    return replace(loaded, config=config.model_copy(update={"databases": databases}))


def _welcome(scenario: str, urls: Sequence[str], sample: SamplePlatform, *, live: bool) -> str:
    url, config_file = urls[0], sample.config_file
    shell = Shell(str(config_file))
    other = next(name for name in SCENARIOS if name != scenario)
    lines = [
        "",
        f"  page      {url}/",
        f"  metrics   {url}/metrics",
        f"  database  {_place_of(sample.dsn)}",
        "",
        "  While the demo runs, type",
        *(f"            {line}" for line in _reached()),
        f"            curl -s {url}/metrics | grep -E '^session_health_(eligible|gap)_sessions'",
        f"            {shell.command('check')}",
        f"            {shell.command('queries')}",
        "  and the commands on the page, in the folder of this config:",
        f"            cd {shlex.quote(str(config_file.parent))}",
        "",
        f"  Afterwards: demo --scenario {other}" + ("" if live else ", or --live, to see graphs move"),
        "  and serve, for your own database.",
        "",
        "  Ctrl-C ends the demo and removes the sample data.",
        "",
    ]
    return "\n".join(lines)


def _place_of(dsn: str) -> str:
    """The database and the server, without a login."""
    found = target(dsn, {})
    servers = ", ".join(f"{place.host}, port {place.port}" for place in found.places)
    return f"{found.database or found.user} on {servers}"


def _reached() -> Sequence[str]:
    """The lines that put this program on the PATH; empty if the shell finds the program."""
    program = Path(sys.executable).with_name("session-health-exporter")
    if not program.exists() or shutil.which(program.name) == str(program):
        return ()
    return (f'export PATH={shlex.quote(str(program.parent))}:"$PATH"',)
