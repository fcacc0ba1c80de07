"""Answers of a Prometheus that is another program, or whose history is not whole: refused with the remedy."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from conftest import Database

from exporter.baseline import prometheus
from exporter.baseline.document import BaselineError
from exporter.baseline.prometheus import baselines_of_prometheus
from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.model.metric import SNAPSHOT_TIME, Metric
from exporter.present.report.account import Baseline
from exporter.state.board import PipelineStatus


@asynccontextmanager
async def answering(body: bytes, status: int = 200) -> AsyncIterator[str]:
    """A server that gives one answer to every request; the value is its URL."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def compared(status: PipelineStatus, body: bytes, code: int = 200) -> Baseline:
    async with answering(body, code) as url:
        found = await baselines_of_prometheus(url, datetime.now(UTC), {}, [status], DIMENSIONS)
    return found[status.pipeline]


def history(status: PipelineStatus) -> list[dict[str, Any]]:
    """The series of the page, as Prometheus gives them."""
    assert status.snapshot is not None
    own = {"job": "j", "instance": "i", "database": status.database, "pipeline": status.pipeline}
    numbers: dict[Metric, Mapping[tuple[str, ...], float]] = {
        SNAPSHOT_TIME: {(): status.snapshot.taken_at},
        **status.snapshot.readings.families,
    }
    return [
        {
            "metric": {"__name__": metric.full_name, **own, **dict(zip(metric.labels, labels, strict=True))},
            "value": [time.time(), str(value)],
        }
        for metric, family in numbers.items()
        for labels, value in family.items()
    ]


def success(series: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}}).encode()


async def test_a_whole_history_is_compared_with(backfill: Database) -> None:
    [status] = await collect_once([backfill.plan()])

    past = await compared(status, success(history(status)))

    assert {line.value for line in past.lines if line.text == "Unique sessions needing a backfill"} == {39}


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(lambda metric: metric.get("state") == "pending", id="series of a state"),
        pytest.param(lambda metric: metric.pop("reason", None) and False, id="a label"),
    ],
)
async def test_a_history_whose_series_or_labels_were_dropped_is_refused(
    backfill: Database, lost: Callable[[dict[str, str]], bool]
) -> None:
    [status] = await collect_once([backfill.plan()])
    kept = [one for one in history(status) if not lost(one["metric"])]

    with pytest.raises(BaselineError, match=r"assessments are missing or changed \(a removed series or label\): comp"):
        await compared(status, success(kept))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"status": "success"}',
        b'{"status": "success", "data": {"result": {}}}',
        success([{"metric": {}}]),
        success([{"metric": {}, "value": [1, "x"]}]),
        success([{"metric": [], "value": [1, "2"]}]),
        success([{"metric": {"__name__": 5}, "value": [1, "2"]}]),
    ],
)
async def test_what_is_no_answer_of_prometheus_is_refused(backfill: Database, body: bytes) -> None:
    [status] = await collect_once([backfill.plan()])

    with pytest.raises(BaselineError, match=r"\(200\): not an answer of Prometheus: check the URL of --prometheus"):
        await compared(status, body)


async def test_an_error_of_prometheus_is_told_and_controls_no_terminal(backfill: Database) -> None:
    [status] = await collect_once([backfill.plan()])
    body = json.dumps({"status": "error", "error": "bad \x1b[31m query" + "x" * 5000}).encode()

    with pytest.raises(BaselineError, match=r"\(400\): bad \\x1b\[31m query") as refusal:
        await compared(status, body, 400)

    assert len(str(refusal.value)) < 1000


async def test_an_answer_without_end_is_refused(backfill: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "LARGEST_ANSWER", 1 << 20)
    [status] = await collect_once([backfill.plan()])

    with pytest.raises(BaselineError, match=r"the answer is larger than 1 MB: check the URL of --prometheus"):
        await asyncio.wait_for(compared(status, b" " * (2 << 20)), 30)
