"""Standard output and standard error for any text, in any encoding.

The encoding of a locale may lack a character, and Python would end with an error.  Text for people uses the encoding of
the locale, with missing characters spelt out.  Text for programs is UTF-8 in every locale, as the formats require.
"""

import codecs
import io
import os
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
    "➖": "[not asked for]",  # noqa: RUF001 - a sign, no hyphen
    "▫": "[noted]",
    "\ufe0f": "",
}
"""The exporter's signs in ASCII; the last is the selector for the coloured form of the sign before."""

_HANDLER: Final = "spelt"


def spelt(text: str) -> str:
    """The text in ASCII: the exporter's signs spelt out, other characters escaped as in Python."""
    return "".join(_SPELT.get(sign, ascii(sign)[1:-1]) for sign in text)


def _handle(error: UnicodeError) -> tuple[str, int]:
    """The replacement for characters that an encoding lacks: https://docs.python.org/3/library/codecs.html#error-handlers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return spelt(error.object[error.start : error.end]), error.end


def settle() -> None:
    """Make both streams accept any text; a write to a closed standard output is an error, as on a full disk."""
    sys.stdin, sys.stdout, sys.stderr = (
        sys.stdin or _closed(0, os.O_RDONLY),
        sys.stdout or _closed(1, os.O_RDONLY),
        sys.stderr or _closed(2, os.O_WRONLY),
    )
    codecs.register_error(_HANDLER, _handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _closed(number: int, way: int) -> TextIO:
    """A stream in place of a closed one: another file would get the free number, and receive the output."""
    opened = os.open(os.devnull, way)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return os.fdopen(number, "w" if number else "r", encoding="utf-8")


def is_utf8(stream: TextIO) -> bool:
    """Whether the encoding of a stream is UTF-8."""
    try:
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    except LookupError:
        return False


def copy_to_stdout(file: IO[bytes]) -> None:
    """Copy UTF-8 to stdout unchanged, or to a terminal in the terminal's encoding."""
    if sys.stdout.isatty() and not is_utf8(sys.stdout):
        shutil.copyfileobj(codecs.getreader("utf-8")(file), sys.stdout)
    else:
        sys.stdout.flush()
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.flush()
