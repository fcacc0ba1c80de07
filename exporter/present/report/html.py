"""Report -> one HTML file that needs nothing else: the sections of the Markdown, for a browser or a printer."""

from exporter.present.html.render import render
from exporter.present.report.account import Report
from exporter.present.report.sections import EVIDENCE, sections


def as_html(report: Report) -> str:
    """The whole report; no script, no request, and whatever comes from the database is text."""
    return str(render("report.html.j2", report=report, sections=sections, EVIDENCE=EVIDENCE))
