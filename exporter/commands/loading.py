"""The config of a command, read with the variables of the environment."""

import argparse
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from exporter.config.read import Loaded, load_and_show
from exporter.connection.target import unread
from exporter.control import control
from exporter.dimensions import DIMENSIONS
from exporter.model.sections import Config
from exporter.plan.plan import Plan, compile_plans
from exporter.present.report.shell import Shell

log = logging.getLogger(__name__)


def load(options: argparse.Namespace) -> Config:
    """The config of `--config.file`.  Raises ConfigError."""
    return loaded(options).config


def loaded(options: argparse.Namespace) -> Loaded:
    """The config of `--config.file`, also for people.  Raises ConfigError."""
    found = load_and_show(options.config_file, os.environ)
    # A url_file is read at each connect, not here.
    warn_of_unread(database.url for database in found.config.databases.values() if database.url_file is None)
    return found


def plans_of(config: Config) -> dict[str, Plan]:
    """The plan of each pipeline of a config, with every dimension."""
    return compile_plans(config, DIMENSIONS, control())


def warn_of_unread(urls: Iterable[str | None]) -> None:
    """Log the variables of the environment that libpq reads and the exporter does not."""
    found = {variable: remedy for url in urls for variable, remedy in unread(url, os.environ).items()}
    if found:
        told = (f"{variable} is set and not read: {remedy}" for variable, remedy in found.items())
        log.warning("environment.unread", extra={"variables": ",".join(found), "error": "; ".join(told)})


def shell_for(config_file: Path) -> Shell:
    """Writes commands that work in any folder."""
    return Shell(str(config_file.absolute()))
