"""`report`: collect once, and write the health report."""

import argparse
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from exporter.baseline.document import baselines_of_document
from exporter.commands.arguments import add_config_file, base_url, describe
from exporter.commands.loading import load, plans_of, shell_for
from exporter.commands.output import write
from exporter.commands.process import finish
from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.present.report.account import Baseline, report_on
from exporter.present.report.document import Document, DocumentError, read_document
from exporter.present.report.formats import FORMATS
from exporter.text.exits import ExitCode, UsageError
from exporter.text.times import parse_duration, parse_moment


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "report --baseline before.json --output report.md")
    add_config_file(parser)
    parser.add_argument("--format", choices=tuple(FORMATS), default="markdown", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: to stdout")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="compare with an earlier report, written with --format json"
    )
    parser.add_argument("--prometheus", type=base_url, metavar="URL", help="compare with what it knows of a moment")
    parser.add_argument(
        "--match",
        type=_matcher,
        action="append",
        default=[],
        metavar="LABEL=VALUE",
        help="of which exporter there, where several measure pipelines of one name; may be repeated",
    )
    parser.add_argument(
        "--at", type=_past_moment, metavar="TIME", help="that moment: 2025-09-17T08:00:00Z, a date, or 7d back"
    )
    parser.set_defaults(command=run)


def _matcher(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not equals or not label.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not a label and its value: write cluster=east")
    return label, value


def _past_moment(text: str) -> datetime:
    with suppress(ValueError):
        return datetime.now(UTC) - parse_duration(text)
    try:
        return parse_moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}; or write a duration back from now, as 7d") from None


def run(options: argparse.Namespace) -> ExitCode:
    """Write the report on every pipeline of the config."""
    if (options.prometheus is None) != (options.at is None):
        raise UsageError("--prometheus and --at belong together: where the history is, and which moment of it")
    if options.baseline and options.prometheus:
        raise UsageError("--baseline and --prometheus exclude each other: name one past to compare with")
    baseline = _baseline(options.baseline) if options.baseline else None
    statuses = finish(collect_once(plans_of(load(options)).values()))
    pasts: dict[str, Baseline] = {}
    if baseline is not None:
        pasts = baselines_of_document(baseline, options.baseline.name, statuses, DIMENSIONS)
    elif options.prometheus:
        from exporter.baseline.prometheus import baselines_of_prometheus  # noqa: PLC0415 - loads the HTTP client

        pasts = finish(
            baselines_of_prometheus(options.prometheus, options.at, dict(options.match), statuses, DIMENSIONS)
        )
    report = report_on(statuses, DIMENSIONS, time.time(), pasts, shell_for(options.config_file))
    write(FORMATS[options.format], report, options.output)
    # A report is written in every case; the exit code tells a job that a number is missing.
    return ExitCode.DONE if all(status.snapshot for status in statuses) else ExitCode.NOT_MEASURED


def _baseline(path: Path) -> Document:
    try:
        return read_document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"--baseline {path} cannot be read ({why})") from None
    except DocumentError as error:
        raise UsageError(f"--baseline {path}: {error}") from None
