"""What a command writes: blocks for people, UTF-8 for programs, and remarks on standard error."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, TypeVar

from exporter.text import streams
from exporter.text.exits import OutputError
from exporter.text.files import save
from exporter.text.format import Format
from exporter.text.logs import await_written
from exporter.text.terminal import Block, is_colourful, is_watched, plain, printable

T = TypeVar("T")


def say(text: str) -> None:
    """Write a remark to standard error, after the log; a remark that cannot be written changes no exit code."""
    await_written()
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def can_ask() -> bool:
    """Whether a person reads standard error and types at standard input."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def which(question: str, options: Sequence[str]) -> int:
    """The place of the option that a person chooses, from 0; the first without an answer."""
    say(question)
    for number, option in enumerate(options, start=1):
        say(f"  {number}  {printable(option)}")
    while True:
        sys.stderr.write(f"Which one? 1 to {len(options)} [1] ")
        sys.stderr.flush()
        answer = sys.stdin.readline().strip()
        if not answer:
            return 0
        if answer in map(str, range(1, len(options) + 1)):
            return int(answer) - 1


def show(blocks: Iterable[Block]) -> None:
    """Write blocks for people: with colours on a terminal, else as plain text.  Raises as `tell`."""
    if not is_colourful(sys.stdout, os.environ):
        tell(plain(blocks))
        return
    from exporter.text.display import show as show_in_colour  # noqa: PLC0415 - loaded only for a terminal

    with _whole_output():
        show_in_colour(blocks)


def tell(text: str) -> None:
    """Write text for people.  Raises OutputError, and BrokenPipeError when the reader has left."""
    with _whole_output():
        sys.stdout.write(text)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; the value takes the number of items done so far."""
    if not is_watched(sys.stderr, os.environ):
        yield lambda _: None
        return
    from exporter.text.display import progress as bar  # noqa: PLC0415 - loaded only for a terminal

    with bar(what, total) as advance:
        yield advance


def write(form: Format[T], value: T, output: Path | None = None) -> None:
    """Write a result in one of the formats of a command, to standard output or to a file."""
    rendered = form.render(value)
    if output is not None:
        save(output, (rendered if isinstance(rendered, str) else plain(rendered)).encode(errors="replace"))
    elif not isinstance(rendered, str):
        show(rendered)
    elif form.for_people:
        tell(rendered)
    else:
        hand_over(rendered)


def hand_over(text: str) -> None:
    """Write text for a program: UTF-8 in every locale.  Raises OutputError."""
    copy_out(io.BytesIO(text.encode(errors="replace")))


def copy_out(file: IO[bytes]) -> None:
    """Copy UTF-8 to standard output.  Raises OutputError, and BrokenPipeError when the reader has left."""
    with _whole_output():
        streams.copy_to_stdout(file)


@contextmanager
def _whole_output() -> Iterator[None]:
    """Write to standard output, to the end."""
    try:
        yield
        # A short output is written only here.  An error at exit would reach no handler.
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        raise OutputError(
            f"the output is incomplete ({error.strerror}): correct the cause and run the command again"
        ) from None


def give_up_output() -> None:
    """Send further output to /dev/null; otherwise Python writes the rest at exit and fails again."""
    _give_up(sys.stdout)


def _give_up(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def counted(number: int, noun: str) -> str:
    """A number of things: `1 session`, `2 sessions`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
