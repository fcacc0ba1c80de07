"""The shape of the house: which folder imports which, and that a dimension is complete.  Changed on purpose only."""

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import TOUR, plan_of

from exporter.dimensions import DIMENSIONS
from exporter.model.counting import Scope

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "exporter"
FILES = sorted(PACKAGE.rglob("*.py"))

# The folders from the ground up, and the folders that each may import; docs/architecture.md says why.
MAY_IMPORT: Mapping[str, set[str]] = {
    "text": set(),
    "connection": {"text"},
    "model": {"connection", "text"},
    "dimensions": {"model", "text"},
    "config": {"dimensions", "model", "text"},
    "plan": {"model"},
    "state": {"model", "text"},
    "measure": {"connection", "model", "plan", "state", "text"},
    "rules": {"dimensions", "model", "state", "text"},
    "dashboards": {"dimensions", "model", "rules", "state", "text"},
    "present": {"dimensions", "model", "state", "text"},
    "baseline": {"model", "present", "state", "text"},
    "mend": {"measure", "model", "plan", "present", "text"},
    "control": {"config", "dimensions", "plan"},
    "setup": {"config", "dimensions", "measure", "model", "plan", "state", "text"},
    "serve": {"config", "connection", "control", "dimensions", "measure", "model", "plan", "present", "state", "text"},
    "embedded": set(),
    "demo": {"config", "connection", "embedded", "model", "present", "serve", "text"},
    "artefacts": {"config", "dashboards", "dimensions", "mend", "model", "present", "rules", "state"},
    "commands": {
        *(
            "baseline",
            "config",
            "connection",
            "control",
            "demo",
            "dimensions",
            "embedded",
            "measure",
            "mend",
            "model",
            "plan",
        ),
        *("plan", "present", "rules", "serve", "setup", "state", "text"),
    },
    "cli": {"commands", "text"},
    "__main__": {"cli"},
}

STAGES = {
    "config",
    "plan",
    "state",
    "measure",
    "present",
    "baseline",
    "mend",
    "serve",
    "commands",
    "text",
    "connection",
}
"""What works for any dimension, and knows none by name."""

DRIVERS = {
    "asyncpg": {"connection", "measure", "demo"},
    "aiohttp": {"serve", "baseline"},
    "prometheus_client": {"present"},
    "grafana_foundation_sdk": {"dashboards"},
    "jinja2": {"present"},
    "markupsafe": {"present"},
    "rich": {"text"},
}
"""The libraries that talk to somebody else, and the folders that may."""


def name_of(path: Path) -> str:
    """The full name of the module in a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def folder_of(module: str) -> str:
    """The folder of a module of ours; empty for the package itself."""
    return (module + ".").split(".")[1]


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it comes from"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in below)
            if any(name in MODULES for name in below):
                yield str(node.module)


@pytest.mark.parametrize("name", MODULES)
def test_a_file_imports_only_what_its_folder_may(name: str) -> None:
    folder = folder_of(name)
    ours = {folder_of(other) for other in imports(MODULES[name]) if other.split(".")[0] == "exporter"}

    assert ours - {folder, ""} <= MAY_IMPORT.get(folder, set())


@pytest.mark.parametrize("name", MODULES)
def test_drivers_stay_at_the_edges(name: str) -> None:
    theirs = {other.split(".")[0] for other in imports(MODULES[name])} & DRIVERS.keys()

    assert all(folder_of(name) in DRIVERS[driver] for driver in theirs)


def callers_of(pattern: str) -> set[str]:
    """The modules that call a function or method of such a name."""
    return {
        module.removeprefix("exporter.")
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and re.fullmatch(pattern, ast.unparse(node.func))
    }


def test_files_are_read_and_written_in_one_place() -> None:
    """`text.files` has the bound, the kind of file, and the earlier file that stays.  The others have files of ours."""
    of_ours = {"artefacts", "control", "demo.platform", "embedded.server", "embedded.watchdog", "present.html.render"}
    streams = {"text.streams", "commands.output"}
    calls = r"(.*\.)?(open|fdopen|write_text|write_bytes|mkstemp|NamedTemporaryFile)|.*\.read_(text|bytes)"

    assert callers_of(calls) - of_ours - streams == {"text.files"}


def test_streams_are_written_in_one_place() -> None:
    """`commands.output` has the exit code of an output that cannot be written."""
    assert callers_of(r"sys\.std(out|err)\.write|print") == {"artefacts", "commands.output"}


def test_no_files_import_each_other_in_a_circle() -> None:
    """`from a.package import module` counts as an import of the package too: its `__init__` runs first."""
    try:
        TopologicalSorter({name: set(imports(path)) & MODULES.keys() for name, path in MODULES.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_folders_import_each_other_in_a_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()


def test_every_folder_is_listed_and_described() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| folder |") : page.index("`tests/test_house.py` holds")]
    rows = [row.split("|")[1] for row in table.splitlines()[2:] if row]
    described = {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}

    assert {folder_of(name) for name in MODULES} - {""} == MAY_IMPORT.keys()
    assert described == MAY_IMPORT.keys() - {"__main__"}


@pytest.mark.parametrize("name", MODULES)
def test_a_file_and_a_function_fit_into_a_head(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    assert len(text.splitlines()) <= 650
    assert max(((n.end_lineno or 0) - n.lineno + 1 for n in functions), default=0) <= 90


@pytest.mark.parametrize("path", sorted((PACKAGE / "dimensions").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_dimension_file_stands_alone(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith("exporter.dimensions")}


def test_every_dimension_has_its_file_its_test_and_its_line() -> None:
    files = {path.stem for path in (PACKAGE / "dimensions").glob("[!_]*.py")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "dimensions").glob("test_*.py")}

    assert files == {dimension.name for dimension in DIMENSIONS}
    assert files == tests


@pytest.mark.parametrize("name", [name for name in MODULES if folder_of(name) in STAGES])
def test_the_stages_know_no_dimension_by_name(name: str) -> None:
    known = {dimension.name for dimension in DIMENSIONS}
    known |= {limit.name for dimension in DIMENSIONS for limit in dimension.limits}
    known |= {metric.full_name for dimension in DIMENSIONS for metric in dimension.metrics}
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))

    assert {other for other in imports(MODULES[name]) if other.startswith("exporter.dimensions.")} == set()
    assert {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in known} == set()


def test_no_two_dimensions_count_by_one_name() -> None:
    """Cells have one column for each name, and each dimension reads its own."""
    plan = plan_of(TOUR.read_text(), "postgresql://nowhere")
    pipeline, records = plan.pipeline, tuple(plan.pipeline.records.values())
    scope = Scope(pipeline, records, plan.parts)
    facts = [fact.name for d in DIMENSIONS for fact in d.session_facts(scope)]
    columns = [column.name for d in DIMENSIONS for column in d.session_columns(scope)]
    totals = [total.name for d in DIMENSIONS for total in d.session_totals(scope)]
    of_rows = [
        [facet.name for d in DIMENSIONS for facet in d.facets(record)]
        + [total.name for d in DIMENSIONS for total in d.row_totals(record)]
        for record in records
    ]
    of_rows += [
        [column.name for d in DIMENSIONS for column in d.record_columns(record)]
        + [total.name for d in DIMENSIONS for total in d.record_totals(record)]
        for record in records
    ]
    for names in ([*facts, *columns, *totals], *of_rows):
        assert len(names) == len(set(names))


def test_no_metric_is_declared_twice() -> None:
    names = [metric.full_name for dimension in DIMENSIONS for metric in dimension.metrics]

    assert len(names) == len(set(names))


def test_generated_files_are_fresh() -> None:
    from exporter import artefacts  # noqa: PLC0415 - loads what only development has

    assert artefacts.main(["--check"]) == 0
