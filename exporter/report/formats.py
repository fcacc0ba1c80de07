"""The forms in which the report is written."""

from collections.abc import Callable, Mapping
from typing import Final

from exporter.report.account import Report
from exporter.report.document import as_json
from exporter.report.markdown import as_markdown


def _as_html(report: Report) -> str:
    from exporter.report.html import as_html  # noqa: PLC0415 - its templates are loaded only where HTML is written

    return as_html(report)


FORMATS: Final[Mapping[str, Callable[[Report], str]]] = {
    "markdown": as_markdown,
    "json": as_json,
    "html": _as_html,
}
