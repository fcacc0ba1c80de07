"""Text -> what may be written to a terminal.  Pure."""


def printable(text: str) -> str:
    """The text with what a terminal would obey written out: a name or a status may hold control characters."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
