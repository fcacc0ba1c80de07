"""The shape of the house: who may import whom, and that a dimension is complete.  Changed on purpose only."""

import ast
import re
from pathlib import Path

import pytest
from conftest import TOUR, plan_of

from exporter import artefacts
from exporter.dimension import Scope
from exporter.dimensions import DIMENSIONS
from exporter.sql import Bindings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "exporter"

# What each room may import of ours; docs/architecture.md says why.
MAY_IMPORT = {
    "sql": set(),
    "names": set(),
    "connection": {"names"},
    "tls": {"connection"},
    "dial": {"", "connection", "tls"},
    "schema": {"connection", "names", "sql"},
    "config_model": {"dimension", "dimensions", "schema"},
    "config": {"config_model", "names", "schema"},
    "config_schema": {"config_model", "schema"},
    "figures": {"schema"},
    "judge": {"dimension", "figures", "schema"},
    "dimension": {"keys", "schema", "sql", "terminal"},
    "states": {"schema", "sql"},
    "dimensions": {"dimension", "figures", "states", "schema", "sql"},
    "terms": {"schema"},
    "snapshot": {"dimension", "judge"},
    "replica": {"snapshot"},
    "statement": {"", "dimension", "sql"},
    "keys": {"schema", "sql"},
    "expressions": {"dimension", "schema", "sql", "statement"},
    "transaction": {"", "replica", "schema", "sql", "statement"},
    "plan": {
        "dimension",
        "expressions",
        "keys",
        "replica",
        "schema",
        "sql",
        "statement",
        "states",
        "transaction",
    },
    "database": {"connection", "dial", "schema", "snapshot", "sql", "tls"},
    "guard": {
        "database",
        "expressions",
        "keys",
        "plan",
        "replica",
        "schema",
        "snapshot",
        "sql",
        "statement",
        "transaction",
    },
    "collect": {"database", "dimension", "guard", "judge", "plan", "snapshot", "sql"},
    "history": {"dimension", "judge"},
    "board": {"dimension", "history", "judge", "schema", "snapshot"},
    "supervise": {"board", "database", "judge", "plan", "snapshot"},
    "terminal": set(),
    "check": {"board", "collect", "judge", "plan", "report", "schema", "snapshot", "supervise", "terminal"},
    "gaps": {
        "collect",
        "database",
        "guard",
        "plan",
        "schema",
        "snapshot",
        "statement",
        "states",
        "terminal",
        "terms",
    },
    "worklist": {"", "gaps", "names", "plan", "report", "schema", "states", "terms"},
    "verify": {"gaps", "guard", "plan", "schema", "states", "terminal", "terms", "worklist"},
    "display": {"terminal"},
    "self_metrics": {"board", "dimension", "judge", "snapshot", ""},
    "expose": {"board", "dimension", "dimensions", "self_metrics", "snapshot"},
    "html": {"", "figures", "judge", "terminal"},
    "page": {"alerting", "board", "dimension", "dimensions", "history", "html", "judge", "report"},
    "web": {"board", "expose", "html", "page"},
    "catalog": {"database", "guard", "snapshot", "sql", "statement"},
    "preflight": {
        "catalog",
        "collect",
        "config",
        "database",
        "dimensions",
        "expressions",
        "guard",
        "names",
        "plan",
        "schema",
        "snapshot",
        "sql",
        "statement",
        "terminal",
        "transaction",
    },
    "proposal": {"catalog", "sql"},
    "survey": {
        "catalog",
        "guard",
        "database",
        "statement",
        "preflight",
        "proposal",
        "schema",
        "snapshot",
        "sql",
    },
    "queries": {"guard", "plan", "sql", "statement"},
    "listen": set(),
    "serve": {"board", "collect", "config", "dimensions", "listen", "page", "plan", "schema", "supervise", "web"},
    "streams": set(),
    "logs": {"streams"},
    "report": {
        "",
        "board",
        "dimension",
        "figures",
        "html",
        "judge",
        "keys",
        "schema",
        "snapshot",
        "states",
        "terminal",
        "terms",
    },
    "alerting": {"dimension", "dimensions", "schema", "self_metrics"},
    "runbooks": {"alerting", "dimension", "figures"},
    "dashboards": {"alerting", "dimension", "dimensions", "judge", "self_metrics"},
    "artefacts": {
        "",
        "alerting",
        "config",
        "config_schema",
        "dashboards",
        "dimension",
        "dimensions",
        "keys",
        "report",
        "runbooks",
        "self_metrics",
        "worklist",
    },
    "embedded": set(),
    "demo": {"connection", "embedded", "report", "schema", "serve", "sql"},
    "cli": {
        "",
        "alerting",
        "check",
        "config",
        "connection",
        "database",
        "demo",
        "dimensions",
        "display",
        "embedded",
        "gaps",
        "listen",
        "logs",
        "names",
        "page",
        "plan",
        "preflight",
        "proposal",
        "queries",
        "report",
        "schema",
        "serve",
        "sql",
        "states",
        "streams",
        "survey",
        "terminal",
        "terms",
        "verify",
        "worklist",
    },
    "__main__": {"cli"},
    "": set(),
}
STAGES = {
    "expressions",
    "keys",
    "plan",
    "guard",
    "collect",
    "check",
    "gaps",
    "worklist",
    "verify",
    "report",
    "judge",
    "snapshot",
    "history",
    "board",
    "supervise",
    "expose",
    "self_metrics",
    "html",
    "page",
    "web",
}
DRIVERS = {
    "asyncpg": {"dial", "database", "guard", "demo"},
    "aiohttp": {"web", "serve", "report"},
    "prometheus_client": {"expose"},
    "grafana_foundation_sdk": {"dashboards"},
    "jinja2": {"html"},
    "markupsafe": {"html", "page"},
    "rich": {"display"},
}


def room_of(path: Path) -> str:
    return "" if path == PACKAGE / "__init__.py" else path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it comes from"
            found.add(node.module or "")
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    ours = {(name + ".").split(".")[1] for name in imports(path) if name.split(".")[0] == "exporter"}

    assert ours - {room} <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_drivers_stay_at_the_edges(path: Path) -> None:
    theirs = {name.split(".")[0] for name in imports(path)} & DRIVERS.keys()

    assert all(room_of(path) in DRIVERS[driver] for driver in theirs)


def test_no_import_cycle_is_allowed() -> None:
    settled: set[str] = set()
    while waiting := {room for room in MAY_IMPORT if room not in settled}:
        free = {room for room in waiting if MAY_IMPORT[room] <= settled}
        assert free, f"a cycle among {sorted(waiting)}"
        settled |= free


@pytest.mark.parametrize("path", sorted((PACKAGE / "dimensions").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_dimension_file_stands_alone(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith("exporter.dimensions")}


def test_every_dimension_has_its_file_its_test_and_its_line() -> None:
    files = {path.stem for path in (PACKAGE / "dimensions").glob("[!_]*.py")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "dimensions").glob("test_*.py")}

    assert files == {dimension.name for dimension in DIMENSIONS}
    assert files == tests


def test_the_stages_know_no_dimension_by_name() -> None:
    names = [dimension.name for dimension in DIMENSIONS]
    stages = [path for path in FILES if room_of(path) in STAGES]

    assert [(path.name, name) for path in stages for name in names if name in path.read_text(encoding="utf-8")] == []


def test_the_rooms_are_those_of_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| room |") : page.index("`tests/test_house.py` holds")]
    cells = [row.split("|")[1] for row in table.splitlines()[2:] if row]
    named = {name.removesuffix("/*") for cell in cells for name in re.findall(r"`([\w/*]+)`", cell)}

    assert named == {room for room in MAY_IMPORT if room not in ("", "__main__")}


def test_no_two_dimensions_count_by_one_name() -> None:
    """Cells have one column for each name, and each dimension reads its own."""
    plan = plan_of(TOUR.read_text(), "postgresql://nowhere")
    pipeline, records = plan.pipeline, tuple(plan.pipeline.records.values())
    scope = Scope(pipeline, records, plan.parts)
    of_sessions = ("session_facts", "session_columns", "session_totals", "session_spreads")
    of_rows = [(name, (record,)) for name in ("facets", "row_totals") for record in records]
    for declared in (
        [part.name for d in DIMENSIONS for name in of_sessions for part in getattr(d, name)(scope, Bindings())],
        *([part.name for d in DIMENSIONS for part in getattr(d, name)(*of, Bindings())] for name, of in of_rows),
    ):
        assert len(declared) == len(set(declared))


def test_no_metric_is_declared_twice() -> None:
    names = [metric.full_name for dimension in DIMENSIONS for metric in dimension.metrics]

    assert len(names) == len(set(names))


def test_generated_files_are_fresh() -> None:
    assert artefacts.main(["--check"]) == 0
