"""Board -> the page at `/`, and the reports of what is served.

All but the ages is rendered once for each board, however often it is asked for: as `/metrics` is.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup

from exporter.dimensions import DIMENSIONS
from exporter.model.alert_names import PREFIX, runbook_of
from exporter.present.html.render import render
from exporter.present.page.trend import trend_of
from exporter.present.report.account import Account, Report, report_on
from exporter.present.report.formats import FORMATS
from exporter.present.report.sections import EVIDENCE, quiet
from exporter.present.report.shell import Shell
from exporter.state.board import Board, Standing
from exporter.state.judge import WORST_FIRST, Finding
from exporter.text.terminal import plain


@dataclass(frozen=True, slots=True)
class Links:
    """What the page refers to: where runbooks and Grafana are (what is None is not linked to), and the config.

    `config_file` is the name of the config without its folder: strangers see the page.
    """

    runbooks: str | None = None
    dashboards: str | None = None
    config_file: str = "config.yaml"

    def runbook(self, finding: Finding | None) -> str | None:
        """What to read of a broken limit; of None, of what could not be measured or judged."""
        if self.runbooks is None:
            return None
        page = f"exporter.md#{PREFIX.lower()}unknown" if finding is None else _RUNBOOKS[finding.limit.name]
        return f"{self.runbooks}/{page}"

    def dashboard(self, account: Account, finding: Finding | None) -> str | None:
        """What shows it best, with the pipeline and the record chosen."""
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
    """One pipeline in a line: how old its values are, and in how long they are measured anew, in seconds.

    `age` is None where none are served, `due` while a round is under way or about to begin.
    """

    account: Account
    age: float | None
    due: float | None
    lag: float | None
    failed: bool


def page(board: Board, links: Links, *, clock: float, now: float, is_paused: bool) -> str:
    """The page as of `now` (Unix seconds), which is `clock` on the clock that never steps."""
    withdrawn = board.withdrawn(clock)
    report, pipelines = _rendered(board, withdrawn, links)
    served = board.without_snapshots(withdrawn).standings
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
    """How often there may be something new to see."""
    intervals = (standing.config.interval.total_seconds() for standing in board.standings.values())
    return max(1, round(min(intervals, default=30)))


@lru_cache(maxsize=8)
def report_as(form: str, board: Board, withdrawn: frozenset[str], links: Links = Links()) -> str:
    """The report on what is served, as one of FORMATS."""
    rendered = FORMATS[form].render(_report(board, withdrawn, links))
    return rendered if isinstance(rendered, str) else plain(rendered)


@lru_cache(maxsize=4)
def _report(board: Board, withdrawn: frozenset[str], links: Links) -> Report:
    served = board.without_snapshots(withdrawn).standings.values()
    return report_on(served, DIMENSIONS, time.time(), shell=Shell(links.config_file))


@lru_cache(maxsize=4)
def _rendered(board: Board, withdrawn: frozenset[str], links: Links) -> tuple[Report, Markup]:
    report = _report(board, withdrawn, links)
    pipelines = (
        _pipeline(account, board.standings[account.pipeline], links, is_alone=len(report.accounts) == 1)
        for account in _worst_first(report)
    )
    return report, Markup("").join(pipelines)


def _pipeline(account: Account, standing: Standing, links: Links, *, is_alone: bool) -> Markup:
    return render(
        "pipeline.html.j2",
        account=account,
        is_alone=is_alone,
        trend=trend_of(standing.history, standing.tracks),
        links=links,
        EVIDENCE=EVIDENCE,
        steps=quiet(account),
    )


def _worst_first(report: Report) -> list[Account]:
    return sorted(report.accounts, key=lambda account: WORST_FIRST.index(account.verdict))


def _glance(account: Account, standing: Standing, clock: float, now: float) -> Glance:
    due = None if standing.due is None or standing.due <= now else standing.due - now
    return Glance(
        account,
        age=max(0.0, clock - standing.published) if standing.snapshot else None,
        due=due,
        lag=standing.snapshot.replica_lag if standing.snapshot else None,
        failed=standing.last is not None and standing.last.result == "failure",
    )
