"""Report -> one self-contained HTML file with the sections of the Markdown, for a browser or a printer."""

from markupsafe import Markup

from exporter.model.standing import STANDINGS, Standing
from exporter.present.html.render import render
from exporter.present.page.trend import Trend
from exporter.present.report.account import PipelineReport, Report
from exporter.present.report.sections import OUTLOOK, notes, rows, sections


def as_html(report: Report) -> str:
    """The whole report without scripts and requests; values from the database are escaped."""
    pipelines = (
        pipeline_as_html(
            account,
            is_alone=report.is_alone,
            is_open=STANDINGS[account.verdict] is not Standing.FINE,
            made_at=report.made_at,
        )
        for account in report.accounts
    )
    return str(
        render(
            "report.html.j2",
            report=report,
            overview=[(account, rows(account)) for account in report.accounts],
            notes=tuple(notes(report)),
            pipelines=Markup("").join(pipelines),
            OUTLOOK=OUTLOOK,
        )
    )


def pipeline_as_html(
    account: PipelineReport,
    *,
    is_alone: bool,
    is_open: bool,
    made_at: float | None = None,
    trend: Trend | None = None,
) -> Markup:
    """One pipeline: the summary, what to do, and all numbers.

    Beside other pipelines, the pipeline unfolds; `is_open` says whether it begins unfolded.  A report was written at
    `made_at` (Unix seconds); the page (None) has the trend, and folds the numbers.
    """
    return render(
        "pipeline.html.j2",
        account=account,
        rows=rows(account),
        sections=tuple(sections(account)),
        is_alone=is_alone,
        is_open=is_open,
        made_at=made_at,
        trend=trend,
        unasked=Standing.NOT_ASKED,
    )
