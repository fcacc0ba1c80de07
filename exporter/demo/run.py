"""The demo from start to end: a sample platform, the exporter on it, and what to try next."""

import asyncio
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from exporter.demo.live import keep_writing
from exporter.demo.platform import Report, SamplePlatform
from exporter.demo.scenarios import SCENARIOS
from exporter.report.shell import Shell
from exporter.schema import Config
from exporter.serve import WebOptions, serve


async def demo(
    platform: AbstractAsyncContextManager[SamplePlatform],
    *,
    scenario: str,
    live: bool,
    load: Callable[[Mapping[str, str]], Config],
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
                announce=lambda urls: report(_welcome(scenario, urls, sample.config_file, live=live)),
            )
        finally:
            if writing is not None:
                writing.cancel()
                with suppress(asyncio.CancelledError):
                    await writing
    report("stopped; nothing is left behind")


def _trusting(config: Config) -> Config:
    """The config for a sample: whoever made its tables is the role that reads them, on a server that was named."""
    databases = {name: one.model_copy(update={"allow_superuser": True}) for name, one in config.databases.items()}
    return config.model_copy(update={"databases": databases})


def _welcome(scenario: str, urls: Sequence[str], config_file: Path, *, live: bool) -> str:
    url, shell = urls[0], Shell(str(config_file))
    other = next(name for name in SCENARIOS if name != scenario)
    lines = [
        "",
        f"  page      {url}/",
        f"  metrics   {url}/metrics",
        "",
        "  While this runs, type",
        f"            curl -s {url}/metrics | grep -E '^session_health_(eligible|gap)_sessions'",
        f"            {shell.command('check')}",
        f"            {shell.command('queries')}",
        "  and what the page tells you to type, in the folder of this config:",
        f"            cd {shlex.quote(str(config_file.parent))}",
        "",
        f"  Afterwards: demo --scenario {other}" + ("" if live else ", or --live, to see graphs move"),
        "  and serve, which is the same on your own database.",
        "",
        "  Ctrl-C ends it and leaves nothing behind.",
        "",
    ]
    return "\n".join(lines)
