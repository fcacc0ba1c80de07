"""Faults planted into the SQL and the reading of the exporter, each in a process of its own.

A fault is a change of one place in the source.  The process measures a database with and without the control, and says
whether the numbers are wrong, and whether the control tells.
"""

import ast
import asyncio
import importlib.abc
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

ROOT: Final = Path(__file__).parent.parent

FILES: Final = (
    *(f"exporter/plan/{name}.py" for name in ("cells", "fragments", "joined", "packed", "packing", "rows", "sessions")),
    *(f"exporter/model/{name}.py" for name in ("counting", "sql", "states", "keys")),
    *(f"exporter/measure/{name}.py" for name in ("counts", "interpret", "records")),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "exporter" / "dimensions").glob("[a-z]*.py"))),
)
"""The files that make the counting SQL, and that read the answers."""

FILES_OF_SLICES: Final = ("exporter/plan/slices.py",)
"""The files that make the SQL of slices alone."""

SWAPS: Final = (
    (r" and ", " or "),
    (r" or ", " and "),
    (r"\bis not null\b", "is null"),
    (r"\bis null\b", "is not null"),
    (r" <= ", " < "),
    (r" < ", " <= "),
    (r" >= ", " > "),
    (r" > ", " >= "),
    (r"\.>=\)", ".>)"),
    (r"\.<\)", ".<=)"),
    (r" - ", " + "),
    (r" \+ ", " - "),
    (r" <> ", " = "),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r"\bfull join\b", "left join"),
    (r"\bleft join\b", "join"),
    (r"\bbit_or\(", "bit_and("),
    (r"\bunion all\b", "union"),
    (r"\bcount\(\*\)", "count(distinct 1)"),
    (r"\bsum\(", "max("),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r"\bnot \(", "("),
    (r"\bnot\b(?= \{)", ""),
    (r"\bstarted\b", "completed"),
    (r"\bcompleted\b", "started"),
    (r"\belse 0\b", "else 1"),
    (r"\bthen 1\b", "then 0"),
    (r"\blinked\b", "not linked"),
    (r"\bin_window\b", "in_cohort"),
    (r"\banalysed\b", "eligible"),
    (r"'1 day'", "'2 days'"),
    (r"::bigint", "::integer"),
)
"""Texts in SQL, and the text that takes the place."""


@dataclass(frozen=True)
class Planted:
    """A fault: the file, the place in its text, and the text that takes the place."""

    file: str
    start: int
    end: int
    text: str

    @property
    def source(self) -> str:
        """The file with the fault."""
        before = (ROOT / self.file).read_text(encoding="utf-8")
        return before[: self.start] + self.text + before[self.end :]

    def __str__(self) -> str:
        before = (ROOT / self.file).read_text(encoding="utf-8")
        line = before.count("\n", 0, self.start) + 1
        return f"{self.file}:{line}: {before[self.start : self.end]!r} -> {self.text!r}"


def planted(files: Sequence[str] = FILES) -> Iterator[Planted]:
    """Every fault, in the order of the files."""
    for file in files:
        source = (ROOT / file).read_text(encoding="utf-8")
        places = {
            (start + found.start(), start + found.end(), text)
            for start, end in _texts(source)
            for pattern, text in SWAPS
            for found in re.finditer(pattern, source[start:end])
        }
        yield from (Planted(file, *place) for place in sorted(places))


def _texts(source: str) -> Iterator[tuple[int, int]]:
    """The places of texts that may be SQL: literals outside of docstrings and of texts for people."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line.encode()))
    tree = ast.parse(source)
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if not is_text or id(node) in documents:
            continue
        expression = cast("ast.expr", node)
        start = lines[expression.lineno - 1] + expression.col_offset
        end = lines[(expression.end_lineno or 1) - 1] + (expression.end_col_offset or 0)
        text = source.encode()[start:end].decode()
        if source.isascii() and _is_sql(text):
            yield start, end


def _is_sql(text: str) -> bool:
    """Whether a literal is SQL: no sentence, and more than a name."""
    return not re.search(r"[a-z]\.( |$)|: |  ", text.replace("\n", " ").strip("'\"f")) or "select" in text


class _Planting(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with another source."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002 - as the protocol has it
        target: ModuleType | None = None,  # noqa: ARG002 - as the protocol has it
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, self.name, "exec"), module.__dict__)  # noqa: S102 - our own source


def outcome(fault: Planted | None, dsn: str, config: str, *, in_slices: bool = False) -> Mapping[str, Any]:
    """What a process with the fault measures: `numbers`, or the `reason` of a fault; the same with the `control`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            told = _measured(fault, dsn, config, in_slices=in_slices)
        except BaseException as error:  # noqa: BLE001 - the process with the fault ends here
            told = {"reason": type(error).__name__, "control": type(error).__name__}
        with os.fdopen(writing, "w") as answer:
            answer.write(json.dumps(told))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said: Mapping[str, Any] = json.loads(answer.read())
    os.waitpid(child, 0)
    return said


async def _swept(plan: Any) -> Any:
    """The snapshot after a sweep in slices of a few rows; raises RecursionError for a sweep without an end."""
    from exporter.measure.collect import snapshot_of  # noqa: PLC0415 - with the fault
    from exporter.measure.interpret import Counted  # noqa: PLC0415 - with the fault
    from exporter.measure.tiers import sweep  # noqa: PLC0415 - with the fault

    async def nothing(_session: object) -> None:
        return None

    ledger = None
    for _ in range(60):
        measured = await sweep(plan, ledger, 0.0, nothing)
        ledger = replace(measured.ledger, slice_sessions=40, slice_rows=60)
        if ledger.is_whole:
            counted = Counted(measured.cells, measured.of_record, {}, measured.part_faults)
            return snapshot_of(measured.session, counted, ())
    raise RecursionError


def _measured(fault: Planted | None, dsn: str, config: str, *, in_slices: bool) -> Mapping[str, Any]:
    for name in [name for name in sys.modules if name.split(".")[0] == "exporter"]:
        del sys.modules[name]
    if fault is not None:
        name = fault.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        sys.meta_path.insert(0, _Planting(name, fault.source))
    from exporter.config.read import parse_config  # noqa: PLC0415 - with the fault
    from exporter.control import control  # noqa: PLC0415 - with the fault
    from exporter.dimensions import DIMENSIONS  # noqa: PLC0415 - with the fault
    from exporter.measure.collect import collect  # noqa: PLC0415 - with the fault
    from exporter.model.fault import CollectionError  # noqa: PLC0415 - with the fault
    from exporter.plan.plan import compile_plans  # noqa: PLC0415 - with the fault

    [plan] = compile_plans(parse_config(config, {"DATABASE_URL": dsn}), DIMENSIONS, control()).values()

    async def ask() -> Mapping[str, Any]:
        told: dict[str, Any] = {}
        for key, one in (("reason", replace(plan, control=None)), ("control", plan)):
            try:
                snapshot = await (_swept(one) if in_slices else collect(one))
            except CollectionError as error:
                told[key] = error.fault.reason
            else:
                faults = {**snapshot.record_faults, **snapshot.part_faults}
                told[key] = next((one.reason for one in faults.values()), None)
                if key == "reason" and not faults:
                    # The catalog, not the rows, tells whether a foreign key is enforced; no limit judges the number.
                    rows = {s: v for s, v in snapshot.readings.numbers.items() if s[0] != "foreign_key_enforced"}
                    told["numbers"] = sorted([*map(str, s), v] for s, v in rows.items())
        return told

    return asyncio.run(ask())
