"""Standard output and standard error, so that no text is too much for their encoding.

A locale may have an encoding that lacks a sign, and Python would end with an error of another meaning.  What people
read is in the encoding of the locale, with each sign that it lacks spelt; what programs read is UTF-8, whatever the
locale, for their formats say so.
"""

import codecs
import io
import shutil
import sys
from collections.abc import Mapping
from typing import IO, Final, TextIO

_SPELT: Final[Mapping[str, str]] = {
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "·": "-",
    "…": "...",
    "✅": "[ok]",
    "⚠": "[warning]",
    "❌": "[critical]",
    "❓": "[unknown]",
    "⬜": "[no data]",
    "▫": "[noted]",
    "\ufe0f": "",
}
"""Signs of ours in letters that every encoding has; the last one asks for the coloured form of the sign before it."""

_HANDLER: Final = "spelt"


def spelt(text: str) -> str:
    """The text in ASCII: our signs in letters, all else as Python escapes it."""
    return "".join(_SPELT.get(sign, ascii(sign)[1:-1]) for sign in text)


def _handle(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that an encoding lacks: https://docs.python.org/3/library/codecs.html#error-handlers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return spelt(error.object[error.start : error.end]), error.end


def settle() -> None:
    """From now on both streams take any text."""
    codecs.register_error(_HANDLER, _handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def is_utf8(stream: TextIO) -> bool:
    """Whether a stream can carry every letter as it is."""
    try:
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    except LookupError:
        return False


def copy_to_stdout(file: IO[bytes]) -> None:
    """Copy UTF-8 to stdout as it is, or to a terminal in the terminal's encoding."""
    if sys.stdout.isatty() and not is_utf8(sys.stdout):
        shutil.copyfileobj(codecs.getreader("utf-8")(file), sys.stdout)
    else:
        sys.stdout.flush()
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.flush()
