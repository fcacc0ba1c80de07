"""Whatever is read: taken, or refused with place and remedy, in bounded time and memory, and without a secret."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import inputs
import pytest
from conftest import Database
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from readers import (
    CONFIG,
    EXAMPLES,
    READERS,
    TOUR,
    Reader,
    bounded_memory,
    read_address,
    read_url,
    read_worklist,
    reads_baseline,
    reads_config,
)

from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.mend.gaps import list_gaps
from exporter.mend.spool import temporary_file
from exporter.mend.worklist import Author, FilterPart
from exporter.plan.plan import compile_plans
from exporter.present.report.account import report_on
from exporter.present.report.document import as_json
from exporter.text.files import new_file

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FEW: Final = {"config": 200, "worklist": 150, "baseline": 100, "address": 500, "url": 400}
"""Inputs for each reader in `make test`."""


def attempt(name: str, read: Reader, strategy: st.SearchStrategy[bytes]) -> None:
    """Give a reader many inputs: the same few, or as many new ones as the environment says."""

    @settings(
        max_examples=EXAMPLES or FEW[name],
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(data: bytes) -> None:
        read(data)

    with bounded_memory():
        one()


def test_any_config_is_read_or_refused(tmp_path: Path) -> None:
    attempt("config", reads_config(tmp_path), inputs.configs)


@pytest.mark.parametrize("number", range(len(inputs.BOMBS)))
def test_a_bomb_is_read_or_refused(tmp_path: Path, number: int) -> None:
    bomb = inputs.BOMBS[number]

    with bounded_memory():
        reads_config(tmp_path)(bomb)
        for read in READERS.values():
            read(bomb)


async def test_any_worklist_is_read_or_refused(backfill: Database, tmp_path: Path) -> None:
    plan = compile_plans(backfill.config(TOUR), DIMENSIONS)["assessments"]
    with new_file(tmp_path / "list") as target, temporary_file() as body:
        author = Author(body, plan, 10)
        author.publish(target, await list_gaps(plan, author.take), FilterPart(record=None, reason=None))
    right = (tmp_path / "list").read_bytes()
    read_worklist(right)

    attempt("worklist", read_worklist, inputs.worklists(right))


async def test_any_baseline_is_read_or_refused(backfill: Database) -> None:
    statuses = await collect_once([backfill.plan()])
    right = as_json(report_on(statuses, DIMENSIONS, time.time())).encode()
    read = reads_baseline(statuses)
    read(right)

    for bomb in inputs.BOMBS:
        read(bomb)
    attempt("baseline", read, inputs.baselines(right))


@pytest.mark.parametrize(
    ("name", "read", "strategy"), [("address", read_address, inputs.addresses), ("url", read_url, inputs.urls)]
)
def test_any_address_is_read_or_refused(
    name: str, read: Callable[[bytes], None], strategy: st.SearchStrategy[bytes]
) -> None:
    attempt(name, read, strategy)


def test_the_right_inputs_are_taken(tmp_path: Path) -> None:
    """Else every input is refused, and the rest is never reached."""
    reads_config(tmp_path)(inputs.SMALL.encode())
    assert CONFIG.pipelines
