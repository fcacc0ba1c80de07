"""Every fault of the table, over a platform whose data become incomplete at the same moment.

`make test-faults` runs all rows.  `make test` runs the brief ones.
"""

import os
from typing import Any, Final

import pytest
from fault import Fault
from judge import endure
from rows_network import NETWORK
from rows_process import PROCESS
from rows_server import REWRITES, SERVER
from rows_sql import CLOCKS, CONTENT, CUT_OFF, ELSEWHERE, LOCKS, RIGHTS, SLOW_BEFORE
from scene import staged
from table import PROPERTY

from exporter.embedded import EmbeddedPostgres

FAULTS: Final = (
    *SERVER,
    *NETWORK,
    CUT_OFF,
    SLOW_BEFORE,
    *RIGHTS,
    *LOCKS,
    *ELSEWHERE,
    *CONTENT,
    *REWRITES,
    *CLOCKS,
    *PROCESS,
)
ALL: Final = os.environ.get("SESSION_HEALTH_FAULTS", "") == "all"
"""Whether to run the whole table, as `make test-faults` does."""


def test_a_row_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(
    ("number", "fault"),
    [pytest.param(n, fault, id=fault.name) for n, fault in enumerate(FAULTS) if ALL or fault.is_brief],
)
async def test_a_fault_is_said_bounded_and_over_when_mended(
    number: int, fault: Fault, server: EmbeddedPostgres, record_property: Any
) -> None:
    async with staged(fault.place, server, fault.settings, fault.config, fault.launch, fault.before) as scene:
        outcome = await endure(fault, scene)
        log = scene.watched.log
    record_property(PROPERTY, {**outcome.as_property, "number": number, "ends_by": fault.ends_by})

    assert fault.says is None or fault.says in log, f"the log does not say {fault.says!r}:\n{log}"
    assert not outcome.problems, "\n".join([*outcome.problems, "", log])
