"""`demo`: the exporter on a temporary PostgreSQL with sample data."""

import argparse
import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.output import say
from exporter.commands.process import serve_until_stopped
from exporter.commands.serve import add_web, web_options
from exporter.demo.platform import SampleError, sample_platform
from exporter.demo.run import demo
from exporter.demo.scenarios import SCENARIOS
from exporter.embedded import EmbeddedPostgresError
from exporter.serve.listen import LOOPBACK_ADDRESS
from exporter.text.exits import ExitCode, NotMeasuredError


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "demo --scenario backfill --live")
    add_config_file(parser, None, "the commented sample config of the exporter")
    add_web(parser, LOOPBACK_ADDRESS)
    parser.add_argument(
        "--scenario",
        choices=tuple(SCENARIOS),
        default="healthy",
        help="the state of the sample data (default: %(default)s)",
    )
    parser.add_argument("--live", action="store_true", help="write new sessions all the time, so that graphs move")
    parser.add_argument(
        "--postgres.url",
        dest="postgres_url",
        metavar="URL",
        help="use this server: the demo creates a database and drops the database at the end "
        "(or SESSION_HEALTH_POSTGRES_URL)",
    )
    parser.add_argument(
        "--postgres.bin",
        dest="postgres_bin",
        type=Path,
        metavar="FOLDER",
        help="the folder with the programs initdb and postgres (or SESSION_HEALTH_POSTGRES_BIN)",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Serve sample data until a signal ends the process."""
    config_file: Path = options.config_file or tour()
    web = web_options(options, config_file)
    # Sample data need neither TLS nor passwords.
    web = replace(web, door=replace(web.door, is_silent=True))
    try:
        serve_until_stopped(
            lambda stop: demo(
                sample_platform(
                    SCENARIOS[options.scenario],
                    say,
                    options.postgres_url or os.environ.get("SESSION_HEALTH_POSTGRES_URL"),
                    options.postgres_bin,
                ),
                config_file=config_file,
                scenario=options.scenario,
                live=options.live,
                web=web,
                stop=stop,
                report=say,
            )
        )
    except (EmbeddedPostgresError, SampleError) as error:
        raise NotMeasuredError(str(error)) from None
    return ExitCode.DONE


def tour() -> Path:
    """The commented sample config: the file in the checkout, or the copy in the package."""
    checkout = Path(__file__).parent.parent.parent / "config.yaml"
    return checkout if checkout.exists() else Path(str(files("exporter.demo").joinpath("config.yaml")))
