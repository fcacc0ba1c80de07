"""The table of the log in docs/operations.md has every event that the code logs, and no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEVELS = {"info": "info", "warning": "warn", "error": "error", "critical": "error", "exception": "error"}


def logged() -> set[tuple[str, str]]:
    """Each event of the code with its level: calls such as `log.warning("collection.slow", …)`."""
    found = set()
    for path in (ROOT / "exporter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=level, value=ast.Name(id="log")), args=[ast.Constant(value=str(event)), *_]
                ) if level in LEVELS:
                    found.add((event, LEVELS[level]))
    return found


def documented() -> set[tuple[str, str]]:
    """Each event of the table with its levels."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| ((?:info|warn|error)(?:, (?:info|warn|error))*) \|", text, re.MULTILINE)
    return {(event, level) for event, levels in rows for level in levels.split(", ")}


OF_THE_LOG = {("log.dropped", "warn")}
"""What the log says of itself."""


def test_each_event_of_the_log_is_documented_with_its_level() -> None:
    assert len(logged()) > 20
    assert logged() | OF_THE_LOG == documented()
