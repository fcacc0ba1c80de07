"""The members of a number: the sessions or rows that the number counts, one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.model.sections import Pipeline, Record
from exporter.model.sql import Bindings


def _the_pipeline(_pipeline: Pipeline) -> tuple[str, ...]:
    return ("",)


@dataclass(frozen=True, slots=True)
class SessionList:
    """The sessions that a number counts.

    `where`: SQL over one session, with the columns of `Dimension.session_totals`, for a pipeline and a subject.
    `subjects`: the parts with a number of their own, or the empty name for the pipeline; empty if nothing is counted.
    `label` names the subjects in a row and as an option; None without subjects.  `needs`: the key without which nothing
    is counted.
    """

    where: Callable[[Pipeline, str], str]
    subjects: Callable[[Pipeline], tuple[str, ...]] = _the_pipeline
    label: str | None = None
    needs: str = ""


VALUES: Final = "values"
"""The further column of a list with a JSON object: texts by column of the table."""


def _no_columns(_record: Record, _bind: Bindings) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class RowList:
    """The rows of record tables that a number counts.

    `where`: SQL over one row of a record, None if the record has no such number.  The SQL reads `keyed`, `valid`, the
    row facts of the dimension and `columns`; with `by_session` also `linked` (the session exists) and the session facts
    that tell rows apart.  `columns`: further texts of a row, by name: SQL over the table.  `ordered_by`: the columns
    that sort the list first.  `counted`: SQL for the rows that the number counts; a list may show more rows.  `needs`:
    the key without which nothing is counted.
    """

    where: Callable[[Pipeline, Record], str | None]
    by_session: bool = False
    columns: Callable[[Record, Bindings], Mapping[str, str]] = _no_columns
    ordered_by: tuple[str, ...] = ()
    counted: str = "true"
    needs: str = ""

    @property
    def label(self) -> str:
        """The label of the record in a row."""
        return "record"

    def subjects(self, pipeline: Pipeline) -> tuple[str, ...]:
        """The records with such a number."""
        return tuple(name for name, record in pipeline.stored.items() if self.where(pipeline, record) is not None)


Members = SessionList | RowList
