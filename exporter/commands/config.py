"""`config check`: list every problem of the config file, and with `--connect` of the databases."""

import argparse
import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress

from exporter.commands.arguments import add_config_file, add_log, describe
from exporter.commands.loading import warn_of_unread
from exporter.commands.output import counted, tell
from exporter.commands.process import finish
from exporter.config.read import ConfigError, Problem, load_config
from exporter.connection.parameters import UrlError
from exporter.connection.target import target
from exporter.measure.database import url_of
from exporter.model.fault import CollectionError
from exporter.model.sections import Database
from exporter.setup.findings import findings_text, has_errors
from exporter.setup.preflight import preflight
from exporter.text.exits import ExitCode


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command `config check` and its arguments."""
    describe(parser, "config check --connect")
    summary = "list every problem of the config file, without a connection"
    check = parser.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "check",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    describe(check, "config check --connect --config.file shop.yaml")
    add_log(check)
    add_config_file(check)
    check.add_argument(
        "--connect",
        action="store_true",
        help="also connect: list every problem in the databases that prevents a measurement, and collect once",
    )
    check.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Check the config file."""
    config = load_config(options.config_file, os.environ)
    urls = finish(_urls(config.databases))
    warn_of_unread(urls.values())
    _refuse(str(options.config_file), urls)
    records = sum(len(pipeline.records) for pipeline in config.pipelines.values())
    counts = (
        counted(len(config.databases), "database"),
        counted(len(config.pipelines), "pipeline"),
        counted(records, "record"),
    )
    tell(f"{options.config_file}: valid ({', '.join(counts)})\n")
    if not options.connect:
        return ExitCode.DONE
    groups = finish(preflight(config))
    tell(findings_text(groups))
    return ExitCode.NOT_MEASURED if has_errors(groups) else ExitCode.DONE


async def _urls(databases: Mapping[str, Database]) -> dict[str, str | None]:
    """The URL of each database, without databases whose `url_file` cannot be read here.

    The value is None if the config has no URL: libpq's PG* variables apply.
    """
    found = {}
    for name, database in databases.items():
        with suppress(CollectionError, OSError):
            async with asyncio.timeout(database.connect_timeout.total_seconds()):
                found[name] = await url_of(database)
    return found


def _refuse(source: str, urls: Mapping[str, str | None]) -> None:
    """Raises ConfigError with every mistake in URLs and PG* variables."""
    problems: list[Problem] = []
    for name, url in urls.items():
        try:
            target(url, os.environ)
        except UrlError as error:
            problems += (Problem(f"databases.{name}", str(mistake)) for mistake in error.mistakes)
    if problems:
        raise ConfigError(source, tuple(problems))
