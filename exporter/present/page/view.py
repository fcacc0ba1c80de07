"""Board -> the page at `/`, and the reports on the served snapshots.

Like `/metrics`, everything except ages is rendered once per board.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup

from exporter.dimensions import DIMENSIONS
from exporter.model.alert_names import ALERT_PREFIX, runbook_of
from exporter.model.standing import rank
from exporter.present.html.render import render
from exporter.present.page.trend import trend_of
from exporter.present.report.account import PipelineReport, Report, report_on
from exporter.present.report.formats import FORMATS
from exporter.present.report.sections import EVIDENCE, quiet
from exporter.present.report.shell import Shell
from exporter.state.board import Board, PipelineStatus
from exporter.state.judge import Finding
from exporter.text.terminal import plain


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of runbooks and Grafana (None: no link), and the config.

    `config_file` is the name of the config without the folder, because strangers can see the page.
    """

    runbooks: str | None = None
    dashboards: str | None = None
    config_file: str = "config.yaml"

    def runbook(self, finding: Finding | None) -> str | None:
        """The runbook of a broken limit; for None, of a value not measured or judged."""
        if self.runbooks is None:
            return None
        page = f"exporter.md#{ALERT_PREFIX.lower()}unknown" if finding is None else _RUNBOOKS[finding.limit.name]
        return f"{self.runbooks}/{page}"

    def dashboard(self, account: PipelineReport, finding: Finding | None) -> str | None:
        """The best dashboard, with the pipeline and the record selected."""
        if self.dashboards is None:
            return None
        chosen = {"var-database": account.database, "var-pipeline": account.pipeline}
        if finding is not None and finding.limit.per == "record" and finding.subject:
            chosen["var-record"] = finding.subject
        shown = "exporter" if finding is None else finding.limit.advice.dashboard
        return f"{self.dashboards}/d/session-health-{shown}?{urlencode(chosen)}"


_RUNBOOKS: Final = {limit.name: runbook_of(limit, dimension) for dimension in DIMENSIONS for limit in dimension.limits}


@dataclass(frozen=True, slots=True)
class Glance:
    """One pipeline in a line: the age of the values, and the time until the next collection, in seconds.

    `age` is None without served values, `due` is None during a collection or just before the start.  `oldest` is how
    much older than the values the oldest slice is, None if the values are of one moment.
    """

    account: PipelineReport
    age: float | None
    due: float | None
    lag: float | None
    oldest: float | None
    failed: bool


def page(board: Board, links: Links, *, clock: float, now: float, is_paused: bool) -> str:
    """The page at `now` (Unix seconds), equal to `clock` on the clock that never steps."""
    withdrawn = board.withdrawn(clock)
    report, pipelines = _rendered(board, withdrawn, links)
    served = board.without_snapshots(withdrawn).statuses
    return str(
        render(
            "page.html.j2",
            report=report,
            glances=[_glance(account, served[account.pipeline], clock, now) for account in _worst_first(report)],
            pipelines=pipelines,
            links=links,
            now=now,
            refresh=refresh_seconds(board),
            is_paused=is_paused,
        )
    )


def refresh_seconds(board: Board) -> int:
    """The interval of new values."""
    intervals = (status.config.interval.total_seconds() for status in board.statuses.values())
    return max(1, round(min(intervals, default=30)))


@lru_cache(maxsize=8)
def report_as(form: str, board: Board, withdrawn: frozenset[str], links: Links = Links()) -> str:
    """The report on the served snapshots, in one of FORMATS."""
    rendered = FORMATS[form].render(_report(board, withdrawn, links))
    return rendered if isinstance(rendered, str) else plain(rendered)


@lru_cache(maxsize=4)
def _report(board: Board, withdrawn: frozenset[str], links: Links) -> Report:
    served = board.without_snapshots(withdrawn).statuses.values()
    return report_on(served, DIMENSIONS, time.time(), shell=Shell(links.config_file))


@lru_cache(maxsize=4)
def _rendered(board: Board, withdrawn: frozenset[str], links: Links) -> tuple[Report, Markup]:
    report = _report(board, withdrawn, links)
    pipelines = (
        _pipeline(account, board.statuses[account.pipeline], links, is_alone=len(report.accounts) == 1)
        for account in _worst_first(report)
    )
    return report, Markup("").join(pipelines)


def _pipeline(account: PipelineReport, status: PipelineStatus, links: Links, *, is_alone: bool) -> Markup:
    return render(
        "pipeline.html.j2",
        account=account,
        is_alone=is_alone,
        trend=trend_of(status.history, status.tracks),
        links=links,
        EVIDENCE=EVIDENCE,
        steps=quiet(account),
    )


def _worst_first(report: Report) -> list[PipelineReport]:
    return sorted(report.accounts, key=lambda account: rank(account.verdict))


def _glance(account: PipelineReport, status: PipelineStatus, clock: float, now: float) -> Glance:
    due = None if status.due is None or status.due <= now else status.due - now
    return Glance(
        account,
        age=max(0.0, clock - status.published) if status.snapshot else None,
        due=due,
        lag=status.snapshot.replica_lag if status.snapshot else None,
        oldest=_oldest(status),
        failed=status.last is not None and status.last.result == "failure",
    )


def _oldest(status: PipelineStatus) -> float | None:
    snapshot = status.snapshot
    return None if snapshot is None or snapshot.swept is None else max(0.0, snapshot.taken_at - snapshot.swept.oldest)
