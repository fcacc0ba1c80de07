"""Board -> metric families -> text.  Pure: knows neither the database nor HTTP.

Families are built from immutable values: a withdrawn value leaves no series.
https://prometheus.io/docs/instrumenting/writing_exporters/
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from prometheus_client import Metric as AnyFamily
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest as text_format
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_format
from prometheus_client.registry import Collector

from exporter.dimensions import DIMENSIONS
from exporter.model.metric import Metric
from exporter.state.board import Board, PipelineStatus
from exporter.state.self_metrics import PROGRAM_METRICS, SELF_METRICS, OwnNumbers

Family = GaugeMetricFamily | CounterMetricFamily

OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def families(board: Board) -> Iterator[Family]:
    """Every family of the page."""
    for own in SELF_METRICS:
        family = _family(own.metric, is_counter=own.is_counter)
        for status in board.statuses.values():
            _add(family, own.metric, status, own.values(status), status.config.alert_labels if own.alerts else {})
        if family.samples:
            yield family
    served = [(status, status.snapshot.readings) for status in board.statuses.values() if status.snapshot]
    for dimension in DIMENSIONS:
        for metric in dimension.metrics:
            family = _family(metric)
            for status, readings in served:
                _add(family, metric, status, readings.families.get(metric, {}).items(), {})
            if family.samples:
                yield family
    for program in PROGRAM_METRICS:
        family = GaugeMetricFamily(program.metric.full_name, program.metric.help, labels=program.metric.labels)
        for labels, value in program.values(board):
            if value is not None:
                family.add_metric(labels, value)
        yield family


def _family(metric: Metric, *, is_counter: bool = False) -> Family:
    kind = CounterMetricFamily if is_counter else GaugeMetricFamily
    return kind(metric.full_name, metric.help)


def _add(family: Family, metric: Metric, status: PipelineStatus, values: OwnNumbers, more: Mapping[str, str]) -> None:
    names = ("database", "pipeline", *metric.labels)
    for labels, value in values:
        if value is not None:
            own = zip(names, (status.database, status.pipeline, *labels), strict=True)
            family.add_sample(metric.full_name, {**dict(own), **more}, value)


class _Ready(Collector):
    """Finished families, as prometheus_client renders families."""

    def __init__(self, made: Sequence[AnyFamily]) -> None:
        self.made = made

    def collect(self) -> Sequence[AnyFamily]:
        return self.made


@lru_cache(maxsize=4)
def page(board: Board, withdrawn: frozenset[str], *, openmetrics: bool) -> bytes:
    """The page as text, rendered once per board, not per scrape; without the process."""
    return _rendered(list(families(board.without_snapshots(withdrawn))), openmetrics=openmetrics)


@lru_cache(maxsize=4)
def _compressor(board: Board, withdrawn: frozenset[str], *, openmetrics: bool) -> tuple[bytes, "zlib._Compress"]:
    """The beginning of the packed page, and a compressor that can be copied for the rest."""
    compressor = zlib.compressobj(wbits=_GZIP)
    return compressor.compress(page(board, withdrawn, openmetrics=openmetrics).removesuffix(_EOF)), compressor


def scraped(board: Board, withdrawn: frozenset[str], *, openmetrics: bool, is_packed: bool) -> bytes:
    """The page with the process as it is now: memory, CPU time, open files.  Compressed with gzip if `is_packed`."""
    process = _rendered(list(_PROCESS.collect()), openmetrics=openmetrics)
    if not is_packed:
        return page(board, withdrawn, openmetrics=openmetrics).removesuffix(_EOF) + process
    head, compressor = _compressor(board, withdrawn, openmetrics=openmetrics)
    rest = compressor.copy()
    return head + rest.compress(process) + rest.flush()


def _rendered(made: Sequence[AnyFamily], *, openmetrics: bool) -> bytes:
    render: Callable[[Collector], bytes] = openmetrics_format if openmetrics else text_format
    return render(_Ready(made))


_PROCESS: Final = ProcessCollector(registry=None)
"""https://prometheus.github.io/client_python/collector/"""

_EOF: Final = b"# EOF\n"
"""The end of a page in OpenMetrics."""

_GZIP: Final = 31
"""https://docs.python.org/3/library/zlib.html#zlib.compressobj"""
