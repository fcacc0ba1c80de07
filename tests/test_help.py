"""What each command says of itself: an example that it would take."""

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from exporter import cli
from exporter.mend import forms, verify_formats
from exporter.present import check_formats
from exporter.present.report import formats as report_formats
from exporter.rules import formats as rules_formats

ROOT = Path(__file__).parent.parent

COMMAND = "session-health-exporter "


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and that of every command below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.mark.parametrize("parser", [*parsers(cli.build_parser())], ids=lambda parser: parser.prog)
def test_every_help_has_an_example_that_the_command_would_take(
    parser: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    [example] = re.findall(rf"^example:\n  {COMMAND}(.*)$", parser.format_help(), re.MULTILINE)

    words = re.split(r" [|>] ", example)[0].split()
    assert f"{COMMAND}{example} ".startswith(f"{parser.prog} ")
    assert callable(cli.build_parser().parse_args(words).command)


def test_the_docs_list_the_formats_of_every_command() -> None:
    """In the order of the tables; the first is the default."""
    known: dict[str, Iterable[str]] = {
        "check": check_formats.FORMATS,
        "gaps": forms.FORMATS,
        "list": forms.FORMATS,
        "report": report_formats.FORMATS,
        "rules": rules_formats.FORMATS,
        "verify": verify_formats.FORMATS,
    }
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", page, re.MULTILINE)

    assert {command: re.findall(r"\w+", formats) for command, formats in rows} == {
        command: list(formats) for command, formats in known.items()
    }
