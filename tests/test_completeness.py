"""What belongs to a dimension and is not there: one list, for whoever adds a dimension."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TOUR

from exporter.dimensions import DIMENSIONS
from exporter.model.dimension import Dimension

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
DASHBOARDS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "grafana" / "dashboards").glob("*.json"))
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def texts_in(path: Path, within: str | None = None) -> set[str]:
    """The texts of a Python file; or those in the value of one of its names."""
    tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    if within:
        [tree] = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == within
            if node.value
        ]
    return {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}


CLAIMS = texts_in(TESTS / "alerting" / "test_alerts_on_limits.py", "CLAIMS")
MODEL = texts_in(TESTS / "oracle" / "model.py")
REACHED = texts_in(TESTS / "oracle" / "test_oracle.py", "REACHED")
CASES = texts_in(TESTS / "oracle" / "cases.py")


def missing(dimension: Dimension) -> Iterator[str]:
    """What a dimension lacks: the file, and what to add there."""
    name, tour = dimension.name, TOUR.read_text(encoding="utf-8")
    if not (TESTS / "dimensions" / f"test_{name}.py").exists():
        yield f"tests/dimensions/test_{name}.py: break the data, see the number; repair it, see healthy"
    for key in dimension.keys:
        if not re.search(rf"^ +(# )?{key.name}: ", tour, re.MULTILINE):
            yield f"config.yaml: an example of the key {key.section}.{key.name}, in a comment if the sample lacks it"
        if key.name not in CASES:
            yield f"tests/oracle/cases.py: draw the key {key.name}"
    for limit in dimension.limits:
        if not re.search(rf"^ +(# )?{limit.name}: ", tour, re.MULTILINE):
            yield f"config.yaml: an example of the limit {limit.name}"
        if limit.name not in CLAIMS:
            yield f"tests/alerting/test_alerts_on_limits.py: a claim for {limit.name}: what the alert says, and when"
        if limit.name not in CASES:
            yield f"tests/oracle/cases.py: thresholds of {limit.name} in LIMITS"
    for metric in dimension.metrics:
        if metric.name not in MODEL:
            yield f"tests/oracle/model.py: the meaning of {metric.name} in plain Python"
        if metric.name not in REACHED:
            yield f"tests/oracle/test_oracle.py: {metric.name} in REACHED"
        if metric.full_name not in DASHBOARDS:
            yield f"exporter/dashboards: a panel that shows {metric.name}; then make generate"
        if metric.full_name not in METRICS:
            yield f"docs/metrics.md: {metric.full_name}; make generate"


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda dimension: dimension.name)
def test_a_dimension_is_complete(dimension: Dimension) -> None:
    found = list(missing(dimension))

    assert not found, "\n".join([f"{dimension.name} is not complete:", *found])


EXAMPLE = "HEAD^{/^stuck: count the sessions}"
"""The commit that the guide shows."""


def of_example(*words: str) -> str:
    done = subprocess.run(["git", "show", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("NOT CHECKED: no history of the project, or not all of it")
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("index ")).rstrip()


def test_the_guide_shows_the_commit_as_it_is() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = ("exporter/dimensions/__init__.py", "config.yaml")

    assert of_example("--stat=120", "--format=%s", EXAMPLE) in guide
    assert of_example("--format=", "-U0", EXAMPLE, "--", *lines) in guide
