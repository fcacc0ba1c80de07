"""Board -> the page at `/`, and the reports on the served snapshots.

Like `/metrics`, everything except ages is rendered once per board.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from markupsafe import Markup

from exporter.dimensions import DIMENSIONS
from exporter.model.standing import STANDINGS, Standing
from exporter.present.html.render import render
from exporter.present.page.trend import trend_of
from exporter.present.report.account import PipelineReport, Report, report_on
from exporter.present.report.formats import FORMATS
from exporter.present.report.html import pipeline_as_html
from exporter.present.report.links import NO_LINKS, Links
from exporter.state.board import Board, PipelineStatus
from exporter.text.terminal import plain

_MOST_OPEN = 2
"""The pipelines that begin unfolded, the worst: the page fits on a few screens."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One pipeline in a line: the age of the values, and the time until the next collection, in seconds.

    `age` is None without served values, `due` is None during a collection or just before the start.  `oldest` is how
    much older than the values the oldest slice is, None if the values are of one moment.  The verdict holds since
    `since` (Unix seconds), None if unknown; `is_first`: perhaps for longer, because the history starts there.
    """

    account: PipelineReport
    since: float | None
    is_first: bool
    age: float | None
    due: float | None
    lag: float | None
    oldest: float | None
    failed: bool


def page(board: Board, links: Links, *, clock: float, now: float, is_paused: bool) -> str:
    """The page at `now` (Unix seconds), equal to `clock` on the clock that never steps."""
    withdrawn = board.withdrawn(clock)
    report, worst, fine = _rendered(board, withdrawn, links)
    served = board.without_snapshots(withdrawn).statuses
    return str(
        render(
            "page.html.j2",
            report=report,
            glances=[_glance(account, served[account.pipeline], clock, now) for account in report.accounts],
            note=links.shell.note if any(account.actions for account in report.accounts) else "",
            worst=worst,
            fine=fine,
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
def report_as(form: str, board: Board, withdrawn: frozenset[str], links: Links = NO_LINKS) -> str:
    """The report on the served snapshots, in one of FORMATS."""
    rendered = FORMATS[form].render(_report(board, withdrawn, links))
    return rendered if isinstance(rendered, str) else plain(rendered)


@lru_cache(maxsize=4)
def _report(board: Board, withdrawn: frozenset[str], links: Links) -> Report:
    served = board.without_snapshots(withdrawn).statuses.values()
    return report_on(served, DIMENSIONS, time.time(), links=links)


@lru_cache(maxsize=4)
def _rendered(board: Board, withdrawn: frozenset[str], links: Links) -> tuple[Report, Markup, Markup]:
    """The report, the pipelines with a problem (the worst unfolded), and the pipelines without."""
    report = _report(board, withdrawn, links)
    worst: list[Markup] = []
    fine: list[Markup] = []
    for place, account in enumerate(report.accounts):
        status = board.statuses[account.pipeline]
        is_fine = _is_fine(account)
        (fine if is_fine and not report.is_alone else worst).append(
            pipeline_as_html(
                account,
                is_alone=report.is_alone,
                is_open=place < _MOST_OPEN and not is_fine,
                trend=trend_of(status.history, status.tracks),
            )
        )
    return report, Markup("").join(worst), Markup("").join(fine)


def _is_fine(account: PipelineReport) -> bool:
    return STANDINGS[account.verdict] is Standing.FINE


def _glance(account: PipelineReport, status: PipelineStatus, clock: float, now: float) -> Glance:
    due = None if status.due is None or status.due <= now else status.due - now
    spell = list(takewhile(lambda point: point.verdict == account.verdict, reversed(status.history)))
    return Glance(
        account,
        since=spell[-1].since if spell else None,
        is_first=len(spell) == len(status.history),
        age=max(0.0, clock - status.taken) if status.snapshot else None,
        due=due,
        lag=status.snapshot.replica_lag if status.snapshot else None,
        oldest=_oldest(status),
        failed=status.last is not None and status.last.result == "failure",
    )


def _oldest(status: PipelineStatus) -> float | None:
    snapshot = status.snapshot
    return None if snapshot is None or snapshot.swept is None else max(0.0, snapshot.taken_at - snapshot.swept.oldest)
