"""An earlier report -> the Baseline that a report compares with, if it is one of the same data.

Values of then are read as today's config would: so each line stands beside its own.
"""

from collections.abc import Iterable, Mapping, Sequence

from exporter.model.dimension import Dimension
from exporter.model.judging import Readings
from exporter.model.metric import Metric
from exporter.present.report.account import Baseline, lines_of
from exporter.present.report.document import Document, PipelinePart, WindowPart, measured_by
from exporter.state.board import PipelineStatus
from exporter.text.exits import UsageError
from exporter.text.times import parse_moment


class BaselineError(UsageError):
    """The past cannot be compared with, or not be had; the message says why, and what to do."""


def baselines_of_document(
    document: Document, source: str, statuses: Iterable[PipelineStatus], dimensions: Sequence[Dimension]
) -> dict[str, Baseline]:
    """What an earlier report says of each pipeline; raises BaselineError unless database and window are the same."""
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
    """Why a report is of something else, None where it is not."""
    name = status.pipeline
    if part is None:
        return f"it says nothing of the pipeline {name}"
    if part.measured_at is None:
        return f"it measured nothing of the pipeline {name}"
    now = status.snapshot.identity if status.snapshot else None
    if part.database != status.database or (part.identity and now and part.identity != now):
        return f"it is of another database than {status.database} of the pipeline {name} is now"
    window = WindowPart.of(status.config.window)
    if part.window != window:
        return f"its window ({_shown(part.window)}) is not that of the pipeline {name} now ({_shown(window)})"
    if part.measures != measured_by(status.config):
        return (
            f"the config of the pipeline {name} measures something else since (eligible, grace, versions, records …): "
            "write a baseline with the config as it is now"
        )
    if status.snapshot and parse_moment(part.measured_at).timestamp() > status.snapshot.taken_at:
        return f"it was measured later than the pipeline {name} now: name an earlier report"
    return None


def _shown(window: WindowPart) -> str:
    return f"since {window.since}" if window.since else f"the last {window.last_seconds:.0f} s"


Number = tuple[str, Mapping[str, str], float]
"""A number as Prometheus has it: its full name, its labels, its value."""


def baseline_from(
    status: PipelineStatus, dimensions: Sequence[Dimension], source: str, moment: float, numbers: Iterable[Number]
) -> Baseline:
    """The lines of then, of a pipeline as its config is now."""
    known = {m.full_name: m for dimension in dimensions for m in dimension.metrics}
    families: dict[Metric, dict[tuple[str, ...], float]] = {}
    measured = set()
    for name, labels, value in numbers:
        metric = known.get(name)
        if metric is not None and all(label in labels for label in metric.labels):
            families.setdefault(metric, {})[tuple(labels[label] for label in metric.labels)] = value
            # A record that could not be measured has no number at all.
            measured |= {labels["record"]} if "record" in metric.labels else set()
    since = status.config.window.start(moment)
    then = Readings(status.config, moment, families, frozenset(measured))
    return Baseline(source, moment, since, lines_of(then, dimensions))
