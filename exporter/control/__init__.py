"""The control platform: a pipeline, rows and numbers that every collection counts beside the real ones."""

import json
import re
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Final

from exporter.config.read import parse_config
from exporter.dimensions import DIMENSIONS
from exporter.plan.control import Control, Told
from exporter.plan.plan import Plan, compile_plan

CLOCK: Final = datetime(2025, 6, 15, 12, tzinfo=UTC)

_OURS: Final = files("exporter.control")
_TABLE: Final = re.compile(r'^("[^"]+") as \($', re.MULTILINE)


def tables() -> dict[str, str]:
    """The common table expressions with the rows, by quoted name."""
    text = _OURS.joinpath("tables.sql").read_text(encoding="utf-8")
    starts = [*_TABLE.finditer(text)]
    ends = [*(found.start() for found in starts[1:]), len(text)]
    return {found[1]: text[found.start() : end].strip() for found, end in zip(starts, ends, strict=True)}


def pipeline_text() -> str:
    """The config of the pipeline, in YAML."""
    return _OURS.joinpath("pipeline.yaml").read_text(encoding="utf-8")


@cache
def control() -> Control[Plan]:
    """The platform with its numbers."""
    indented = "".join(f"    {line}\n" for line in pipeline_text().splitlines())
    config = parse_config(f"databases: {{control: {{}}}}\npipelines:\n  control:\n{indented}", {}, "control")
    plan = compile_plan(config, config.pipelines["control"], DIMENSIONS)
    types = {(record, place): kind for record in (None, *plan.pipeline.stored) for place, kind in enumerate(_KEY)}
    return Control(plan.linked({}, types), tables(), CLOCK, _expected())


_KEY: Final = ("text", "bigint")
"""The types of the key of a session, and of each session key."""


def _expected() -> Told:
    numbers = json.loads(_OURS.joinpath("numbers.json").read_text(encoding="utf-8"))
    return {name: {tuple(labels): value for *labels, value in series} for name, series in numbers.items()}
