"""`check`: collect once, and compare every number with its limit."""

import argparse
import os

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.loading import load, plans_of
from exporter.commands.output import say, write
from exporter.commands.process import finish
from exporter.measure.supervise import collect_once
from exporter.model.sections import SEVERITIES
from exporter.present.check import Check, as_annotations
from exporter.present.check_formats import FORMATS
from exporter.text.exits import ExitCode, UsageError


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(
        parser,
        "check --fail-on critical --format junit > session-health.xml",
        "Exit codes: 0 healthy; 1 a limit is broken (see --fail-on); 2 wrong usage or config; 3 something could not "
        "be measured; 4 no session to judge.  A broken critical limit (1) wins over 3; 3 wins over a broken warning "
        "limit.",
    )
    add_config_file(parser)
    parser.add_argument(
        "--format", choices=tuple(FORMATS), default="text", help="format of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--fail-on",
        dest="fail_on",
        choices=SEVERITIES,
        default="warning",
        help="the lowest severity of a broken limit that makes the exit code 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--only-broken",
        dest="only_broken",
        action="store_true",
        help="print only broken limits and missing numbers (format text)",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Check every pipeline of the config."""
    if options.only_broken and options.format != "text":
        raise UsageError("--only-broken needs --format text: programs get every line")
    check = Check(finish(collect_once(plans_of(load(options)).values())), options.fail_on, options.only_broken)
    write(FORMATS[options.format], check)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # GitHub's runner reads both streams; standard output is for the chosen format.
        for line in as_annotations(check):
            say(line)
    return check.exit_code
