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
from exporter.commands.output import give_up_output, say
from exporter.text import logs, streams
from exporter.text.exits import ExitCode, NotMeasuredError, StoppedError, UsageError

log = logging.getLogger(__name__)

COMMANDS: Final = {
    "serve": "collect on the interval and serve /metrics",
    "demo": "the same on a private PostgreSQL with sample data",
    "check": "collect once and hold every number against its limit",
    "gaps": "list every session with a gap: the key, the record, the reason",
    "verify": "measure the sessions of a worklist again: fixed, still a gap, vanished, new since",
    "queries": "print exactly the SQL that a collection runs",
    "report": "collect once and write the health report",
    "rules": "print the alerting rules for Prometheus, as they suit your job, interval and addresses",
    "init": "connect, and propose a commented config for the tables there",
    "config": "about the config file",
}
"""Every command and its summary; `exporter.commands` has a module for each."""

Command = Callable[[argparse.Namespace], ExitCode]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    streams.settle()
    words = sys.argv[1:] if arguments is None else arguments
    # The command is the first word that is no option: only its module is loaded.
    wanted = [word for word in words if not word.startswith("-")][:1]
    options = build_parser(wanted).parse_args(words)
    logs.configure(options.log_level, options.log_format)
    command: Command = options.command
    try:
        code = command(options)
        # A short output leaves only here; at exit no handler would catch that its reader is gone.
        sys.stdout.flush()
    except UsageError as error:
        say(error.said)
        return ExitCode.USAGE
    except NotMeasuredError as error:
        say(f"{APPLICATION_NAME}: {error}")
        return ExitCode.NOT_MEASURED
    except BrokenPipeError:
        # The reader of the output has read enough.
        give_up_output()
        return ExitCode.DONE
    except KeyboardInterrupt:
        return _die_of(signal.SIGINT)
    except StoppedError:
        return _die_of(signal.SIGTERM)
    except Exception:
        # Python would exit with 1, the code of a broken limit.
        log.exception("command.crashed")
        return ExitCode.NOT_MEASURED
    return code


def build_parser(loaded: Collection[str] = COMMANDS.keys()) -> argparse.ArgumentParser:
    """The parser of every command; only the commands in `loaded` have their arguments."""
    parser = argparse.ArgumentParser(
        prog=APPLICATION_NAME,
        allow_abbrev=False,
        description="Prometheus exporter that answers: is our data whole?",
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
    """End by the signal itself, as the sender of the signal expects, a shell's loop too; without a traceback.

    https://www.cons.org/cracauer/sigint.html
    """
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    return 128 + number
