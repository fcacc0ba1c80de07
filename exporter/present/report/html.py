"""Report -> one self-contained HTML file with the sections of the Markdown, for a browser or a printer."""

from exporter.present.html.render import render
from exporter.present.report.account import Report
from exporter.present.report.sections import EVIDENCE, sections


def as_html(report: Report) -> str:
    """The whole report without scripts and requests; values from the database are escaped."""
    return str(render("report.html.j2", report=report, sections=sections, EVIDENCE=EVIDENCE))
