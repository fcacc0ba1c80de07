"""The rows of records in other databases -> settings of the transaction, and the plan over these rows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from exporter.measure.query_faults import is_rejection
from exporter.measure.session import Session, subject_of
from exporter.model.elsewhere import Elsewhere
from exporter.model.fault import Fault
from exporter.model.sections import Record
from exporter.plan.elsewhere import Carried, carried_table, key_types, placed, settings
from exporter.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the other databases gave: rows and faults by record, and the tables with rows that policies may hide.

    `as_of`: the time of the rows by `time.monotonic`, at the latest.  `identities` of the databases, by record.
    """

    rows: Mapping[str, Carried] = field(default_factory=dict)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    restricted: tuple[str, ...] = ()
    as_of: Mapping[str, float] = field(default_factory=dict)
    identities: Mapping[str, str | None] = field(default_factory=dict)


NOTHING: Final = Gathered()
"""For a pipeline in one database."""


def elapsed_since(moment: float) -> float:
    """Seconds since a moment of `time.monotonic`."""
    return time.monotonic() - moment


def _unheld(subject: str, database: str) -> Fault:
    """The fault of a text that this server refuses: its encoding has fewer characters."""
    return Fault(
        "type",
        f"{subject}: a text of the database {database} has a character outside the encoding of the database of the "
        "sessions: name computed columns without such texts, or measure from a database in UTF8",
    )


async def carry(session: Session, plan: Plan, gathered: Gathered) -> tuple[Plan, list[tuple[Any, ...]]]:
    """Hand the rows on to the server of the sessions, whose snapshot is taken.

    Returns the plan over the rows, and the types of their keys as `Plan.keys` reads types.  A refused row is a fault of
    the record.
    """
    pipeline, types = plan.pipeline, list[tuple[Any, ...]]()
    told = dict[str, Record]()
    for place, (name, carried) in enumerate(gathered.rows.items()):
        waited = elapsed_since(gathered.as_of[name])
        record = pipeline.records[name]
        for number, texts in enumerate(carried.parts, start=1):
            handed = await session.attempt(settings(place, number, texts), subject_of(plan, name), is_rejection)
            if isinstance(handed, Fault):
                session.faults = {**session.faults, name: _unheld(subject_of(plan, name), str(record.database))}
                break
        else:
            table = carried_table(record, place, carried)
            pipeline = placed(pipeline, name, table, carried, timedelta(seconds=waited))
            told[name] = record
            session.row_keys = {**session.row_keys, name: carried.row_key}
            types += key_types(name, record, carried)
            session.elsewhere = {
                **session.elsewhere,
                name: Elsewhere(str(record.database), waited, gathered.identities[name]),
            }
    session.restricted = gathered.restricted
    return plan.over(pipeline, told), types
