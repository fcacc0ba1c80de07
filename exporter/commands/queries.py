"""`queries`: print the SQL of a collection."""

import argparse

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.loading import load, plans_of
from exporter.commands.output import hand_over
from exporter.commands.process import finish
from exporter.measure.queries import NOTE, explained, script
from exporter.text.exits import ExitCode


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "queries --explain | less")
    add_config_file(parser)
    parser.add_argument(
        "--explain", action="store_true", help="connect, and add the plan (EXPLAIN) of every measuring query"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Print the statements of every pipeline of the config."""
    plans = plans_of(load(options)).values()
    hand_over(NOTE)
    if not options.explain:
        hand_over(script(plans))
        return ExitCode.DONE
    for plan in plans:
        hand_over(finish(explained(plan)))
    return ExitCode.DONE
