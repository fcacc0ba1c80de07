"""The forms in which the report is written."""

from collections.abc import Callable, Mapping
from typing import Final

from exporter.report.account import Report
from exporter.report.document import as_json
from exporter.report.html import as_html
from exporter.report.markdown import as_markdown

FORMATS: Final[Mapping[str, Callable[[Report], str]]] = {
    "markdown": as_markdown,
    "json": as_json,
    "html": as_html,
}
