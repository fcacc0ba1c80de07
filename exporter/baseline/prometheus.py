"""Values in Prometheus at an earlier time -> the Baseline of a report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import aiohttp
from pydantic import BaseModel, ValidationError

from exporter.baseline.document import BaselineError, Number, baseline_from
from exporter.model.dimension import Dimension
from exporter.model.metric import METRIC_PREFIX, WINDOW_START
from exporter.present.report.account import Baseline
from exporter.state.board import PipelineStatus
from exporter.text.files import MB
from exporter.text.terminal import printable
from exporter.text.times import moment_text

PATIENCE_SECONDS: Final = 30
LARGEST_ANSWER: Final = 64 * MB
"""Bytes: 300,000 series."""
_LONGEST_ERROR: Final = 500
_NOT_PROMETHEUS: Final = "not an answer of Prometheus: check the URL of --prometheus"
_CLOCK: Final = METRIC_PREFIX + "snapshot_timestamp_seconds"


class Series(BaseModel):
    """A series and its value: https://prometheus.io/docs/prometheus/latest/querying/api/#instant-vectors."""

    metric: dict[str, str]
    value: tuple[float, float]


class _Data(BaseModel):
    result: list[Series]


class _Answer(BaseModel):
    status: str
    error: str = ""
    data: _Data | None = None


async def baselines_of_prometheus(
    url: str,
    at: datetime,
    match: Mapping[str, str],
    statuses: Iterable[PipelineStatus],
    dimensions: Sequence[Dimension],
) -> dict[str, Baseline]:
    """The values in Prometheus at a time, by pipeline, from series with the labels of `match`; raises BaselineError.

    https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
    """
    source = f"Prometheus at {moment_text(at.timestamp())}"
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return {
            status.pipeline: await _baseline_of_prometheus(session, url, at, match, source, status, dimensions)
            for status in statuses
        }


async def _baseline_of_prometheus(
    session: aiohttp.ClientSession,
    url: str,
    at: datetime,
    match: Mapping[str, str],
    source: str,
    status: PipelineStatus,
    dimensions: Sequence[Dimension],
) -> Baseline:
    labels = {**match, "database": status.database, "pipeline": status.pipeline}
    own = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
    query = f'{{__name__=~"{METRIC_PREFIX}.+",{own}}}'
    found = await _ask(session, url, query, at)
    numbers = _of_one_exporter(found)
    clock = next((value for name, _, value in numbers if name == _CLOCK), None)
    if clock is None:
        raise BaselineError(f"{source} has no numbers of {status.pipeline}: name another time with --at")
    start = next((value for name, _, value in numbers if name == WINDOW_START.full_name), None)
    if start is not None and abs(start - status.config.window.start(clock)) > 1:
        raise BaselineError(
            f"{source}: the window of {status.pipeline} began at {moment_text(start)}, unlike the window of the "
            "config: name a later time with --at"
        )
    return baseline_from(status, dimensions, source, clock, numbers)


async def _ask(session: aiohttp.ClientSession, url: str, query: str, at: datetime) -> list[Series]:
    parameters = {"query": query, "time": str(at.timestamp())}
    try:
        async with session.get(f"{url.rstrip('/')}/api/v1/query", params=parameters) as response:
            body = await _body_of(response)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        # The URL and the text of the error may have a password.
        raise BaselineError(
            f"cannot query Prometheus ({type(error).__name__}): check the URL of --prometheus"
        ) from None
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError:
        answer = _Answer(status="")
    if answer.status != "success" or answer.data is None:
        why = printable(answer.error[:_LONGEST_ERROR]) or _NOT_PROMETHEUS
        raise BaselineError(f"Prometheus refuses the query ({response.status}): {why}")
    return answer.data.result


async def _body_of(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(1 << 16):
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise BaselineError(f"the answer is larger than {LARGEST_ANSWER // MB} MB: check the URL of --prometheus")
    return bytes(body)


def _of_one_exporter(found: Sequence[Series]) -> list[Number]:
    """The series of one target: from several instances, the instance with the newest snapshot.

    Raises BaselineError if targets differ in other labels: the exporters may measure different databases.
    """
    targets = {
        frozenset((k, v) for k, v in one.metric.items() if k not in ("__name__", "database", "pipeline")): one
        for one in found
        if one.metric.get("__name__") == _CLOCK
    }
    kinds = [{label for label in target if label[0] != "instance"} for target in targets]
    if differ := sorted({name for kind in kinds for name, _ in kind ^ kinds[0]}):
        raise BaselineError(
            f"several exporters report a pipeline of this name, with different {', '.join(differ)}: select one with "
            f"--match {differ[0]}=VALUE"
        )
    newest = max(targets, key=lambda target: targets[target].value[1], default=frozenset())
    return [(one.metric.get("__name__", ""), one.metric, one.value[1]) for one in found if newest <= one.metric.items()]
