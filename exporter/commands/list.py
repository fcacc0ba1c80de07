"""`list`: list the sessions or rows that a limit counts."""

import argparse
import sys

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.loading import load, plans_of
from exporter.commands.output import copy_out, hand_over, progress
from exporter.commands.process import finish
from exporter.commands.worklists import chosen_pipeline, exit_code_of, say_hidden, say_not_measured
from exporter.dimensions import DIMENSIONS
from exporter.mend.forms import FORMATS, Document
from exporter.mend.lists import columns_of, count_members, list_members
from exporter.mend.spool import temporary_file
from exporter.mend.whole import Listing, ListNotMeasuredError, narrowed
from exporter.model.listing import Members, RowList
from exporter.model.sections import Config
from exporter.model.states import GAP_REASONS
from exporter.plan.plan import Plan
from exporter.text.exits import ExitCode, UsageError
from exporter.text.names import known_names
from exporter.text.terminal import printable

LISTS: dict[str, Members] = {
    name: members for dimension in DIMENSIONS for name, members in dimension.every_list.items()
}
"""Every list by name."""

GAPS: dict[str, str] = {
    name: f"gaps {limit.advice.gaps}".strip()
    for dimension in DIMENSIONS
    for limit in dimension.limits
    for name in filter(None, (limit.name, limit.former_name))
    if limit.advice.gaps is not None
}
"""The command that lists what a limit on gaps counts, by the name of the limit."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(
        parser,
        "list orphaned_records --record invoices --format ndjson | jq -r .session",
        "For gaps, use the command gaps.  All or nothing: list prints the list only when the list is complete.  Exit "
        "codes: 0 the list is complete; 2 wrong usage or config; 3 something could not be measured: no list, or "
        "policies hide rows.",
    )
    parser.add_argument("name", metavar="NAME", type=_name, help=f"one of {', '.join(LISTS)}")
    add_config_file(parser)
    parser.add_argument("--pipeline", metavar="NAME", help="the pipeline; required if the config has several pipelines")
    parser.add_argument("--record", metavar="NAME", help="list only rows of this record; no other record table is read")
    parser.add_argument("--check", metavar="NAME", help="list only sessions that fail this check")
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="csv, ndjson (one JSON object per line) or json (one array); default: csv",
    )
    parser.add_argument("--count", action="store_true", help="print only the number that the list explains")
    parser.set_defaults(command=run)


def _name(text: str) -> str:
    """The name of a list; raises ArgumentTypeError."""
    if text in LISTS:
        return text
    command = GAPS.get(text, f"gaps --reason {text}" if text in GAP_REASONS else None)
    if command is not None:
        raise argparse.ArgumentTypeError(f"{text} counts gaps: use `{command}`")
    raise argparse.ArgumentTypeError(f"{printable(text)!r} is no list{known_names(text, LISTS)}")


def run(options: argparse.Namespace) -> ExitCode:
    """List what a number of one pipeline counts."""
    config = load(options)
    pipeline = chosen_pipeline(config, options.pipeline)
    subjects = _subjects(config, pipeline, options)
    of_rows = isinstance(LISTS[options.name], RowList)
    plan = plans_of(narrowed(config, pipeline, subjects if of_rows else ()))[pipeline]
    try:
        if options.count:
            found = finish(count_members(plan, options.name, subjects))
            hand_over(f"{found.count}\n")
        else:
            found = _write(plan, options.name, subjects, options.format or "csv")
    except ListNotMeasuredError as error:
        label = LISTS[options.name].label
        alone = f"; --{label} NAME lists one {label} without the others" if len(subjects) > 1 else ""
        return say_not_measured(error, f"no list: list needs every {label or 'session'} of the list{alone}")
    say_hidden(found.restricted, "the list has only visible rows")
    return exit_code_of(found)


def _subjects(config: Config, pipeline: str, options: argparse.Namespace) -> tuple[str, ...]:
    """The records or checks to list, or the empty name for the pipeline.  Raises UsageError."""
    members, given = LISTS[options.name], {"record": options.record, "check": options.check}
    for label, name in given.items():
        if name is not None and label != members.label:
            raise UsageError(f"list {options.name} has no --{label}: remove the option")
    known = members.subjects(config.pipelines[pipeline])
    if not known:
        raise UsageError(f"nothing to list: pipeline {pipeline} does not count {options.name}: set {members.needs}")
    name = given.get(members.label or "")
    if name is None:
        return known
    if name not in known:
        raise UsageError(
            f"--{members.label} {name} of {pipeline} has no {options.name}: choose one of {', '.join(known)}"
            if name in config.pipelines[pipeline].records
            else f"--{members.label} {name} is not a {members.label} of {pipeline}{known_names(name, known)}"
        )
    return (name,)


def _write(plan: Plan, name: str, subjects: tuple[str, ...], chosen: str) -> Listing:
    with temporary_file() as file:
        columns = columns_of(plan, name, subjects[0])
        document = Document(file, columns, FORMATS[chosen], on_terminal=sys.stdout.isatty())
        with progress("listing") as on_progress:
            found = finish(list_members(plan, name, subjects, document.take, on_progress))
        document.end()
        file.seek(0)
        # The transaction has ended: a slow reader holds no locks on the server.
        copy_out(file)
    return found
