"""Arguments of several commands, and the types of the values."""

import argparse
import textwrap
from pathlib import Path
from typing import Final

from exporter.text import logs

CONFIG_FILE: Final = "config.yaml"


def describe(parser: argparse.ArgumentParser, example: str, notes: str = "") -> None:
    """Add the text below the options: the notes, and an example that works as typed."""
    parser.epilog = f"{textwrap.fill(notes, 78)}\n\n".lstrip() + f"example:\n  session-health-exporter {example}"


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the options for logs."""
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=tuple(logs.LEVELS),
        default="info",
        help="log messages of at least this level (default: %(default)s)",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=("logfmt", "json"),
        default="logfmt",
        help="format of log messages (default: %(default)s)",
    )


def add_config_file(
    parser: argparse.ArgumentParser, default: str | None = CONFIG_FILE, shown: str = CONFIG_FILE
) -> None:
    """Add the option for the config file; the help shows `shown` as the default."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=Path(default) if default else None,
        metavar="FILE",
        help=f"the config file (default: {shown})",
    )


def base_url(text: str) -> str:
    """A URL without a slash at the end; the exporter appends paths."""
    if not text.startswith(("http://", "https://")) or any(sign in text for sign in "{}\"' "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL: write https://host/path")
    return text.rstrip("/")
