"""A template and values -> one self-contained HTML document: no script, no request, inline style.

Every value is escaped (a status or a version comes from the database), and a missing value is an error.
https://jinja.palletsprojects.com/en/stable/api/#autoescaping
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from exporter import __version__
from exporter.model.standing import STANDINGS, VERDICTS, Outcome, Standing, Verdict, in_words
from exporter.present.report.account import subject_of, told
from exporter.present.report.sections import remarks, text_of
from exporter.text.figures import format_age, format_value
from exporter.text.terminal import printable

_OURS: Final = files("exporter.present.html")

STYLE: Final = _OURS.joinpath("style.css").read_text(encoding="utf-8")
ICON: Final = _OURS.joinpath("icon.svg").read_bytes()

STYLE_SOURCE: Final = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""The source for a Content-Security-Policy that allows only this style.

https://www.w3.org/TR/CSP3/#grammardef-hash-source
"""

WORDS: Final[Mapping[Verdict, str]] = {verdict: in_words(verdict).capitalize() for verdict in VERDICTS}
"""A verdict in words; each verdict also has a colour and a sign."""


def render(template: str, /, **values: object) -> Markup:
    """A rendered template of this folder; other templates do not escape the result again."""
    return Markup(_ENVIRONMENT.get_template(template).render(values))  # noqa: S704 - all that was filled in is escaped


def inline(text: str) -> Markup:
    """A text with the Markdown of our texts: `code`, **strong**, links, and signs escaped by a backslash."""
    parts: list[Any] = []
    place = 0
    for found in _INLINE.finditer(text):
        parts.append(text[place : found.start()])
        sign, _, code, strong, link, address = found.groups()
        if sign is not None:
            parts.append(sign)
        elif link is not None:
            parts.append(Markup('<a href="{}">{}</a>').format(address, link))
        elif strong is not None:
            parts.append(Markup("<strong>{}</strong>").format(strong))
        else:
            # A space on both sides keeps a backtick of the code from the signs around it.
            inner = code[1:-1] if code[0] == code[-1] == " " else code
            parts.append(Markup("<code>{}</code>").format(inner))
        place = found.end()
    return Markup("").join([*parts, text[place:]])


_INLINE: Final = re.compile(
    r"\\(.)|(`+)(.+?)(?<!`)\2(?!`)|\*\*(.+?)\*\*|\[([^\[\]]+)\]\((https?://[^()\s]+)\)", re.DOTALL
)


def moment(unix_seconds: float | None) -> Markup:
    """A moment to the second, in UTC; `no measurement` for None."""
    if unix_seconds is None:
        return Markup("no measurement")
    at = datetime.fromtimestamp(unix_seconds, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%F %T"))


def percent(share: float, marks: Sequence[float] = ()) -> str:
    """A share from 0 to 1, to a tenth of a percent, but not rounded across a mark; 100% only for the whole."""
    return format_value(share, "ratio", marks, places=1)


def width(share: float) -> str:
    """The width of a bar: the smallest part stays visible."""
    return f"{min(max(share, 0.008 if share > 0 else 0.0), 1.0):.2%}"


def standing(word: Verdict | Outcome | Standing) -> Standing:
    """The mark of a verdict, an outcome or a line."""
    return word if isinstance(word, Standing) else STANDINGS[word]


def duration(seconds: float) -> str:
    """A duration in words, in whole seconds."""
    return "less than 1s" if 0 < seconds < 1 else format_age(float(int(seconds)))


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("exporter.present.html", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    # The templates are part of the package, and do not change at run time.
    auto_reload=False,
)
_ENVIRONMENT.filters |= {
    "inline": inline,
    "moment": moment,
    "percent": percent,
    "width": width,
    "subject_of": subject_of,
    "told": told,
    "remarks": remarks,
    "text_of": text_of,
    "duration": duration,
    "printable": printable,
}
_ENVIRONMENT.globals |= {"STYLE": Markup(STYLE), "WORDS": WORDS, "VERSION": escape(__version__), "standing": standing}  # noqa: S704 - our own file
