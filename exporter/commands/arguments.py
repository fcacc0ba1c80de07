"""Arguments that several commands share, and the types of their values."""

import argparse
import textwrap
from pathlib import Path
from typing import Final

from exporter.text import logs

CONFIG_FILE: Final = "config.yaml"


def describe(parser: argparse.ArgumentParser, example: str, notes: str = "") -> None:
    """Add what stands below the options: the notes, and an example as one types it."""
    parser.epilog = f"{textwrap.fill(notes, 78)}\n\n".lstrip() + f"example:\n  session-health-exporter {example}"


def add_log(parser: argparse.ArgumentParser) -> None:
    """How to log, for every command."""
    parser.add_argument(
        "--log.level", dest="log_level", choices=tuple(logs.LEVELS), default="info", help="default: %(default)s"
    )
    parser.add_argument(
        "--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt", help="default: %(default)s"
    )


def add_config_file(
    parser: argparse.ArgumentParser, default: str | None = CONFIG_FILE, shown: str = CONFIG_FILE
) -> None:
    """Where the config is; `shown` is what the help says of the default."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=Path(default) if default else None,
        metavar="FILE",
        help=f"default: {shown}",
    )


def base_url(text: str) -> str:
    """An address to which paths are added, without the slash at its end."""
    if not text.startswith(("http://", "https://")) or any(sign in text for sign in "{}\"' "):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: write https://host/path")
    return text.rstrip("/")
