"""`report`: collect once, and write the health report."""

import argparse
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

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
from exporter.present.report.links import Links
from exporter.text.exits import ExitCode, UsageError
from exporter.text.files import MB, FileRefusedError, read_bytes
from exporter.text.times import parse_duration, parse_moment


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "report --baseline before.json --output report.md")
    add_config_file(parser)
    parser.add_argument(
        "--format", choices=tuple(FORMATS), default="markdown", help="format of the report (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the report to this file (default: standard output)"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="compare with an earlier report, written with --format json"
    )
    parser.add_argument(
        "--prometheus",
        type=base_url,
        metavar="URL",
        help="compare with the values in this Prometheus at the time of --at",
    )
    parser.add_argument(
        "--match",
        type=_matcher,
        action="append",
        default=[],
        metavar="LABEL=VALUE",
        help="select one exporter by label, such as cluster=east, if several report this pipeline; may be repeated",
    )
    parser.add_argument(
        "--at",
        type=_past_moment,
        metavar="TIME",
        help="the time for --prometheus: 2025-09-17T08:00:00Z, a date such as 2025-09-17, or 7d for 7 days ago",
    )
    parser.add_argument(
        "--runbook-url",
        dest="runbooks",
        type=base_url,
        metavar="URL",
        help="the URL of your copy of docs/runbooks, for links in the report (default: no links)",
    )
    parser.set_defaults(command=run)


def _matcher(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not equals or not label.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not LABEL=VALUE: write for example cluster=east")
    return label, value


def _past_moment(text: str) -> datetime:
    with suppress(ValueError):
        return datetime.now(UTC) - parse_duration(text)
    try:
        return parse_moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}; or write a duration before now, such as 7d") from None


def run(options: argparse.Namespace) -> ExitCode:
    """Write the report on every pipeline of the config."""
    if (options.prometheus is None) != (options.at is None):
        raise UsageError("--prometheus and --at need each other: add --prometheus URL and --at TIME, or remove both")
    if options.baseline and options.prometheus:
        raise UsageError("--baseline and --prometheus exclude each other: remove one of the two")
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
    links = Links(options.runbooks, shell=shell_for(options.config_file))
    report = report_on(statuses, DIMENSIONS, time.time(), pasts, links)
    write(FORMATS[options.format], report, options.output)
    # `report` always writes a report; exit code 3 tells a job that numbers are missing.
    return ExitCode.DONE if all(status.snapshot for status in statuses) else ExitCode.NOT_MEASURED


LARGEST_BASELINE: Final = 64 * MB
"""Bytes: a report on 100 pipelines has 2 MB."""


def _baseline(path: Path) -> Document:
    try:
        return read_document(read_bytes(path, LARGEST_BASELINE))
    except (OSError, FileRefusedError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"--baseline {path} cannot be read ({why}): name a report written with --format json"
        ) from None
    except DocumentError as error:
        raise UsageError(f"--baseline {path}: {error}") from None
