"""A first collection -> findings: empty tables, statuses outside `eligible`, limits that are broken at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from exporter.dimensions.conformance import RECORDS
from exporter.dimensions.coverage import ELIGIBLE, RECORD_SESSIONS
from exporter.dimensions.integrity import ORPHANED, UNLINKED
from exporter.dimensions.segments import SEGMENT, SEGMENT_SESSIONS
from exporter.dimensions.volume import SESSIONS
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import STRINGS, quote
from exporter.model.values import KeyPath
from exporter.setup.catalog import (
    Relation,
)
from exporter.setup.findings import SHOWN_NAMES, ConfigFinding, fault_at, has_failed
from exporter.setup.naming import words
from exporter.state.snapshot import Snapshot


def judge_snapshot(
    pipeline: Pipeline, snapshot: Snapshot, so_far: Sequence[ConfigFinding], found: Mapping[KeyPath, Relation]
) -> Iterator[ConfigFinding]:
    """The numbers and faults of a first collection, without a repetition of `so_far`.

    `found` has the table of each section.
    """
    path = f"pipelines.{pipeline.name}"
    readings = snapshot.readings
    states = readings.families.get(ELIGIBLE, {})
    total = sum(states.values())
    if not states:
        lost = ", ".join(snapshot.record_faults)
        yield ConfigFinding("note", path, f"the number of complete sessions needs every record; not measured: {lost}")
    elif total:
        yield ConfigFinding("ok", path, f"{total:.0f} sessions analysed: {_counts(states, zeros=True)}")
    else:
        statuses = _counts(readings.families.get(SESSIONS, {})) or "none"
        keys = "window, where and eligible" if pipeline.sessions.where else "window and eligible"
        yield ConfigFinding(
            "note",
            path,
            f"no session in the window is eligible: check {keys} (sessions in the window by status: {statuses})",
        )
    for part, refused in snapshot.part_faults.items():
        if not has_failed(so_far, f"{path}.{part}"):
            yield fault_at(f"{path}.{part}", refused)
    for name, record in pipeline.records.items():
        place = f"{path}.records.{name}"
        fault = snapshot.record_faults.get(name)
        if fault is None:
            states = readings.series(RECORD_SESSIONS, name)
            yield ConfigFinding("ok", place, f"sessions by state: {_counts(states) or 'none'}")
            if record.exists:
                continue
            rows = readings.series(RECORDS, name)
            yield from _judge_version(place, record, rows)
            keyed = sum(rows.values()) - readings.need(UNLINKED, name)
            if record.database:
                continue  # The catalog with the types of the key is in the other database.
            if sum(readings.families.get(SESSIONS, {}).values()) and 0 < keyed == readings.get(ORPHANED, name):
                yield _strangers(pipeline, name, keyed, found)
        elif not has_failed(so_far, place):
            yield fault_at(place, fault)
        else:
            yield ConfigFinding("note", place, "not measured: correct the errors above")
    yield from _judge_segments(path, pipeline, snapshot)
    yield from _judge_limits(path, snapshot)


_PERSONAL: Final = frozenset(
    (
        *("email", "mail", "phone", "mobile", "person", "user", "username", "login", "patient", "employee", "contact"),
        *("firstname", "lastname", "surname", "birth", "birthday", "ssn", "passport", "ip", "iban", "address"),
    )
)
"""Parts of the names of columns that tell one person from another."""


def _judge_segments(path: str, pipeline: Pipeline, snapshot: Snapshot) -> Iterator[ConfigFinding]:
    """Segments are labels, and so in Prometheus, alerts and reports: none may be a person."""
    segment = SEGMENT.of(pipeline.sessions)
    if segment is None:
        return
    for column in segment.columns:
        if not _PERSONAL.isdisjoint(words(column)):
            yield ConfigFinding(
                "note",
                f"{path}.sessions.segment.columns",
                f"{column} looks like a person: the values are labels in Prometheus, on pages and in reports; name a "
                "column of a group, such as the tenant, or a view with a pseudonym",
            )
    states = snapshot.readings.families.get(SEGMENT_SESSIONS, {})
    if states:
        names = {name for name, _ in states}
        rest = ", and the rest as <other>" if "<other>" in names else ""
        yield ConfigFinding("ok", f"{path}.sessions.segment", f"{len(names - {'<other>'})} segments{rest}")


def _strangers(pipeline: Pipeline, name: str, rows: float, found: Mapping[KeyPath, Relation]) -> ConfigFinding:
    """No row of a record matches a session: the key is probably in another column, or written differently."""
    top: KeyPath = ("pipelines", pipeline.name)
    of_record, of_sessions = found[*top, "records", name], found[*top, "sessions"]
    types, others, casts = [], set[str](), []
    for part, key in zip(pipeline.records[name].session_key, pipeline.sessions.key, strict=True):
        theirs, own = of_record.column(part.column), of_sessions.column(key)
        if theirs is None or own is None:
            continue
        types.append(f"{quote(theirs.name)} is {theirs.type}, {quote(own.name)} of the sessions is {own.type}")
        others |= {column.name for column in of_record.columns if column.base == own.base} - {theirs.name}
        if part.cast in STRINGS and own.base not in STRINGS:
            casts.append(f", or write {{column: {part.column}, cast: {own.base}}}")
    listed = f" (same type: {', '.join(sorted(others))})" if 0 < len(others) <= SHOWN_NAMES else ""
    return ConfigFinding(
        "note",
        f"pipelines.{pipeline.name}.records.{name}.session_key",
        f"no row of {rows:.0f} matches a session ({' and '.join(types)}): name the column with the session's key"
        f"{listed}{''.join(casts)}, or read a view with both keys in the same form",
    )


def _judge_limits(path: str, snapshot: Snapshot) -> Iterator[ConfigFinding]:
    """The verdict of the first collection, and broken limits as notes: a broken limit is no error of the config."""
    judgement = snapshot.judgement
    is_complete = not snapshot.record_faults and not snapshot.part_faults
    verdict = judgement.verdict(is_complete=is_complete)
    yield ConfigFinding("ok" if verdict == "healthy" else "note", path, f"the verdict is {verdict}")
    for finding in judgement.findings:
        if finding.outcome in ("warning", "critical"):
            subject = f" of {finding.subject}" if finding.subject else ""
            place = f"{path}.limits.{finding.limit.name}"
            yield ConfigFinding("note", place, f"{finding.outcome}{subject}: {finding.text}")
    yield from (
        ConfigFinding("note", path, caveat.message) for caveat in judgement.caveats if caveat.verdict == "unknown"
    )


def _judge_version(path: str, record: Record, rows: Mapping[tuple[str, ...], float]) -> Iterator[ConfigFinding]:
    if record.version and sum(rows.values()) and not any(rows[labels] for labels in rows if labels[1] == "current"):
        found = _counts({labels[:1]: count for labels, count in rows.items()})
        yield ConfigFinding(
            "note", f"{path}.version.current", f"no row has the current version (rows by version: {found})"
        )


def _counts(values: Mapping[tuple[str, ...], float], *, zeros: bool = False) -> str:
    """Numbers with names, the largest first, without zeros; with `zeros` in the given order."""
    ordered = values.items() if zeros else sorted(values.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:.0f} {labels[0]}" for labels, count in list(ordered)[:10] if count or zeros)
