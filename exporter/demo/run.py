"""The demo from start to end: a sample platform, the exporter, and the next commands."""

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path

from exporter import APPLICATION_NAME
from exporter.config.read import Loaded, load_and_show
from exporter.connection.target import target
from exporter.demo.live import keep_writing
from exporter.demo.platform import Report, SamplePlatform
from exporter.demo.scenarios import SCENARIOS
from exporter.present.report.shell import Shell
from exporter.serve.run import WebOptions, serve


async def demo(
    platform: AbstractAsyncContextManager[SamplePlatform],
    *,
    config_file: Path,
    scenario: str,
    live: bool,
    web: WebOptions,
    stop: asyncio.Event,
    report: Report,
) -> None:
    """Serve the sample platform in a scenario until `stop` is set.

    The config is read with the environment of this process and the sample's DATABASE_URL.

    Raises ConfigError, ListenError, EmbeddedPostgresError, SampleError.
    """
    chosen = SCENARIOS[scenario]
    async with platform as sample:
        environ = {**os.environ, "DATABASE_URL": sample.dsn}
        writing = asyncio.create_task(keep_writing(sample.writer_dsn, chosen.loss)) if live else None
        try:
            await serve(
                lambda: _trusting(load_and_show(config_file, environ)),
                web,
                stop,
                announce=lambda urls: report(_welcome(scenario, urls, sample, config_file)),
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


def _welcome(scenario: str, urls: Sequence[str], sample: SamplePlatform, config_file: Path) -> str:
    url, folder = urls[0], config_file.absolute().parent
    program = _program(folder)
    config = () if config_file.name == Shell().config_file else ("--config.file", config_file.name)

    def command(*words: str) -> str:
        return shlex.join([program, *words, *config])

    worklist = sample.url_file.with_name("worklist.jsonl")
    other = next(name for name in SCENARIOS if name != scenario)
    lines = [
        "",
        f"  page      {url}/",
        f"  metrics   {url}/metrics",
        f"  database  {_place_of(sample.dsn)}",
        "",
        "  While the demo runs, type in another terminal:",
        "",
        f"    cd {shlex.quote(str(folder))}",
        f'    export DATABASE_URL="$(cat {shlex.quote(str(sample.url_file))})"',
        f"    {command('check')}",
        f"    {command('gaps')}",
        f"    {command('report')}",
        f"    {command('gaps', '--worklist', str(worklist))}",
        f"    {command('queries')}",
        f"    curl -s {url}/metrics | grep -E '^session_health_(eligible|gap)_sessions'",
        *_reached(),
        "",
        "  Ctrl-C ends the demo and removes the sample data.  Afterwards, for other data and for your own database:",
        "",
        f"    {shlex.join([program, 'demo', '--scenario', other, '--live'])}",
        f"    {shlex.join([program, 'init', '--help'])}",
        "",
    ]
    return "\n".join(lines)


def _place_of(dsn: str) -> str:
    """The database and the server, without a login."""
    found = target(dsn, {})
    servers = ", ".join(f"{place.host}, port {place.port}" for place in found.places)
    return f"{found.database or found.user} on {servers}"


def _program(folder: Path) -> str:
    """The name or path of this program for a shell in the folder."""
    path = Path(sys.executable).with_name(APPLICATION_NAME)
    if _is_found(path):
        return path.name
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _reached() -> Sequence[str]:
    """The lines that put this program on the PATH; empty if the shell finds the program."""
    path = Path(sys.executable).with_name(APPLICATION_NAME)
    if _is_found(path):
        return ()
    return (
        "",
        "  The commands on the page need one more line:",
        "",
        f'    export PATH={shlex.quote(str(path.parent))}:"$PATH"',
    )


def _is_found(path: Path) -> bool:
    """Whether the name is enough; the same if the program is not installed."""
    return not path.exists() or shutil.which(path.name) == str(path)
