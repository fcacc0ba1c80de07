"""Validity: do records have accepted values, and do sessions pass the checks?"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator

from exporter.model.advice import Advice
from exporter.model.counting import (
    Cells,
    Facet,
    Fact,
    Part,
    RecordMeasure,
    Rows,
    Scope,
    SessionMeasure,
    Total,
    rows_where,
    sessions_where,
)
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, number_of
from exporter.model.listing import VALUES, RowList, SessionList
from exporter.model.metric import LABEL_LENGTH, LabelValue, Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Key, Pipeline, Record, Section
from exporter.model.sql import OURS, Bindings, condition, one_of, quote, same_text, text_literal
from exporter.model.states import PASSES, early
from exporter.model.values import Duration, Expression, Name


class Check(Section):
    """A condition that must be true for every eligible session: SQL over the sessions table."""

    sql: Expression
    """SQL over this table, with sub-queries allowed; NULL fails."""
    grace: Duration | None = None
    """How long after the completion a session may fail.  Default: the pipeline's grace; 0: no time at all."""


def _parse_check(value: object) -> object:
    return {"sql": value} if isinstance(value, str) else value


CHECKS: Final[Key[dict[str, Check]]] = Key(
    "sessions",
    "checks",
    dict[Name, Annotated[Check, BeforeValidator(_parse_check, json_schema_input_type=Expression | Check)]],
    default={},
    help="NAME: SQL that must be true for every eligible session after the grace period, or {sql, grace}; NULL fails.",
    example={"priced": "amount is not null", "paid": {"sql": "paid_at is not null", "grace": "10m"}},
)

CHECK_SESSIONS = Metric(
    "check_sessions",
    "Eligible sessions in the window by result of a check: pass (true), fail (false or NULL) or pending (not true yet, "
    "within the grace period).  The sum is the number of analysed sessions.",
    labels=("check", "result"),
)
VALUE_SESSIONS = Metric(
    "record_value_sessions",
    "Eligible sessions in the window with a row of the value, by column of `accepted_values`.",
    labels=("record", "column", "value", "class"),
    open_label="value",
)
VALUE_ROWS = Metric(
    "record_value_rows",
    "Rows of the record table by value, for each column of `accepted_values` and all sessions.",
    labels=("record", "column", "value", "class"),
    open_label="value",
)
INVALID = Metric(
    "invalid_records",
    "Invalid rows: a value (or NULL) outside `accepted_values`, or `valid` is not true.  A row with two faults counts "
    "once.",
    labels=("record",),
)


def _parts(pipeline: Pipeline) -> tuple[Part, ...]:
    return tuple(Part(name, f"sessions.checks.{name}") for name in CHECKS.of(pipeline.sessions))


def _passes(part: Part) -> str:
    return f"passes:{part.name}"


def _session_facts(scope: Scope) -> tuple[Fact, ...]:
    asked = (part for part in _parts(scope.pipeline) if part in scope.parts)
    return tuple(_fact(part, CHECKS.of(scope.pipeline.sessions)[part.name].sql) for part in asked)


def _fact(part: Part, sql: str) -> Fact:
    return Fact(_passes(part), lambda _bind: condition(sql), once_settled=True)


def _grace(pipeline: Pipeline, part: Part) -> timedelta:
    given = CHECKS.of(pipeline.sessions)[part.name].grace
    return pipeline.grace if given is None else given


def _graces(pipeline: Pipeline) -> tuple[timedelta, ...]:
    return tuple(_grace(pipeline, part) for part in _parts(pipeline))


def _session_totals(scope: Scope) -> tuple[Total, ...]:
    return tuple(
        Total(f"{result}:{part.name}", sessions_where(condition))
        for part in _parts(scope.pipeline)
        if part in scope.parts
        for result, condition in _results(scope.pipeline, part).items()
    )


def _results(pipeline: Pipeline, part: Part) -> dict[str, str]:
    """The conditions over a session for each result of a check."""
    passes, is_early = quote(_passes(part)), early(_grace(pipeline, part))
    return {
        "pass": f"analysed and {passes}",
        "fail": f"analysed and not {passes} and not {is_early}",
        "pending": f"analysed and not {passes} and {is_early}",
    }


def _fails(pipeline: Pipeline, check: str) -> str:
    [part] = [part for part in _parts(pipeline) if part.name == check]
    return _results(pipeline, part)["fail"]


def _checks(pipeline: Pipeline, sessions: Cells) -> Numbers:
    totals = {
        (name, result): f"{result}:{name}"
        for name in CHECKS.of(pipeline.sessions)
        for result in ("pass", "fail", "pending")
    }
    return {labels: sessions.total(total) for labels, total in totals.items() if total in sessions.columns}


def _facet(column: str) -> str:
    return f"values of {column}"


def _facets(record: Record) -> tuple[Facet, ...]:
    return tuple(
        Facet(_facet(column), same_text(quote(column)), dict.fromkeys(values, "accepted"), "invalid")
        for column, values in record.accepted_values.items()
    )


_INVALID: Final = "not valid"


def _row_totals(_record: Record) -> tuple[Total, ...]:
    return (Total("invalid", rows_where(_INVALID)),)


def _is_listed(_pipeline: Pipeline, record: Record) -> str | None:
    return _INVALID if _is_judged(record) else None


def _faults(record: Record, bind: Bindings) -> Mapping[str, str]:
    """The values outside `accepted_values` by column, and whether `valid` is not true."""
    bad = ["'{}'::jsonb"]
    for column, values in record.accepted_values.items():
        text = same_text(quote(column))
        value = f"pg_catalog.jsonb_build_object({text_literal(column)}, {text})"
        bad.append(f"case when ({one_of(text, values, bind)}) is true then '{{}}' else {value} end")
    fails = f"not {OURS}.{quote(PASSES)}" if record.valid else "false"
    return {VALUES: " operator(pg_catalog.||) ".join(bad), "fails_valid": fails}


def _by_value(record: Record, total: str, counted: Callable[[str], Cells | None]) -> Numbers:
    """Add the values in the config with a count of 0; nothing of a column that was not counted."""
    counts: dict[tuple[LabelValue, ...], int] = {}
    for column, values in record.accepted_values.items():
        cells = counted(_facet(column))
        if cells is None:
            continue
        counts |= {(column, value[:LABEL_LENGTH], "accepted"): 0 for value in values}
        found = cells.totals(total, "value", "category")
        counts |= {(column, *labels): count for labels, count in found.items()}
    return counts


def _sessions_by_value(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return _by_value(record, "sessions", rows.sessions.get)


def _rows_by_value(record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return _by_value(record, "rows", rows.facet)


def _invalid(_record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return {(): rows.all.total("invalid")}


def _is_judged(record: Record) -> bool:
    return bool(record.accepted_values or record.valid)


def _number_of_invalid(readings: Readings, record: str) -> float | None:
    number = readings.need(INVALID, record)
    return number if _is_judged(readings.pipeline.records[record]) else None


def _lines_of(record: Record, readings: Readings) -> Iterator[ReportLine]:
    for column, values in record.accepted_values.items():
        found = {labels: n for labels, n in readings.series(VALUE_ROWS, record.name).items() if labels[0] == column}
        accepted = sum(count for (_, _, kind), count in found.items() if kind == "accepted") if found else None
        whole = sum(found.values()) if found else None
        yield ReportLine(
            "quality", f"Rows whose {column} is {' or '.join(values)}", accepted, whole, record.name, good="all"
        )
    judged = _is_judged(record)
    yield ReportLine(
        "quality",
        "Invalid rows",
        readings.get(INVALID, record.name) if judged else None,
        record=record.name,
        good="none",
        limit="invalid_records" if judged else None,
        remedy="" if judged else f"records.{record.name}.accepted_values or valid",
        brief="invalid rows",
    )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    checks = []
    for part in _parts(readings.pipeline):
        passed, failed = (readings.get(CHECK_SESSIONS, part.name, result) for result in ("pass", "fail"))
        whole = None if passed is None or failed is None else passed + failed
        checks.append(
            ReportLine(
                "quality",
                f"Sessions that pass the check {part.name}",
                passed,
                whole,
                good="all",
                limit="failed_checks",
                subject=part.name,
            )
        )
    if not checks:
        remedy = "sessions.checks"
        checks = [ReportLine("quality", "Sessions that pass every check", None, remedy=remedy)]
    of_records = (line for record in readings.pipeline.stored.values() for line in _lines_of(record, readings))
    return (*of_records, *checks)


VALIDITY = Dimension(
    name="validity",
    question="Do records have accepted values, and do sessions pass the checks?",
    measures=(
        SessionMeasure(CHECK_SESSIONS, _checks),
        RecordMeasure(VALUE_SESSIONS, _sessions_by_value, of_rows=True),
        RecordMeasure(VALUE_ROWS, _rows_by_value, of_rows=True),
        RecordMeasure(INVALID, _invalid, of_rows=True),
    ),
    keys=(CHECKS,),
    limits=(
        Limit(
            "invalid_records",
            "count",
            "Invalid rows",
            replace(
                number_of(INVALID), read=_number_of_invalid, nothing="the record has no accepted_values and no valid"
            ),
            Advice(
                "Records have invalid values.",
                "Rows have a value (or NULL) outside the list of `accepted_values`, or `valid` is not true.  With "
                "`satisfied_by: current_version`, a session with only invalid rows is a gap; with `every_row`, a "
                "session with one invalid row.",
                (
                    "The pipeline created empty rows, and never filled the columns.",
                    "A release writes a new value that is missing in the config.",
                    "A manual correction went wrong.",
                ),
                (
                    (
                        'See the invalid values: `session_health_record_value_rows{class="invalid"}`, or the panel of '
                        "values."
                    ),
                    "Add correct values to `accepted_values`.",
                    (
                        "List the rows (`list invalid_records`).  `gaps --reason invalid` lists the sessions that "
                        "invalid rows make a gap."
                    ),
                    "Derive wrong rows again.",
                ),
            ),
            per="record",
            needs=(("records", "*", "table"),),
            members=RowList(_is_listed, columns=_faults, needs="records.NAME.accepted_values or valid"),
        ),
        Limit(
            "failed_checks",
            "count",
            "Sessions that fail a check",
            number_of(CHECK_SESSIONS, result="fail"),
            Advice(
                "Sessions fail a configured check.",
                "The SQL of this check (`sessions.checks` in the config) is false or NULL for eligible sessions.",
                (
                    "The platform skipped a step, and never wrote the checked values.",
                    "A new kind of session is exempt: then `eligible` or the check is too strict.",
                ),
                (
                    "List the sessions (`list failed_checks`).",
                    "Repeat the skipped step, or correct the check.",
                ),
            ),
            per="part",
            needs=(("sessions", "checks"),),
            members=SessionList(
                _fails,
                lambda pipeline: tuple(CHECKS.of(pipeline.sessions)),
                label="check",
                needs="sessions.checks",
            ),
        ),
    ),
    lines=_lines,
    parts=_parts,
    session_facts=_session_facts,
    session_totals=_session_totals,
    graces=_graces,
    facets=_facets,
    row_totals=_row_totals,
)
