"""`gaps`: list every session with a gap, or write a worklist."""

import argparse
import sys
from pathlib import Path

from exporter.commands.arguments import add_config_file, describe
from exporter.commands.loading import load, plans_of
from exporter.commands.output import copy_out, hand_over, progress
from exporter.commands.process import finish
from exporter.commands.worklists import chosen_pipeline, exit_code_of, say_hidden, say_listed, say_not_measured
from exporter.mend.forms import FORMATS, Document
from exporter.mend.gaps import NoSuchSegmentError, columns_of, count_gaps, in_rows, list_gaps
from exporter.mend.spool import temporary_file
from exporter.mend.whole import Listing, ListNotMeasuredError, narrowed
from exporter.mend.worklist import BATCH_SIZE, LARGEST_BATCH, Author, FilterPart
from exporter.model.metric import is_folded
from exporter.model.sections import Config
from exporter.model.states import BAD_ROWS, GAP_REASONS, gap_reasons
from exporter.plan.gaps import GapFilter
from exporter.plan.plan import Plan
from exporter.text.exits import ExitCode, UsageError
from exporter.text.files import new_file
from exporter.text.names import known_names
from exporter.text.terminal import printable


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(
        parser,
        "gaps --record invoices --format ndjson | jq -r .session",
        "All or nothing: gaps prints the list only when the list is complete.  Exit codes: 0 the list is complete; "
        "2 wrong usage or config; 3 something could not be measured: no list, or policies hide rows.",
    )
    add_config_file(parser)
    parser.add_argument("--pipeline", metavar="NAME", help="the pipeline; required if the config has several pipelines")
    parser.add_argument(
        "--record",
        metavar="NAME",
        help="list only gaps of this record; the exporter reads no other record table",
    )
    parser.add_argument("--reason", choices=GAP_REASONS, help="list only gaps with this reason")
    parser.add_argument(
        "--segment",
        metavar="NAME",
        help="list only gaps of this segment, named as on the metrics; needs sessions.segment",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="csv, ndjson (one JSON object per line) or json (one array); default: csv",
    )
    parser.add_argument("--count", action="store_true", help="print only the number of sessions")
    parser.add_argument(
        "--worklist",
        type=Path,
        metavar="FILE",
        help="write a worklist for a backfill, in batches, to a new file; verify reads the file after the backfill",
    )
    parser.add_argument(
        "--batch-size",
        dest="batch_size",
        type=_batch_size,
        metavar="NUMBER",
        help=f"sessions in one batch of the worklist (default: {BATCH_SIZE})",
    )
    parser.set_defaults(command=run)


def _batch_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {LARGEST_BATCH}")
    return int(text)


def run(options: argparse.Namespace) -> ExitCode:
    """List the gaps of one pipeline."""
    config = load(options)
    plan = _plan(config, options)
    filters = FilterPart(record=options.record, reason=options.reason, segment=options.segment)
    try:
        if options.count:
            found = finish(count_gaps(plan, filters.wanted))
            hand_over(f"{found.count}\n")
        elif options.worklist is not None:
            found = _write_worklist(plan, filters, options)
        else:
            found = _list_gaps(plan, filters.wanted, options.format or "csv")
    except NoSuchSegmentError:
        raise UsageError(
            f"--segment {printable(options.segment)}: no eligible session of the window has this segment; name a "
            "segment as the label of session_health_segment_sessions does"
        ) from None
    except ListNotMeasuredError as error:
        is_alone = options.record or len(plan.pipeline.records) == 1
        alone = "" if is_alone else "; --record NAME lists the gaps of one record without reading the others"
        return say_not_measured(error, f"no list: gaps needs every record of the list{alone}")
    say_hidden(found.restricted, "the list has only gaps of visible rows")
    return exit_code_of(found)


def _plan(config: Config, options: argparse.Namespace) -> Plan:
    """The plan of the chosen pipeline and record.  Raises UsageError."""
    name = chosen_pipeline(config, options.pipeline)
    records = config.pipelines[name].records
    if options.record is not None and options.record not in records:
        raise UsageError(f"--record {options.record} is not a record of {name}{known_names(options.record, records)}")
    wanted = [records[options.record]] if options.record else [*records.values()]
    if options.reason and not any(options.reason in gap_reasons(record) for record in wanted):
        which = options.record or "every record"
        why = "has satisfied_by: any_version" if options.reason in BAD_ROWS else "needs no such number of rows"
        raise UsageError(f"--reason {options.reason} never makes a gap here: {which} {why}; choose another reason")
    if options.worklist is not None and (options.count or options.format):
        raise UsageError("--worklist has its own format: remove --count and --format")
    if options.batch_size is not None and options.worklist is None:
        raise UsageError("--batch-size needs --worklist: add --worklist FILE, or remove --batch-size")
    plan = plans_of(narrowed(config, name, [options.record] if options.record else None))[name]
    if options.segment is not None and not plan.has_segments:
        where = f"pipelines.{name}.sessions.segment"
        raise UsageError(f"--segment needs {where} in the config, such as {{columns: tenant}}")
    if options.segment is not None and is_folded(options.segment):
        raise UsageError(f"--segment {options.segment} stands for several segments: name one (gaps lists all of them)")
    return plan


def _list_gaps(plan: Plan, wanted: GapFilter, chosen: str) -> Listing:
    with temporary_file() as file:
        document = Document(file, columns_of(plan), FORMATS[chosen], on_terminal=sys.stdout.isatty())
        rows = in_rows(plan)
        with progress("listing") as on_progress:
            found = finish(list_gaps(plan, lambda gap: document.take(*rows(gap)), wanted, on_progress))
        document.end()
        file.seek(0)
        # The transaction has ended: a slow reader holds no locks on the server.
        copy_out(file)
    return found


def _write_worklist(plan: Plan, filters: FilterPart, options: argparse.Namespace) -> Listing:
    path: Path = options.worklist
    with new_file(path) as target, temporary_file() as body:
        author = Author(body, plan, options.batch_size or BATCH_SIZE)
        with progress("listing") as on_progress:
            found = finish(list_gaps(plan, author.take, filters.wanted, on_progress))
        header = author.publish(target, found, filters)
    say_listed(path, header, options.config_file)
    return found
