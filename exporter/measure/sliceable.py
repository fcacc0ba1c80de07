"""Whether a database can be measured in slices, and the ledger to begin with."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from exporter.measure.session import Session
from exporter.model.fault import CollectionError, Fault
from exporter.model.ranges import Keyed, Started
from exporter.model.sql import quote
from exporter.plan.rows import presumed_values
from exporter.plan.slices import cut_by_columns, missing_indexes, read_sliceable
from exporter.state.ledger import Ledger

LATE: Final = timedelta(minutes=1)
"""How long after its start a session may be committed, and still be seen by the next round."""

FIRST_SESSIONS: Final = 2_000
"""Sessions of the first slice; later slices follow the measured time."""

FIRST_ROWS: Final = 5_000
"""Rows of the first slice of a record."""


class UnsliceableError(CollectionError):
    """Slices would read whole tables, as without an index."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables to cut: what identifies each, and the estimated number of rows of each record."""

    identities: tuple[int, ...]
    expected: Mapping[str, float]


async def cuttable_tables(session: Session, statement_timeout: timedelta) -> Tables:
    """The tables of the session's plan; raises UnsliceableError.  `statement_timeout` is that of a full pass."""
    plan = session.plan
    pipeline = plan.pipeline
    subject = f"pipelines.{pipeline.name}"
    [row] = await session.run(plan.sliceable, subject)
    has_index, expected, identities = read_sliceable(pipeline, row)
    missing = missing_indexes(pipeline, has_index)
    if not pipeline.stored and not session.is_key_proven:
        # The slices of rows would look for a repeated key.
        keys = ", ".join(map(quote, pipeline.sessions.key))
        missing.append(f"create unique index concurrently on {pipeline.sessions.table.written} ({keys})")
    own = plan.types[None, 0]
    converted = [name for name in pipeline.stored if plan.types[name, 0] != own or not plan.links[name][0].is_plain]
    is_view = any(found.kind == "v" for found in session.found.values())
    cut_by = cut_by_columns(pipeline)
    if missing or converted or pipeline.sessions.timezone:
        why = f"add an index ({'; '.join(missing)})" if missing else "compare keys of one type, and times with a zone"
        if any(column in section.computed for section, column in cut_by):
            why = "name columns of the tables, not computed columns, as keys and as started_at"
        if is_view:
            why = "name the tables behind the view"
        raise UnsliceableError(
            Fault(
                "statement_timeout",
                f"{subject}: too large for one statement in statement_timeout "
                f"({statement_timeout.total_seconds():g} s), and too slow to measure in slices: {why}, "
                "shorten the window, or raise statement_timeout",
            )
        )
    return Tables(identities, expected)


def begun(session: Session, tables: Tables) -> Ledger:
    """A ledger without a slice."""
    plan, clock = session.plan, session.clock
    names = tuple(plan.pipeline.stored)
    return Ledger(
        began_at=clock.timestamp(),
        watermark=clock - LATE,
        starts=(Started(high=clock - LATE), Started(undated=True)),
        keys={name: (Keyed(), Keyed(missing=True)) for name in names},
        values={name: {facet.name: presumed_values(facet) for facet in plan.facets(name)} for name in names},
        tables=tables.identities,
        expected=tables.expected,
        slice_sessions=FIRST_SESSIONS,
        slice_rows=FIRST_ROWS,
    )
