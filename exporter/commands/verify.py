"""`verify`: compare a worklist with the database after a backfill."""

import argparse
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.loading import load, plans_of
from exporter.commands.output import progress, say, write
from exporter.commands.process import finish
from exporter.commands.worklists import say_hidden, say_listed, say_not_measured
from exporter.mend.spool import temporary_file
from exporter.mend.verify import Allowed, ignore_remaining, verify
from exporter.mend.verify_formats import FORMATS, VerifyResult
from exporter.mend.whole import ListNotMeasuredError, narrowed
from exporter.mend.worklist import Author, Header, Worklist, WorklistError, pipeline_of
from exporter.model.sections import Config
from exporter.model.terms import names_of
from exporter.plan.plan import Plan
from exporter.text.exits import ExitCode, UsageError
from exporter.text.files import FileRefusedError, new_file, open_regular
from exporter.text.names import known_names


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(
        parser,
        "verify before.jsonl --still rest.jsonl",
        "Exit codes: 0 every session of the worklist is fixed; 1 a session is not fixed, or the config now decides "
        "differently about gaps (see --allow-vanished and --allow-changed); 2 wrong usage or config, or the file is "
        "incomplete or from another database, pipeline or window; 3 something could not be measured.",
    )
    add_config_file(parser)
    parser.add_argument("worklist", type=Path, metavar="FILE", help="a worklist written by gaps --worklist")
    parser.add_argument(
        "--format", choices=tuple(FORMATS), default="text", help="format of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--still",
        type=Path,
        metavar="FILE",
        help="write the sessions that still have a gap to this new file, as a worklist",
    )
    parser.add_argument(
        "--allow-vanished",
        dest="allow_vanished",
        action="store_true",
        help="also exit with 0 if sessions are deleted, left the window or are no longer eligible",
    )
    parser.add_argument(
        "--allow-changed",
        dest="allow_changed",
        action="append",
        default=[],
        metavar="KEY",
        help="also exit with 0 if this key of the config, such as records.invoices.version.current, has changed "
        "since the worklist was made; may be repeated",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Verify one worklist."""
    path: Path = options.worklist
    config = load(options)
    try:
        with _opened(path) as file:
            return _verify(Worklist(file), config, options)
    except WorklistError as error:
        raise UsageError(f"{path}: {error}") from None
    except ListNotMeasuredError as error:
        return say_not_measured(error, "nothing is verified: verify needs every record of the worklist")


def _opened(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except (OSError, FileRefusedError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read ({why}): name a worklist written by gaps --worklist") from None


def _verify(worklist: Worklist, config: Config, options: argparse.Namespace) -> ExitCode:
    header, still = worklist.header, options.still
    pipeline_of(header, config.pipelines)
    plan = plans_of(narrowed(config, header.pipeline, [part.record for part in header.records]))[header.pipeline]
    allowed = Allowed(options.allow_vanished, _allowed_keys(options.allow_changed, header, plan))
    with new_file(still) if still else nullcontext() as target, temporary_file() as body:
        author = Author(body, plan, header.batch_size)
        with progress("verifying", header.sessions) as on_progress:
            found = finish(verify(plan, worklist, author.add if target else ignore_remaining, on_progress))
        is_of_another_config = _say_changed(found.changed, allowed)
        if target and is_of_another_config:
            say(f"{still} is not written: the worklist was made with another config")
        rest = None
        if target and not is_of_another_config:
            rest = author.publish(target, found.listing, header.filters, header.start)
    if header.identity is None or found.listing.identity is None:
        say(
            "session-health-exporter: cannot check that the worklist is from this database: no identity (the role "
            "could not read pg_control_system(), now or for the worklist)"
        )
    say_hidden(found.listing.restricted, "verify checked only visible rows")
    if rest is not None:
        say_listed(still, rest, options.config_file)
    outcome = VerifyResult(found, options.worklist.name, allowed)
    write(FORMATS[options.format], outcome)
    return found.exit_code(allowed)


def _allowed_keys(names: Sequence[str], header: Header, plan: Plan) -> frozenset[str]:
    known = {*header.terms, *names_of(plan.pipeline, plan.sections)}
    for name in names:
        if name not in known:
            raise UsageError(f"--allow-changed {name} is not a key that decides about gaps{known_names(name, known)}")
    return frozenset(names)


def _say_changed(changed: Sequence[str], allowed: Allowed) -> bool:
    """Print the changed keys of the config; returns whether a changed key is not allowed."""
    if kept := [name for name in changed if name in allowed.keys]:
        say(f"session-health-exporter: changed since the worklist was made, and allowed: {', '.join(kept)}")
    if refused := [name for name in changed if name not in allowed.keys]:
        flags = shlex.join(word for name in refused for word in ("--allow-changed", name))
        say(
            f"session-health-exporter: changed since the worklist was made: {', '.join(refused)}; verify with the "
            f"earlier config or, if the change is intended, add {flags}"
        )
    return bool(refused)
