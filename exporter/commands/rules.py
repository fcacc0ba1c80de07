"""`rules`: print the alerting rules."""

import argparse
import re
from datetime import timedelta

from exporter.commands.arguments import base_url, describe
from exporter.commands.output import write
from exporter.rules.formats import FORMATS
from exporter.rules.settings import RuleSettings
from exporter.text.exits import ExitCode
from exporter.text.times import parse_duration


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "rules --runbook-url https://wiki.example/runbooks > session-health.yml")
    usual = RuleSettings()
    parser.add_argument(
        "--job", default=usual.job, help="the Prometheus job that scrapes the exporter (default: %(default)s)"
    )
    parser.add_argument(
        "--interval",
        type=_interval,
        default=usual.interval,
        metavar="DURATION",
        help="the longest of all collection and scrape intervals; the rules derive every time from this interval "
        "(default: 30s)",
    )
    parser.add_argument(
        "--dashboard-url",
        dest="dashboard_url",
        type=base_url,
        default=usual.dashboards,
        metavar="URL",
        help="the URL of Grafana (default: %(default)s, a placeholder)",
    )
    parser.add_argument(
        "--runbook-url",
        dest="runbook_url",
        type=base_url,
        default=usual.runbooks,
        metavar="URL",
        help="the URL of your copy of docs/runbooks (default: %(default)s, a placeholder)",
    )
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=_printed_path,
        default=usual.config_file,
        metavar="FILE",
        help="the path of the config in commands that alerts print; rules does not read the file "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--passing-label",
        dest="passing_labels",
        type=_label_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a target label that a restart or deploy changes, such as alloc_id; the rules already know instance, "
        "pod, node and similar labels; may be repeated",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="prometheus",
        help="a rule file of Prometheus, a PrometheusRule of the Prometheus Operator, or a provisioning file of "
        "Grafana-managed alerts (default: %(default)s)",
    )
    parser.add_argument(
        "--datasource-uid",
        dest="datasource_uid",
        type=_uid,
        default=usual.datasource,
        metavar="UID",
        help="the uid of the Prometheus data source in Grafana, for --format grafana (default: %(default)s)",
    )
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
    # The text of an alert is one line, and a Prometheus template: braces have a meaning.
    if not text or any(sign in "{}" or not sign.isprintable() for sign in text):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot stand in an alert: write a path without braces, line breaks and control characters"
        )
    return text


def _label_name(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", text) or text in {"job", "database", "pipeline"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be a passing label: write a name of letters, digits and _, such as alloc_id, "
            "and not job, database or pipeline"
        )
    return text


def _uid(text: str) -> str:
    # https://grafana.com/docs/grafana/latest/developers/http_api/data_source/
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no uid of a data source: write up to 40 letters, digits, _ and -, as in Grafana's URL"
        )
    return text


def run(options: argparse.Namespace) -> ExitCode:
    """Print the rules for every limit of the config format."""
    settings = RuleSettings(
        options.job,
        options.interval,
        options.dashboard_url,
        options.runbook_url,
        options.config_file,
        tuple(options.passing_labels),
        datasource=options.datasource_uid,
    )
    write(FORMATS[options.format], settings)
    return ExitCode.DONE
