"""The committed dashboards, read as Grafana reads them: panels, their queries, and variables filled in."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser

FOLDER = Path(__file__).parent.parent / "grafana" / "dashboards"
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}

DURATIONS = {"$__rate_interval": "4m", "$__range": "6h"}
"""What Grafana puts for them at a step of a minute, in six hours."""


@dataclass(frozen=True)
class Panel:
    """One panel of a dashboard, as it is in the file."""

    dashboard: str
    content: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.content['title']}"

    @property
    def expressions(self) -> list[str]:
        return [target["expr"] for target in self.content["targets"]]


def on_grid(name: str) -> list[Any]:
    """Everything on the grid of a dashboard, headings too."""
    content = FILES[name]
    return [one for panel in content["panels"] for one in (panel, *panel.get("panels", []))]


def panels() -> list[Panel]:
    """Every panel that asks something."""
    return [Panel(name, panel) for name in FILES for panel in on_grid(name) if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Every expression, with where it is: of panels, annotations and variables."""
    for panel in panels():
        for expression in panel.expressions:
            yield str(panel), expression
    for name, content in FILES.items():
        for annotation in content["annotations"]["list"]:
            yield f"{name}: annotation {annotation['name']}", annotation["expr"]
        for variable in content["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                assert match, f"{name}: variable {variable['name']} is no label_values()"
                yield f"{name}: variable {variable['name']}", match[1]


def filled(expression: str, variables: Mapping[str, str] | None = None) -> str:
    """The expression as Grafana sends it; a variable that is not given stands for all of its values."""
    for name, duration in DURATIONS.items():
        expression = expression.replace(name, duration)
    # `$1` is a group of label_replace.
    return re.sub(r"\$([a-z]\w*)", lambda found: (variables or {}).get(found[1], ".+"), expression)


def nodes(expression: str) -> list[Any]:
    """Every node of an expression, those above before those below; durations are filled in, variables are not."""
    for name, duration in DURATIONS.items():
        expression = expression.replace(name, duration)
    found: list[Any] = []
    keep: Callable[[Any], None] = found.append
    promql_parser.walk(promql_parser.parse(expression), keep)
    return found


def selectors(expression: str) -> list[Any]:
    """Every selector of an expression."""
    return [node for node in nodes(expression) if isinstance(node, promql_parser.VectorSelector)]
