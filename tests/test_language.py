"""The language of docs and messages, as docs/style.md asks for."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

POINTERS = frozenset(
    re.findall(
        r"\w+",
        "it its they them their that those these this what which who whoever whom whose one ones none nobody "
        "somebody anybody such so there",
    )
)
"""Words for which a reader has to look up another word."""

MOST = 5.0
"""Pointers in 100 words of a page."""

_CODE = re.compile(r"```.*?```|`[^`]*`|<[^>]+>|\|", re.DOTALL)
_BEFORE = re.compile(r"## Before and after.*", re.DOTALL)
"""The examples of the page on style quote what is wrong."""


def words(text: str) -> list[str]:
    """The words of a page, without its code."""
    return re.findall(r"[a-z']+", _CODE.sub(" ", text).lower())


def pointers(text: str) -> float:
    """Pointers in 100 words."""
    found = words(text)
    return 100 * sum(word in POINTERS for word in found) / len(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_things_instead_of_pointing_at_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "style.md":
        text = _BEFORE.sub("", text)
    assert pointers(text) <= MOST
