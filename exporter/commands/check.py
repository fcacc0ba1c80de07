"""`check`: collect once, and hold every number against its limit."""

import argparse
import os
import sys

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.loading import load, plans_of
from exporter.commands.output import write
from exporter.commands.process import finish
from exporter.measure.supervise import collect_once
from exporter.model.sections import SEVERITIES
from exporter.present.check import Check, as_annotations
from exporter.present.check_formats import FORMATS
from exporter.text.exits import ExitCode


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(
        parser,
        "check --fail-on critical --format junit > session-health.xml",
        "Exit codes, the first that holds: 1 a critical limit is broken, 3 something could not be measured, "
        "1 a warning limit is broken, 4 no session to judge, 0 healthy; 2 the config cannot be used.",
    )
    add_config_file(parser)
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: %(default)s")
    parser.add_argument(
        "--fail-on",
        dest="fail_on",
        choices=SEVERITIES,
        default="warning",
        help="the least severe broken limit that makes the exit code 1 (default: %(default)s)",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Check every pipeline of the config."""
    check = Check(finish(collect_once(plans_of(load(options)).values())), options.fail_on)
    write(FORMATS[options.format], check)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads both streams; standard output belongs to the chosen format.
        sys.stderr.write(as_annotations(check))
    return check.exit_code
