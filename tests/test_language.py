"""The language of docs and messages, as docs/style.md asks for."""

import ast
import re
from collections.abc import Iterator
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


def words(text: str) -> list[str]:
    """The words of a page, without its code."""
    return re.findall(r"[a-z']+", _CODE.sub(" ", text).lower())


def pointers(text: str) -> float:
    """Pointers in 100 words."""
    found = words(text)
    return 100 * sum(word in POINTERS for word in found) / len(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_things_instead_of_pointing_at_them(page: Path) -> None:
    assert pointers(page.read_text(encoding="utf-8")) <= MOST


# --- Messages

FORBIDDEN = re.compile(
    r"\b(nobody|somebody|anybody|whoever|whatever|thereof|anew|that of|those of|is none)\b", re.IGNORECASE
)
"""The words of "Messages never contain" in docs/style.md."""

NAMES = frozenset({"nobody"})
"""Whole strings that are names: the user without rights."""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """The string literals of a module with their lines, without docstrings and code in backticks."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            # One text: a word may be split between the parts of an f-string.
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, _CODE.sub("``", "".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, _CODE.sub("``", node.value)


@pytest.mark.parametrize(
    "module",
    sorted((ROOT / "exporter").rglob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_message_has_no_word_that_style_forbids(module: Path) -> None:
    said = list(messages(module.read_text(encoding="utf-8")))

    assert [(line, found[0]) for line, text in said if text not in NAMES for found in FORBIDDEN.finditer(text)] == []


def test_the_forbidden_words_are_those_of_the_page_on_style() -> None:
    [listed] = re.findall(r"## Messages never contain\n\n(.*?)\n\n", (ROOT / "docs/style.md").read_text(), re.DOTALL)

    assert re.findall(r"`(.*?)`", listed) == FORBIDDEN.pattern.removeprefix(r"\b(").removesuffix(r")\b").split("|")


def test_a_forbidden_word_is_found_in_every_kind_of_string() -> None:
    source = (
        'def f(x):\n    """Nobody."""\n    return "so that " "of", f"whoever {x} is", "`nobody`", b"anew", "nobody"\n'
    )

    found = [word[0] for _, text in messages(source) for word in FORBIDDEN.finditer(text)]

    assert sorted(set(found)) == ["nobody", "that of", "whoever"]
