"""`rules`: print the alerting rules."""

import argparse
import re
from datetime import timedelta

from exporter.commands.arguments import base_url, describe
from exporter.commands.output import write
from exporter.dimensions import DIMENSIONS
from exporter.rules.formats import FORMATS
from exporter.rules.groups import groups
from exporter.rules.settings import RuleSettings
from exporter.text.exits import ExitCode
from exporter.text.times import parse_duration


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "rules --runbook-url https://wiki.example/runbooks > session-health.yml")
    usual = RuleSettings()
    parser.add_argument("--job", default=usual.job, help="the job that scrapes the exporter (default: %(default)s)")
    parser.add_argument(
        "--interval",
        type=_interval,
        default=usual.interval,
        metavar="DURATION",
        help="the longest interval of collecting or scraping, by which all times are counted (default: 30s)",
    )
    parser.add_argument(
        "--dashboard-url",
        dest="dashboard_url",
        type=base_url,
        default=usual.dashboards,
        metavar="URL",
        help="where Grafana is (default: %(default)s, a placeholder)",
    )
    parser.add_argument(
        "--runbook-url",
        dest="runbook_url",
        type=base_url,
        default=usual.runbooks,
        metavar="URL",
        help="where docs/runbooks is (default: %(default)s, a placeholder)",
    )
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=_printed_path,
        default=usual.config_file,
        metavar="FILE",
        help="the exporter's config, as the commands in alerts name the file; not read (default: %(default)s)",
    )
    parser.add_argument(
        "--passing-label",
        dest="passing_labels",
        type=_label_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a label of targets that a restart, a reschedule or a deploy changes; repeatable, beside instance, pod, "
        "node and the like",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="prometheus", help="default: %(default)s")
    parser.set_defaults(command=run)


def _interval(text: str) -> timedelta:
    try:
        interval = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    if not interval:
        raise argparse.ArgumentTypeError("is 0: write a duration such as 30s")
    return interval


def _printed_path(text: str) -> str:
    # Alerts are templates of Prometheus, where braces mean something, and one line each.
    if not text or any(sign in "{}" or not sign.isprintable() for sign in text):
        raise argparse.ArgumentTypeError(f"{text!r} is no path for an alert: write one without braces and line breaks")
    return text


def _label_name(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", text) or text in {"job", "database", "pipeline"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no label to pass over: write a name as pod or alloc_id, of letters, digits and _; "
            "job, database and pipeline always count"
        )
    return text


def run(options: argparse.Namespace) -> ExitCode:
    """Print the rules for every limit that a config may set."""
    settings = RuleSettings(
        options.job,
        options.interval,
        options.dashboard_url,
        options.runbook_url,
        options.config_file,
        tuple(options.passing_labels),
    )
    write(FORMATS[options.format], groups(DIMENSIONS, settings))
    return ExitCode.DONE
