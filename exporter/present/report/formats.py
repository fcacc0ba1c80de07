"""The forms in which the report is written."""

from collections.abc import Mapping
from typing import Final

from exporter.present.report.account import Report
from exporter.present.report.document import as_json
from exporter.present.report.markdown import as_markdown
from exporter.text.format import Format


def _as_html(report: Report) -> str:
    from exporter.present.report.html import as_html  # noqa: PLC0415 - its templates are loaded only where HTML is written

    return as_html(report)


FORMATS: Final[Mapping[str, Format[Report]]] = {
    "markdown": Format(as_markdown, for_people=True),
    "json": Format(as_json),
    "html": Format(_as_html),
}
"""The formats of `report`."""
