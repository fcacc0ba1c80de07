"""An earlier report, or Prometheus' history -> the Past that a report compares with, if it is one of the same data.

Numbers of then are read as today's config would: so each line stands beside its own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import aiohttp

from exporter.board import Standing
from exporter.dimension import PREFIX, WINDOW_START, Dimension, Metric, Readings
from exporter.report.account import Past, lines_of
from exporter.report.document import Document, PipelinePart, WindowPart, measured_by
from exporter.schema import moment_text, parse_moment

PATIENCE_SECONDS: Final = 30
_CLOCK: Final = PREFIX + "snapshot_timestamp_seconds"


class PastError(Exception):
    """The past cannot be compared with, or not be had; the message says why, and what to do."""


def pasts_of_document(
    document: Document, source: str, standings: Iterable[Standing], dimensions: Sequence[Dimension]
) -> dict[str, Past]:
    """What an earlier report says of each pipeline; raises PastError unless it is of the same database and window."""
    then = {part.pipeline: part for part in document.pipelines}
    found, problems = {}, []
    for standing in standings:
        part = then.get(standing.pipeline)
        if problem := _unlike(standing, part):
            problems.append(f"{source}: {problem}")
        elif part is not None and part.measured_at is not None:
            numbers = ((number.metric, number.labels, number.value) for number in part.numbers)
            moment = parse_moment(part.measured_at).timestamp()
            found[standing.pipeline] = _past(standing, dimensions, source, moment, numbers)
    if problems:
        raise PastError("\n".join(problems))
    return found


def _unlike(standing: Standing, part: PipelinePart | None) -> str | None:
    """Why a report is of something else, None where it is not."""
    name = standing.pipeline
    if part is None:
        return f"it says nothing of the pipeline {name}"
    if part.measured_at is None:
        return f"it measured nothing of the pipeline {name}"
    now = standing.snapshot.identity if standing.snapshot else None
    if part.database != standing.database or (part.identity and now and part.identity != now):
        return f"it is of another database than {standing.database} of the pipeline {name} is now"
    window = WindowPart.of(standing.config.window)
    if part.window != window:
        return f"its window ({_shown(part.window)}) is not that of the pipeline {name} now ({_shown(window)})"
    if part.measures != measured_by(standing.config):
        return (
            f"the config of the pipeline {name} measures something else since (eligible, grace, versions, records …): "
            "write a baseline with the config as it is now"
        )
    if standing.snapshot and parse_moment(part.measured_at).timestamp() > standing.snapshot.taken_at:
        return f"it was measured later than the pipeline {name} now: name an earlier report"
    return None


def _shown(window: WindowPart) -> str:
    return f"since {window.since}" if window.since else f"the last {window.last_seconds:.0f} s"


async def pasts_of_prometheus(
    url: str, at: datetime, match: Mapping[str, str], standings: Iterable[Standing], dimensions: Sequence[Dimension]
) -> dict[str, Past]:
    """What Prometheus knows of each pipeline at a moment, by series with the labels of `match`; raises PastError.

    https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
    """
    source = f"Prometheus at {moment_text(at.timestamp())}"
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return {
            standing.pipeline: await _past_of_prometheus(session, url, at, match, source, standing, dimensions)
            for standing in standings
        }


async def _past_of_prometheus(
    session: aiohttp.ClientSession,
    url: str,
    at: datetime,
    match: Mapping[str, str],
    source: str,
    standing: Standing,
    dimensions: Sequence[Dimension],
) -> Past:
    labels = {**match, "database": standing.database, "pipeline": standing.pipeline}
    own = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
    query = f'{{__name__=~"{PREFIX}.+",{own}}}'
    found = await _ask(session, url, query, at)
    numbers = _of_one_exporter(found)
    clock = next((value for name, _, value in numbers if name == _CLOCK), None)
    if clock is None:
        raise PastError(f"{source} knows no numbers of the pipeline {standing.pipeline}: name another time with --at")
    start = next((value for name, _, value in numbers if name == WINDOW_START.full_name), None)
    if start is not None and abs(start - standing.config.window.start(clock)) > 1:
        raise PastError(
            f"{source} looked at sessions since {moment_text(start)}, which is not the window of the pipeline "
            f"{standing.pipeline} now: name a later time with --at"
        )
    return _past(standing, dimensions, source, clock, numbers)


async def _ask(session: aiohttp.ClientSession, url: str, query: str, at: datetime) -> list[dict[str, Any]]:
    parameters = {"query": query, "time": str(at.timestamp())}
    try:
        async with session.get(f"{url.rstrip('/')}/api/v1/query", params=parameters) as response:
            answer = await response.json(content_type=None)
        if not isinstance(answer, dict) or answer.get("status") != "success":
            said = answer.get("error") if isinstance(answer, dict) else None
            raise PastError(f"Prometheus refuses ({response.status}): {said or 'it is none, by its answer'}")
        result: list[dict[str, Any]] = answer["data"]["result"]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        # An address may hold a password, and so may the error's text.
        raise PastError(
            f"Prometheus cannot be asked ({type(error).__name__}): see that --prometheus is its address"
        ) from None
    return result


_Number = tuple[str, Mapping[str, str], float]


def _of_one_exporter(found: Sequence[dict[str, Any]]) -> list[_Number]:
    """The series of one target: of a pair of exporters, that with the newest snapshot.

    Raises PastError where targets differ in more than the instance: those may look at other databases.
    """
    targets = {
        frozenset((k, v) for k, v in one["metric"].items() if k not in ("__name__", "database", "pipeline")): one
        for one in found
        if one["metric"].get("__name__") == _CLOCK
    }
    kinds = [{label for label in target if label[0] != "instance"} for target in targets]
    if differ := sorted({name for kind in kinds for name, _ in kind ^ kinds[0]}):
        raise PastError(
            f"several exporters measure a pipeline of this name, and differ in {', '.join(differ)}: name one with "
            f"--match {differ[0]}=VALUE"
        )
    newest = max(targets, key=lambda target: float(targets[target]["value"][1]), default=frozenset())
    return [
        (one["metric"]["__name__"], one["metric"], float(one["value"][1]))
        for one in found
        if newest <= one["metric"].items()
    ]


def _past(
    standing: Standing, dimensions: Sequence[Dimension], source: str, moment: float, numbers: Iterable[_Number]
) -> Past:
    known: dict[str, Metric] = {m.full_name: m for dimension in dimensions for m in dimension.metrics}
    families: dict[str, dict[tuple[str, ...], float]] = {}
    measured = set()
    for name, labels, value in numbers:
        metric = known.get(name)
        if metric is not None and all(label in labels for label in metric.labels):
            families.setdefault(metric.name, {})[tuple(labels[label] for label in metric.labels)] = value
            # A record that could not be measured has no number at all.
            measured |= {labels["record"]} if "record" in metric.labels else set()
    since = standing.config.window.start(moment)
    then = Readings(standing.config, moment, families, frozenset(measured))
    return Past(source, moment, since, lines_of(then, dimensions))
