"""Config + database -> everything that prevents a measurement, at once, with remedies.

Only for the operator's terminal: findings name tables, types and, in SQL, the role.  Findings contain no address,
password or value of a row, except statuses and versions: `/metrics` shows both as labels.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from exporter.config.read import dotted
from exporter.dimensions import DIMENSIONS
from exporter.measure.collect import collect
from exporter.measure.database import is_exposed
from exporter.measure.expressions import misread, qualify
from exporter.measure.guard import open_transaction
from exporter.measure.links import links_of
from exporter.measure.query_faults import is_refused_lock
from exporter.measure.session import Session
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Config
from exporter.model.sql import quote
from exporter.model.values import KeyPath
from exporter.plan.elsewhere import plan_there
from exporter.plan.expressions import Expression, expressions, is_detached, written
from exporter.plan.plan import Plan, compile_plan
from exporter.plan.slices import missing_indexes, read_sliceable
from exporter.plan.statement import Statement
from exporter.plan.transaction import resolved, search, tables_of
from exporter.setup.catalog import (
    Names,
    Relation,
    Server,
    read_creators,
    read_names,
    read_relation,
    read_server,
)
from exporter.setup.findings import ConfigFinding, FindingGroup, fault_at, has_failed
from exporter.setup.first_collection import judge_snapshot
from exporter.setup.tables import (
    did_you_mean,
    for_role,
    judge_absence,
    judge_columns,
    judge_connection,
    judge_connection_limits,
    judge_locks,
    judge_relation,
    judge_session_key,
    judge_window,
    places,
)
from exporter.text.names import nearest


async def preflight(config: Config) -> tuple[FindingGroup, ...]:
    """Check every database of the config, all at the same time, and collect each measurable pipeline once."""
    looked = await asyncio.gather(*(_look_at(config, name) for name in config.databases))
    roles = {name: role for name, (role, _) in zip(config.databases, looked, strict=True)}
    elsewhere = {
        f"pipelines.{pipeline.name}.records.{name}": str(record.database)
        for pipeline in config.pipelines.values()
        for name, record in pipeline.elsewhere.items()
    }

    unreached = {name for name, role in roles.items() if not role}

    def placed(finding: ConfigFinding, database: str) -> ConfigFinding:
        """The finding for the role of its database; of a database that was not reached, once."""
        of = (other for path, other in elsewhere.items() if f"{finding.path}.".startswith(f"{path}."))
        other = next(of, database)
        if other != database and other in unreached and finding.severity == "error":
            return replace(finding, severity="note", message=f"not measured: see the database {other}", remedy=None)
        return for_role(finding, roles[other])

    return tuple(
        FindingGroup(group.title, tuple(placed(finding, database) for finding in group.findings))
        for database, (_, groups) in zip(config.databases, looked, strict=True)
        for group in groups
    )


async def _look_at(config: Config, name: str) -> tuple[str, list[FindingGroup]]:
    """The role in a database, and the findings about the database and each of its pipelines."""
    path = f"databases.{name}"
    every = [compile_plan(config, pipeline, DIMENSIONS) for pipeline in config.pipelines.values()]
    plans = [plan for plan in every if plan.pipeline.database == name]
    readers = [
        plan_there(plan, of_record)
        for plan in every
        for of_record, record in plan.pipeline.elsewhere.items()
        if record.database == name
    ]
    about: list[ConfigFinding] = []
    checked: dict[str, list[ConfigFinding]] = {}
    found: dict[str, dict[KeyPath, Relation]] = {}
    role = ""
    try:
        tables = list(dict.fromkeys(table for plan in (*plans, *readers) for table in tables_of(plan.pipeline)))
        async with open_transaction(config.databases[name], tables) as session:
            server, names = await read_server(session), await read_names(session)
            role = server.role
            about += await _check_search_path(session, f"{path}.search_path", names)
            powers = () if session.database.allow_superuser else session.powers
            about += judge_connection(path, server, is_encrypted=not is_exposed(session.connection), powers=powers)
            asking = len(plans) + len({reader.pipeline.name for reader in readers})
            about += judge_connection_limits(path, *await _connection_limits(session), server, asking)
            for plan in plans:
                found[plan.pipeline.name] = {}
                checked[plan.pipeline.name] = await _check(session, plan, server, names, found[plan.pipeline.name])
            for reader in readers:
                about += await _check(session, reader, server, names, {})
    except CollectionError as error:
        about.append(ConfigFinding("error", path, error.fault.message))
    groups = [FindingGroup(f"database {name}", tuple(about))]
    for plan in plans:
        pipeline = plan.pipeline.name
        findings = checked.get(pipeline)
        if findings is None:
            findings = [ConfigFinding("note", f"pipelines.{pipeline}", "not checked: see the database above")]
        else:
            findings += await _try(plan, findings, found[pipeline])
        groups.append(FindingGroup(f"pipeline {pipeline}", tuple(findings)))
    return role, groups


async def _check_search_path(session: Session, path: str, names: Names) -> list[ConfigFinding]:
    """Findings about search_path: missing schemas, and schemas in which other roles may create objects."""
    findings: list[ConfigFinding] = []
    for schema in session.database.search_path:
        if schema not in names.schemas:
            message = f"the schema {quote(schema)} does not exist{did_you_mean(schema, names.schemas)}"
            findings.append(ConfigFinding("error", path, message))
            continue
        is_public, roles = await read_creators(session, schema)
        who = "every role" if is_public else ", ".join(map(quote, roles))
        if who:
            revoked = "PUBLIC" if is_public else who
            findings.append(
                ConfigFinding(
                    "note",
                    path,
                    f"{who} may CREATE in the schema {schema}, and so replace functions in the SQL of the config; the "
                    "functions run with the rights of this role",
                    f"REVOKE CREATE ON SCHEMA {quote(schema)} FROM {revoked};",
                )
            )
    return findings


async def _connection_limits(session: Session) -> tuple[int, int]:
    """The connection limits of the role and of the database; -1 without a limit."""
    sql = """select r.rolconnlimit, d.datconnlimit
from pg_catalog.pg_roles r, pg_catalog.pg_database d
where r.rolname = session_user and d.datname = current_database()"""
    [(of_role, of_database)] = await session.run(Statement("limits", sql), "catalog")
    return of_role, of_database


# --- Checks on the server


async def _check(
    session: Session, plan: Plan, server: Server, names: Names, found: dict[KeyPath, Relation]
) -> list[ConfigFinding]:
    """The findings about one pipeline that need no counting; `found` gets the table of each section."""
    plan = plan.about(resolved(plan.pipeline, session.found))
    pipeline, role = plan.pipeline, server.role
    findings: list[ConfigFinding] = []
    for place in places(pipeline):
        if not (plan.is_of_sessions or "records" in place.path):
            continue
        relation = await read_relation(session, place.table)
        if relation is None:
            findings.append(judge_absence(place.path, place.table, names, role))
            continue
        found[place.path] = relation
        is_strict = plan.database.row_security == "strict"
        of_table = list(judge_relation(place.path, relation, role, is_strict=is_strict))
        if not any(finding.severity == "error" for finding in of_table):
            rows = "" if relation.rows is None else f", about {relation.rows} rows"
            readable = ConfigFinding(
                "ok", dotted((*place.path, "table")), f"{relation.kind} {relation.table.sql}{rows}"
            )
            findings.append(readable)
        findings += of_table
        if relation.sources:
            findings += judge_columns(place, relation)
        if place.timezone is not None:
            findings += await _check_zone(session, (*place.path, "timezone"), place.timezone)
    sessions = found.get(("pipelines", pipeline.name, "sessions"))
    if sessions is not None and sessions.sources:
        if all(sessions.column(column) for column in pipeline.sessions.key):
            findings += await _check_key(session, plan, sessions, findings)
        findings += judge_window(pipeline, sessions)
        findings += judge_locks(pipeline, *(await session.run(plan.lock_count, "catalog"))[0])
        findings += judge_slices(plan, sessions, (await session.run(plan.sliceable, "catalog"))[0])
        for name in pipeline.records:
            if ("pipelines", pipeline.name, "records", name) in found:
                findings += judge_covering(plan, name, (await session.run(plan.covering_index(name), "catalog"))[0])
        _, unlike, _ = await links_of(session, plan)
        findings += [
            fault_at(f"pipelines.{pipeline.name}.records.{n}.session_key", fault) for n, fault in unlike.items()
        ]
    return [*findings, *await _check_expressions(session, plan, found, findings)]


LARGE: Final = 1_000_000
"""Sessions from which on a full pass may take longer than statement_timeout."""


def judge_slices(plan: Plan, sessions: Relation, row: Sequence[Any]) -> list[ConfigFinding]:
    """A note on a large table that cannot be measured in slices; `row` is that of `Plan.sliceable`."""
    missing = missing_indexes(plan.pipeline, read_sliceable(plan.pipeline, row)[0])
    if not missing or sessions.rows is None or sessions.rows < LARGE:
        return []
    return [
        ConfigFinding(
            "note",
            f"pipelines.{plan.pipeline.name}.sessions.table",
            "a full pass may take longer than statement_timeout, and slices lack an index",
            "\n".join(f"{statement};" for statement in missing),
        )
    ]


def judge_covering(plan: Plan, name: str, row: Sequence[Any]) -> list[ConfigFinding]:
    """A note on a large record for which an index may spare reading the table; `row` is that of `covering_index`."""
    has_one, columns, size, of_table = row
    record = plan.pipeline.records[name]
    if has_one or size is None or of_table < LARGE_TABLE or size > of_table / 2:
        return []
    keys = ", ".join(quote(part.column) for part in record.session_key)
    others = f" include ({', '.join(map(quote, columns))})" if columns else ""
    return [
        ConfigFinding(
            "note",
            f"pipelines.{plan.pipeline.name}.records.{name}.table",
            "an index with every column that a collection reads spares the reading of the table "
            f"({of_table / 1e6:.0f} MB); the index takes about {size / 1e6:.0f} MB; gains: docs/performance.md",
            f"create index concurrently on {record.table.written} ({keys}){others};",
        )
    ]


LARGE_TABLE: Final = 100e6
"""Bytes of a table from which on an index is worth a note."""


async def _check_expressions(
    session: Session, plan: Plan, found: Mapping[KeyPath, Relation], so_far: Sequence[ConfigFinding]
) -> list[ConfigFinding]:
    """What the server says of the SQL of the config, each expression by itself: it is planned, and no row is read."""
    findings: list[ConfigFinding] = []
    taken: list[Expression] = []
    top: KeyPath = ("pipelines", plan.pipeline.name)
    if plan.search:
        await session.run(plan.search, dotted(top))
    refused: set[KeyPath] = set()
    for place in [one.path for one in expressions(plan.pipeline, plan.dimensions)]:
        [one] = [one for one in expressions(plan.pipeline, plan.dimensions) if one.path == place]
        section, path = (*top, *one.section), dotted((*top, *one.path))
        if section not in found or not found[section].sources or section in refused:
            continue
        located = replace(one, source=replace(one.source, table=found[section].table))
        whole, lines = await qualify(session, located, path)
        if isinstance(lines, list):
            if one.is_column:
                plan = plan.about(written(plan.pipeline, whole))
            taken.append(one)
            findings += _judge_plan(path, whole, lines)
            if whole.sql != one.sql.strip():
                findings.append(ConfigFinding("note", path, f"{_BARE}: {' '.join(whole.sql.split())}"))
            continue
        if one.is_column:
            refused.add(section)
        known = has_failed(so_far, dotted((*section, "table")))
        if not (known and lines.reason in ("permission", "row_security")):
            findings.append(fault_at(path, lines))
    misread_ones = await misread(session, plan, taken)
    findings += [fault_at(dotted((*top, *one.path)), fault) for one, fault in misread_ones]
    if plan.search:
        await session.run(search(()), dotted(top))
    return findings


_BARE: Final = "names tables or functions without a schema, so the search_path of the role decides: write"


def _judge_plan(path: str, one: Expression, lines: Sequence[str]) -> Iterator[ConfigFinding]:
    if is_detached(lines):
        row = one.source.row
        column = f"{row}.id"
        yield ConfigFinding(
            "note",
            path,
            f"a sub-query uses no column of the {row}, so every {row} gets the same value: in a sub-query, a "
            f"bare name is first a column of the sub-query's own tables; for a column of the {row} write {column}",
        )


async def _check_zone(session: Session, path: KeyPath, zone: str) -> list[ConfigFinding]:
    """A finding if the server does not know the time zone."""
    known = Statement("time zones", "select name from pg_catalog.pg_timezone_names")
    names = [row[0] for row in await session.run(known, dotted(path))]
    if zone.lower() in {name.lower() for name in names}:
        return []
    near = nearest(zone, names)
    return [
        ConfigFinding(
            "error",
            dotted(path),
            "the server does not know this time zone" + (f"; did you mean {near}?" if near else ": write an IANA name"),
        )
    ]


async def _check_key(
    session: Session, plan: Plan, sessions: Relation, so_far: Sequence[ConfigFinding]
) -> list[ConfigFinding]:
    """Findings about `sessions.key`, with the statements of a collection."""
    pipeline = plan.pipeline
    path = f"pipelines.{pipeline.name}.sessions"
    findings = list(judge_session_key(pipeline, sessions))
    if has_failed(so_far, f"{path}.table"):
        return findings
    if plan.search:
        await session.run(plan.search, f"{path}.key")
    rows = await session.attempt(plan.unique_key, f"{path}.key", is_refused_lock)
    if plan.search:
        await session.run(search(()), f"{path}.key")
    if isinstance(rows, Fault):
        findings.append(fault_at(f"{path}.key", rows))
    elif not rows[0][0]:
        names = ", ".join(map(quote, pipeline.sessions.key))
        findings = [
            ConfigFinding(
                "error",
                f"{path}.key",
                f"several rows share a value of ({names}): name columns that are unique for each session; to see the "
                "duplicates:",
                f"SELECT {names}, count(*) FROM {sessions.table.sql} GROUP BY {names} HAVING count(*) > 1;",
            )
        ]
    return findings


# --- A collection


async def _try(plan: Plan, so_far: Sequence[ConfigFinding], found: Mapping[KeyPath, Relation]) -> list[ConfigFinding]:
    """Collect once, unless the findings already prevent a snapshot."""
    path = f"pipelines.{plan.pipeline.name}"
    # A failed part, such as a check, does not prevent the rest.
    parts = [f"{path}.{part.path}" for part in plan.parts]
    if has_failed((finding for finding in so_far if finding.path not in parts), f"{path}.sessions"):
        return [ConfigFinding("note", path, "nothing was collected: correct the errors of sessions first")]
    try:
        snapshot = await collect(plan)
    except CollectionError as error:
        return [fault_at(path, error.fault)]
    return list(judge_snapshot(plan.pipeline, snapshot, so_far, found))
