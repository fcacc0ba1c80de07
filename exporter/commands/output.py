"""What a command writes: blocks for people, UTF-8 for programs, and remarks on standard error."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from exporter.text import streams
from exporter.text.exits import OutputError
from exporter.text.files import save
from exporter.text.format import Format
from exporter.text.terminal import Block, is_colourful, is_watched, plain

T = TypeVar("T")


def say(text: str) -> None:
    """Write a remark to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def show(blocks: Iterable[Block]) -> None:
    """Write blocks for people: with colours on a terminal, else as plain text."""
    if not is_colourful(sys.stdout, os.environ):
        sys.stdout.write(plain(blocks))
        return
    from exporter.text.display import show as show_in_colour  # noqa: PLC0415 - loaded only for a terminal

    show_in_colour(blocks)


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
        sys.stdout.write(rendered)
    else:
        hand_over(rendered)


def hand_over(text: str) -> None:
    """Write text for a program: UTF-8 in every locale.  Raises OutputError."""
    copy_out(io.BytesIO(text.encode(errors="replace")))


def copy_out(file: IO[bytes]) -> None:
    """Copy UTF-8 to standard output.  Raises OutputError, and BrokenPipeError when the reader has left."""
    try:
        streams.copy_to_stdout(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        raise OutputError(
            f"the output is incomplete ({error.strerror}): correct the cause and run the command again"
        ) from None


def give_up_output() -> None:
    """Send further output to /dev/null; otherwise Python writes the rest at exit and fails again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def counted(number: int, noun: str) -> str:
    """A number of things: `1 session`, `2 sessions`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
