"""A platform of known numbers, for the statements of a collection: no table, the rows are in the statement.  No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Generic, TypeVar

from exporter.plan.statement import Statement

P = TypeVar("P")

Told = Mapping[str, Mapping[tuple[str, ...], float]]
"""Numbers by the full name of the metric and the labels."""

_BEGINNING: Final = re.compile(r"\s*(declare [^\n]*\n)?\s*(with\b)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Control(Generic[P]):
    """A platform of known numbers.

    `plan` has the statements, over tables that no database has.  `tables`: for each, by the quoted name, the SQL of a
    common table expression with the rows.  `expected` has every number at the time `clock`.
    """

    plan: P
    tables: Mapping[str, str]
    clock: datetime
    expected: Told

    def about(self, statement: Statement) -> Statement:
        """The statement with the rows of the tables that it names."""
        used = ",\n".join(sql for name, sql in self.tables.items() if name in statement.sql)
        if not used:
            return statement
        found = _BEGINNING.match(statement.sql)
        if found is None:
            return statement
        rest = statement.sql[found.end() :]
        return replace(statement, sql=f"{found[1] or ''}with {used}{',' if found[2] else chr(10)}{rest}")
