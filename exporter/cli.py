"""The command line: reads the arguments, runs one command, and turns errors into exit codes."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Final

from exporter import APPLICATION_NAME, __version__
from exporter.commands.arguments import add_log, describe
from exporter.commands.output import give_up_output, say, tell
from exporter.text import logs, streams
from exporter.text.exits import ExitCode, NotMeasuredError, StoppedError, UsageError

log = logging.getLogger(__name__)

COMMANDS: Final = {
    "serve": "collect at every interval and serve /metrics",
    "demo": "run the exporter on a temporary PostgreSQL with sample data",
    "check": "collect once and compare every number with its limit",
    "gaps": "list every session with a gap: key, record and reason",
    "list": "list what another number counts: failed checks, stuck sessions, invalid or orphaned rows",
    "verify": "compare a worklist with the database after a backfill: fixed, still a gap, vanished or new",
    "queries": "print the exact SQL of a collection",
    "report": "collect once and write the health report",
    "rules": "print the Prometheus alerting rules for your job, interval and URLs",
    "init": "connect to a database and propose a commented config for its tables",
    "config": "check the config file",
}
"""Every command and its summary; `exporter.commands` has a module for each command."""

Command = Callable[[argparse.Namespace], ExitCode]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    streams.settle()
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        logs.configure(options.log_level, options.log_format)
        command: Command = options.command
        code = command(options)
    except UsageError as error:
        say(error.said)
        return ExitCode.USAGE
    except NotMeasuredError as error:
        say(f"{APPLICATION_NAME}: {error}")
        return ExitCode.NOT_MEASURED
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed the pipe.
        give_up_output()
        return ExitCode.DONE
    except KeyboardInterrupt:
        return _die_of(signal.SIGINT)
    except StoppedError:
        return _die_of(signal.SIGTERM)
    except Exception:
        # Python would exit with 1: the code of a broken limit.
        log.exception("command.crashed")
        return ExitCode.NOT_MEASURED
    return code


def _parse(words: Sequence[str]) -> argparse.Namespace:
    # The command is the first word that is not an option.  Only the module of the command is loaded.
    wanted = [word for word in words if not word.startswith("-")][:1]
    if wanted == ["serve"]:
        # Before the imports of the command, which take a moment.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return build_parser(wanted).parse_args(words)
    except SystemExit:
        tell("")  # an error of the output of --help reaches no handler later
        raise


def build_parser(loaded: Collection[str] = COMMANDS.keys()) -> argparse.ArgumentParser:
    """The parser of every command; only the commands in `loaded` have their arguments."""
    parser = argparse.ArgumentParser(
        prog=APPLICATION_NAME,
        allow_abbrev=False,
        description="Prometheus exporter for data completeness: missing, outdated and invalid records of sessions.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    describe(parser, "demo --scenario backfill")
    parser.add_argument("--version", action="version", version=f"{APPLICATION_NAME} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_log(command)
        if name in loaded:
            import_module(f"exporter.commands.{name}").declare(command)
    return parser


def _die_of(number: signal.Signals) -> int:
    """End by the signal itself, without a traceback: the sender of the signal, such as a shell, expects this end.

    https://www.cons.org/cracauer/sigint.html
    """
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    return 128 + number
