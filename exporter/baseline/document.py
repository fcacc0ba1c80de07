"""An earlier report of the same data -> the Baseline that a report compares with.

Earlier values are read with the current config, so that each line has a counterpart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from exporter.model.dimension import Dimension
from exporter.model.elsewhere import another, identities_of
from exporter.model.judging import Readings, UnmeasuredError
from exporter.model.metric import Metric
from exporter.present.report.account import Baseline, lines_of
from exporter.present.report.document import Document, PipelinePart, WindowPart, measured_by
from exporter.state.board import PipelineStatus
from exporter.text.exits import UsageError
from exporter.text.times import parse_moment


class BaselineError(UsageError):
    """The earlier numbers are not available or not comparable; the message has the fault and the remedy."""


def baselines_of_document(
    document: Document, source: str, statuses: Iterable[PipelineStatus], dimensions: Sequence[Dimension]
) -> dict[str, Baseline]:
    """The numbers of an earlier report, by pipeline; raises BaselineError for another database, window or config."""
    then = {part.pipeline: part for part in document.pipelines}
    found, problems = {}, []
    for status in statuses:
        part = then.get(status.pipeline)
        if problem := _unlike(status, part):
            problems.append(f"{source}: {problem}")
        elif part is not None and part.measured_at is not None:
            numbers = ((number.metric, number.labels, number.value) for number in part.numbers)
            moment = parse_moment(part.measured_at).timestamp()
            found[status.pipeline] = baseline_from(status, dimensions, source, moment, numbers)
    if problems:
        raise BaselineError("\n".join(problems))
    return found


def _unlike(status: PipelineStatus, part: PipelinePart | None) -> str | None:
    """The reason why a report is not comparable; None for a comparable report."""
    name = status.pipeline
    if part is None:
        return f"the report has no pipeline {name}: name another report"
    if part.measured_at is None:
        return f"the report has no numbers of the pipeline {name}: name another report"
    now = status.snapshot.identity if status.snapshot else None
    if part.database != status.database or (part.identity and now and part.identity != now):
        return f"the report is from another database than {status.database} of the pipeline {name}: name another report"
    others = identities_of(status.snapshot.elsewhere) if status.snapshot else {}
    if other := another(part.identities, others):
        return f"the report is from another database than {other} of the pipeline {name}: name another report"
    window = WindowPart.of(status.config.window)
    if part.window != window:
        return (
            f"the window of the pipeline {name} was {_shown(part.window)}, and is now {_shown(window)}: name another "
            "report"
        )
    if part.measures != measured_by(status.config):
        return (
            f"the config of the pipeline {name} has changed since the report (eligible, grace, versions, records …): "
            "write a new baseline with the current config"
        )
    if status.snapshot and parse_moment(part.measured_at).timestamp() > status.snapshot.taken_at:
        return f"the report is newer than the measurement of the pipeline {name}: name an earlier report"
    return None


def _shown(window: WindowPart) -> str:
    return f"since {window.since}" if window.since else f"the last {window.last_seconds:.0f} s"


_LARGEST: Final = 1e15
"""Of a count or of Unix seconds: a greater number is none of the exporter."""

Number = tuple[str, Mapping[str, str], float]
"""A number in Prometheus: full name, labels, value."""


def baseline_from(
    status: PipelineStatus, dimensions: Sequence[Dimension], source: str, moment: float, numbers: Iterable[Number]
) -> Baseline:
    """Earlier numbers as a Baseline, with the report lines of the current config.

    Raises BaselineError if numbers of every complete measurement are missing.
    """
    known = {m.full_name: m for dimension in dimensions for m in dimension.metrics}
    families: dict[Metric, dict[tuple[str, ...], float]] = {}
    measured = set()
    for name, labels, value in numbers:
        metric = known.get(name)
        if metric is not None and all(label in labels for label in metric.labels):
            families.setdefault(metric, {})[tuple(labels[label] for label in metric.labels)] = value
            # An unmeasured record has no numbers.
            measured |= {labels["record"]} if "record" in metric.labels else set()
    is_plausible = moment >= 0 and all(
        math.isfinite(number) and abs(number) <= _LARGEST for family in families.values() for number in family.values()
    )
    then = Readings(status.config, moment, families, frozenset(measured))
    try:
        lines = lines_of(then, dimensions) if is_plausible else ()
    except UnmeasuredError:
        lines = ()
    if not lines:
        raise BaselineError(
            f"{source}: numbers of the pipeline {status.pipeline} are missing or changed (a removed series or label): "
            "compare with an unchanged report or history"
        )
    return Baseline(source, moment, status.config.window.start(moment), lines)
