"""Tables -> which table refers to which: by foreign keys, by names, by pairs of type and id.  No I/O.

Linear in the number of columns: an ERP has a thousand tables.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.model.sql import TableName
from exporter.setup.catalog import ForeignKey, Relation, TableColumn, VisibleTable
from exporter.setup.naming import hints_at, is_text, names_key, referred, stems, tails, words


@dataclass(frozen=True, slots=True)
class Outline:
    """A table in short: the name, the rights of the role, and the columns that a config can name."""

    named: VisibleTable
    columns: tuple[TableColumn, ...]

    @property
    def table(self) -> TableName:
        """The name of the table."""
        return self.named.table

    @property
    def is_measurable(self) -> bool:
        """Whether the exporter measures such a table."""
        return self.named.kind != "foreign table"


@dataclass(frozen=True, slots=True)
class Link:
    """A table with columns that refer to the sessions' key, in key order: by a foreign key, or only by name.

    `kind`: the column that names the table referred to, such as payable_type, and `kind_value` the value for the table
    of sessions; None without such a column.
    """

    outline: Outline
    columns: tuple[TableColumn, ...]
    by_foreign_key: bool
    kind: TableColumn | None = None
    kind_value: str | None = None


@dataclass(frozen=True, slots=True)
class Pointer:
    """A column of the sessions that refers to one row of another table, by the key column of that table."""

    outline: Outline
    column: TableColumn
    target: TableColumn
    by_foreign_key: bool


@dataclass(frozen=True, slots=True)
class References:
    """All references of a database.

    `to`: foreign keys by the table referred to.  `of`: foreign keys by their own table.  `named`: columns by the table
    name that their own name has, as stems, and `hinted` by the last stems alone.  `tables`: tables by the stems of
    their whole name.
    """

    outlines: Mapping[TableName, Outline]
    to: Mapping[TableName, Sequence[ForeignKey]]
    of: Mapping[TableName, Sequence[ForeignKey]]
    named: Mapping[tuple[str, ...], Sequence[TableName]] = field(repr=False)
    hinted: Mapping[tuple[str, ...], Sequence[TableName]] = field(repr=False)
    tables: Mapping[tuple[str, ...], Sequence[TableName]] = field(repr=False)

    def pointing(self, table: TableName) -> dict[TableName, None]:
        """The tables that may refer to a table, in a fixed order."""
        by_key = (key.table for key in self.to.get(table, ()))
        by_name = (other for tail in tails(table.name) for other in self.named.get(tail, ()))
        by_end = (other for tail in tails(table.name) for other in self.hinted.get(tail, ()))
        return {other: None for other in [*by_key, *by_name, *by_end] if other != table and other in self.outlines}


def references_of(outlines: Iterable[Outline], foreign_keys: Sequence[ForeignKey]) -> References:
    """All references between the tables of a database."""
    by_name = {outline.table: outline for outline in outlines}
    to: dict[TableName, list[ForeignKey]] = defaultdict(list)
    of: dict[TableName, list[ForeignKey]] = defaultdict(list)
    for key in foreign_keys:
        if key.table in by_name:
            to[key.target].append(key)
            of[key.table].append(key)
    named: dict[tuple[str, ...], list[TableName]] = defaultdict(list)
    hinted: dict[tuple[str, ...], list[TableName]] = defaultdict(list)
    tables: dict[tuple[str, ...], list[TableName]] = defaultdict(list)
    for table, outline in by_name.items():
        for tail in tails(table.name):
            tables[tail].append(table)
        # A foreign key of one column says what the column refers to.
        declared = {key.columns[0] for key in of.get(table, ()) if len(key.columns) == 1}
        columns = [column for column in outline.columns if column.name not in declared]
        ends = (name[start:] for c in columns for name in referred(c.name) for start in range(1, len(name)))
        for name in dict.fromkeys(ends):
            hinted[name].append(table)
        for name in dict.fromkeys(name for column in columns for name in _meant(column, outline)):
            named[name].append(table)
    return References(by_name, to, of, named, hinted, tables)


def _meant(column: TableColumn, outline: Outline) -> Iterator[tuple[str, ...]]:
    """The tables that the name of a column may mean, as stems."""
    yield from referred(column.name)
    if _is_bare(column):
        # payments.invoice, as some payment providers name it.
        yield tails(column.name)[0] if words(column.name) else ()
    if kind_of(column, outline.columns) is not None:
        # Of a pair of type and id only the rows tell the table.
        yield ()


def _is_bare(column: TableColumn) -> bool:
    return bool(words(column.name)) and not column.is_time and column.base not in ("boolean", "json", "jsonb")


def kind_of(column: TableColumn, columns: Sequence[TableColumn]) -> TableColumn | None:
    """The column with the type of a polymorphic reference: payable_type for payable_id; None without such a column."""
    *stem, end = words(column.name) or [""]
    if end not in ("id", "uuid") or not stem:
        return None
    return next((c for c in columns if is_text(c) and words(c.name) in ([*stem, "type"], [*stem, "class"])), None)


def keys_of(sessions: Relation, references: References) -> list[tuple[TableColumn, ...]]:
    """Possible keys of the sessions, the most likely first; empty if there is no key.

    The order: primary key, targets of foreign keys, other unique indexes, then by name, because a view or a partitioned
    table may lack an index on id.
    """
    # An index of fewer columns first: (id) is the key of a table whose partitions need (id, created_at) as well.
    proved = [index.columns for index in sessions.indexes if index.proves_unique]
    pointed = [key.target_columns for key in references.to.get(sessions.table, ())]
    named = [
        (column.name,)
        for column in sessions.columns
        if words(column.name) in (["id"], ["uuid"]) or names_key(column.name, sessions.table.name, "id")
    ]
    own = {column.name: column for column in references.outlines[sessions.table].columns}
    found = [
        tuple(own[name] for name in names if name is not None)
        for names in [*proved[:1], *pointed, *proved[1:], *named]
        if all(name in own for name in names)
    ]
    return list(dict.fromkeys(found))


def links_of(outline: Outline, sessions: TableName, key: Sequence[TableColumn], references: References) -> list[Link]:
    """The possible links of a table to the sessions by a key: foreign keys, else names, and a pair of type and id.

    A foreign key may be without values, and the pair the living link.
    """
    declared, is_other = _declared(outline, sessions, key, references)
    # The database itself says by which other key the table refers to the sessions.
    named = None if declared or is_other else _named_link(outline, sessions, key, references)
    pair = polymorphic_of(outline, key)
    found = [*declared, *filter(None, (named, pair))]
    return [link for n, link in enumerate(found) if link.columns not in [other.columns for other in found[:n]]]


def _declared(
    outline: Outline, sessions: TableName, key: Sequence[TableColumn], references: References
) -> tuple[list[Link], bool]:
    """The links by foreign keys to this key, and whether there is one to another key."""
    own = {column.name: column for column in outline.columns}
    names = [column.name for column in key]
    found, is_other = [], False
    for foreign in references.of.get(outline.table, ()):
        if foreign.target != sessions:
            continue
        if {*foreign.target_columns} == {*names}:
            pairs = dict(zip(foreign.target_columns, foreign.columns, strict=True))
            if all(pairs[name] in own for name in names):
                found.append(Link(outline, tuple(own[pairs[name]] for name in names), by_foreign_key=True))
                continue
        is_other = True
    return found, is_other


def _named_link(
    outline: Outline, sessions: TableName, key: Sequence[TableColumn], references: References
) -> Link | None:
    """The link by the names of columns; None without one."""
    names = [column.name for column in key]
    found = []
    # A column of a foreign key to another table refers to that table; a key of several columns may share columns.
    elsewhere = {column for foreign in references.of.get(outline.table, ()) for column in foreign.columns}
    columns = [
        column
        for column in outline.columns
        if len(names) > 1 or not (column.name in elsewhere or _is_own_number(column, sessions, names[0]))
    ]
    for name in names:
        fitting = [
            column
            for column in columns
            if names_key(column.name, sessions.name, name) or (len(names) > 1 and column.name == name)
        ]
        fitting.sort(key=lambda column: column.name != name)
        if not fitting and len(names) == 1:
            fitting = [c for c in columns if _is_bare(c) and tails(c.name)[0] in tails(sessions.name)]
        if not fitting and len(names) == 1:
            fitting = [c for c in columns if hints_at(c.name, sessions.name, name)]
        if not fitting:
            break
        found.append(fitting[0])
    if len(found) == len(names) and len({*found}) == len(found):
        kind = kind_of(found[0], outline.columns) if len(found) == 1 else None
        return Link(outline, tuple(found), by_foreign_key=False, kind=kind)
    return None


def _is_own_number(column: TableColumn, sessions: TableName, key: str) -> bool:
    """Whether a table makes the values of a column itself, and the name does not name the sessions: record_id."""
    return column.is_numbered and {*referred(column.name, key)}.isdisjoint(tails(sessions.name))


def polymorphic_of(outline: Outline, key: Sequence[TableColumn]) -> Link | None:
    """The pair of type and id of a table, which may refer to any table; None without such a pair."""
    if len(key) != 1:
        return None
    pairs = ((column, kind_of(column, outline.columns)) for column in outline.columns)
    found = next(((column, kind) for column, kind in pairs if kind is not None), None)
    return Link(outline, (found[0],), by_foreign_key=False, kind=found[1]) if found else None


def names_table(kind: str, table: TableName) -> bool:
    """Whether a value of a type column names a table, with a class path or without: Invoice, billing.Invoice."""
    return stems(re.split(r"[.\\:/]", kind)[-1]) in tails(table.name)


def pointers_of(outline: Outline, references: References) -> list[Pointer]:
    """The columns of a table that refer to one row of another table."""
    found: dict[str, Pointer] = {}
    own = {column.name: column for column in outline.columns}
    for foreign in references.of.get(outline.table, ()):
        other = references.outlines.get(foreign.target)
        if other is None or len(foreign.columns) != 1 or other.table == outline.table:
            continue
        target = next((column for column in other.columns if column.name == foreign.target_columns[0]), None)
        if target is not None and foreign.columns[0] in own:
            found[foreign.columns[0]] = Pointer(other, own[foreign.columns[0]], target, by_foreign_key=True)
    for column in outline.columns:
        if column.name in found:
            continue
        # job_output_score_id refers to scores: the last words name the table.
        parts = [one for name in referred(column.name) for one in (name[start:] for start in range(len(name)))]
        if _is_bare(column) and is_text(column):
            parts.append(stems(column.name))
        for name in parts:
            others = [table for table in references.tables.get(name, ()) if tails(table.name)[0] == name]
            other = references.outlines[others[0]] if len(others) == 1 and others[0] != outline.table else None
            target = next((c for c in other.columns if words(c.name) in (["id"], ["uuid"])), None) if other else None
            if other is not None and target is not None:
                found[column.name] = Pointer(other, column, target, by_foreign_key=False)
                break
    return list(found.values())
