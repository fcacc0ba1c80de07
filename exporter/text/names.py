"""A wrong name -> the nearest known name."""

import difflib
from collections.abc import Iterable


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `wrong`; None if no known name is near."""
    return next(iter(difflib.get_close_matches(wrong, list(known), n=1)), None)


def known_names(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known name, then every known name."""
    names = sorted(known)
    near = nearest(wrong, names)
    return (f"; did you mean {near}?" if near else "") + f" (known: {', '.join(names)})"
