"""`init`: connect to a database, and propose a config."""

import argparse
import os
from functools import partial
from pathlib import Path

from exporter.commands.arguments import describe
from exporter.commands.loading import shell_for, warn_of_unread
from exporter.commands.output import can_ask, hand_over, say, which
from exporter.commands.process import finish
from exporter.config.read import parse_database
from exporter.model.sql import TableName, parse_table_name
from exporter.setup.survey import survey
from exporter.text.exits import ExitCode
from exporter.text.files import refuse_existing, save_new


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "init --sessions public.orders --output shop.yaml")
    parser.add_argument(
        "--database.url",
        dest="database_url",
        metavar="URL",
        help="the database (default: DATABASE_URL, else the PG* variables); init never writes the URL into the config",
    )
    parser.add_argument(
        "--sessions",
        type=_table,
        metavar="TABLE",
        help="the table of sessions (default: the most likely table)",
    )
    parser.add_argument(
        "--record",
        dest="records",
        action="append",
        type=_table,
        metavar="TABLE",
        help="a record table; may be repeated (default: every table that references the table of sessions)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the config to this new file (default: standard output)"
    )
    parser.set_defaults(command=run)


def _table(text: str) -> TableName:
    try:
        return parse_table_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def run(options: argparse.Namespace) -> ExitCode:
    """Write a proposal for the tables of one database."""
    url = options.database_url or os.environ.get("DATABASE_URL") or None
    database = parse_database(url, "--database.url" if options.database_url else "DATABASE_URL")
    warn_of_unread([url])
    if url is None:
        given = sorted(name for name in os.environ if name.startswith("PG"))
        say(
            "no --database.url and no DATABASE_URL: connecting by the PG* variables "
            f"({', '.join(given) or 'none is set: the defaults of libpq'})"
        )
    output: Path | None = options.output
    if output is not None:
        refuse_existing(output)
    ask = partial(which, "Several tables may hold the sessions:") if can_ask() else None
    proposal = finish(survey(database, options.sessions, options.records or (), has_url=url is not None, ask=ask))
    for remark in proposal.said:
        say(remark)
    if options.database_url:
        say("set DATABASE_URL before you use the config: the config reads the url from DATABASE_URL")
    if output is None:
        hand_over(proposal.text)
        return ExitCode.DONE
    save_new(output, proposal.text.encode(errors="replace"))
    say(f"next: read {output}, then {shell_for(output).command('config', 'check', '--connect')}")
    return ExitCode.DONE
