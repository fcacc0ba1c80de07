"""What each command says of itself: an example that it would take."""

import argparse
import re
from collections.abc import Iterator

import pytest

from exporter import cli

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
