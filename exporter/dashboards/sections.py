"""The sections of the Overview below the first screen."""

from typing import Final

from exporter.dashboards import judged, palette, progress
from exporter.dashboards.page import Tile
from exporter.dashboards.panels import (
    COUNT,
    SHARE,
    About,
    PanelColumn,
    Query,
    grid,
    number,
    trend,
)
from exporter.dashboards.promql import (
    PIPELINE,
    SEEN,
    latest,
    rounded_up,
    selector,
    total,
)
from exporter.dashboards.vectors import (
    ALL_GAPS,
    GAPS,
    IS_MEASURED,
    MEASURED,
    NARROW,
    THIS_PIPELINE,
    THIS_RECORD,
)
from exporter.dimensions import DIMENSIONS
from exporter.dimensions.conformance import VERSION_SESSIONS
from exporter.dimensions.coverage import ELIGIBLE
from exporter.dimensions.integrity import FOREIGN_KEY
from exporter.dimensions.segments import SEGMENT_GAPS, SEGMENT_SESSIONS
from exporter.dimensions.validity import CHECK_SESSIONS
from exporter.dimensions.volume import FUTURE, SESSIONS, UNDATED, UNDATED_ELIGIBLE
from exporter.model.metric import Metric

COUNTED: Final[tuple[Metric, ...]] = tuple(
    metric
    for dimension in DIMENSIONS
    for metric in dimension.metrics
    if metric.labels == ("record",) and metric.name in {limit.name for limit in judged.LIMITS}
)
"""Counts of rows of a record that have a limit."""


def backfill() -> list[Tile]:
    """The remaining gaps, the pace and the estimated end."""
    gap = {"state": "gap"}
    paced = f"sum ({progress.pace(ELIGIBLE, **gap)})"
    done = About(
        id=20,
        title="Backfill done",
        says="Share of gaps filled since the largest number of gaps in this time range.",
        unit=SHARE,
        none="nothing to do, or not measured",
        none_is_known=True,
        high=1,
        runbook="SessionsWithGap",
    )
    speed = About(
        id=21,
        title="Gaps filled per hour",
        says="Sessions per hour, from the last hour.  Below 0: more new gaps than filled gaps.",
        unit=COUNT,
        decimals=0,
        low=None,
        runbook="SessionsWithGap",
    )
    end = About(
        id=22,
        title="Done in",
        says="Estimate from the pace of the last hour.  *No progress*: less than one session a day.",
        unit="s",
        none="no progress, or not measured",
        none_is_known=True,
        decimals=1,
        runbook="SessionsWithGap",
    )
    states = About(
        id=23,
        title="Sessions by state",
        says="Analysed sessions by state: complete, pending (within the grace period) or gap.  An interruption: a "
        "pipeline has no numbers.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )
    return [
        Tile(number(done, Query(progress.done_share(ALL_GAPS, f"sum ({progress.most(ELIGIBLE, **gap)})"))), 6, 3),
        Tile(
            trend(
                states,
                Query(_whole(ELIGIBLE, "state"), "{{state}}"),
                colors={f"/^{state}$/": color for state, color in palette.SESSION_STATES.items()},
                stacked=True,
            ),
            18,
            9,
        ),
        Tile(number(speed, Query(f"3600 * {total(f'{progress.pace(ELIGIBLE, **gap)} and {GAPS}')}")), 6, 3),
        Tile(number(end, Query(progress.remaining(ALL_GAPS, paced))), 6, 3),
    ]


def _whole(metric: Metric, label: str) -> str:
    """The sums of all pipelines by a label, while each pipeline of the time range has numbers."""
    lost = f"{SEEN} unless on ({', '.join(PIPELINE)}) {selector(metric)}"
    return f"sum by ({label}) ({latest(metric)}) unless on () ({lost})"


def quality() -> list[Tile]:
    """Versions of records, and checks."""
    versions = About(
        id=30,
        title="Versions of the analysed sessions' records",
        says="Sessions with a row of a version.  A session with rows of several versions counts for each version.  "
        "Normal: only the current version.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    checks = About(
        id=31,
        title="Checks",
        says="Sessions that pass or fail a check of the config.",
        unit=COUNT,
        none="no check is set, or not measured",
        none_is_known=True,
        runbook="FailedChecks",
    )
    classes = {name: (name, color) for name, color in palette.VERSION_CLASSES.items()}
    return [
        Tile(
            grid(
                versions,
                {
                    "record": THIS_RECORD,
                    "version": PanelColumn("Version"),
                    "class": PanelColumn("Class", words=classes),
                    "pipeline": THIS_PIPELINE,
                },
                [
                    (PanelColumn("Sessions", width=NARROW), latest(VERSION_SESSIONS)),
                ],
                sort="Record",
            ),
            12,
            8,
        ),
        Tile(
            grid(
                checks,
                {"check": PanelColumn("Check"), "pipeline": THIS_PIPELINE},
                [
                    (PanelColumn("Pass", width=NARROW), latest(CHECK_SESSIONS, result="pass")),
                    (PanelColumn("Fail", width=NARROW, alarm=palette.WARNING), latest(CHECK_SESSIONS, result="fail")),
                ],
                sort="Fail",
                descending=True,
            ),
            12,
            8,
        ),
    ]


def segments() -> list[Tile]:
    """Eligible sessions and gaps by segment, such as the tenant."""
    none = "no `sessions.segment`, or not measured"
    sessions = About(
        id=90,
        title="Sessions by segment",
        says="Sessions with a gap and complete sessions by segment, the largest share first, and the rest as "
        "*<other>*.  Without pending sessions.",
        unit=COUNT,
        none=none,
        none_is_known=True,
        runbook="SessionsWithGap",
    )
    records = About(
        id=91,
        title="Gaps by segment and record",
        says="Sessions with a gap caused by a record, by segment.  `session-health-exporter gaps` lists the "
        "sessions, each with its segment.",
        unit=COUNT,
        none=none,
        none_is_known=True,
        runbook="SessionsWithGap",
    )
    gaps, complete = (latest(SEGMENT_SESSIONS, state=state) for state in ("gap", "complete"))
    segment = PanelColumn("Segment")
    return [
        Tile(
            grid(
                sessions,
                {"segment": segment, "pipeline": THIS_PIPELINE},
                [
                    (PanelColumn("Gap", width=NARROW, alarm=palette.CRITICAL), gaps),
                    (PanelColumn("Complete", width=NARROW), complete),
                    (
                        PanelColumn("Share with a gap", unit=SHARE, width=150, none="-", known=True),
                        rounded_up(f"{gaps} / ({gaps} + {complete} > 0)"),
                    ),
                ],
                sort="Share with a gap",
                descending=True,
            ),
            13,
            9,
        ),
        Tile(
            grid(
                records,
                {"segment": segment, "record": THIS_RECORD, "pipeline": THIS_PIPELINE},
                [(PanelColumn("Gap", width=NARROW, alarm=palette.CRITICAL), latest(SEGMENT_GAPS))],
                sort="Gap",
                descending=True,
            ),
            11,
            9,
        ),
    ]


def integrity() -> list[Tile]:
    """Faulty rows, and implausible times."""
    meanings = "\n".join(f"- *{_word(metric)}*: {metric.help}" for metric in COUNTED)
    records = About(
        id=40,
        title="Faulty rows",
        says=f"Rows of each record table, for all sessions.  Normal: 0.\n{meanings}\n\n**-**: the config has no key "
        "for the number, or (*Measured*: NO) not measured.  *Foreign key*: whether the database prevents orphans.",
        unit=COUNT,
        runbook="OrphanedRecords",
    )
    times = About(
        id=41,
        title="Sessions with implausible times",
        says="*Undated*: without a start time, outside every window.  *Lost*: eligible and undated; the records of "
        "these sessions are not checked, and the verdict is unknown.  *In the future*: start or completion after now.  "
        "Normal: 0.",
        unit=COUNT,
        runbook="Unknown",
    )
    keys = {1: ("✓ enforced", palette.GOOD), 0: ("no", palette.PLAIN)}
    return [
        Tile(
            grid(
                records,
                {"pipeline": THIS_PIPELINE, "record": THIS_RECORD},
                [
                    (IS_MEASURED, MEASURED),
                    *(
                        (
                            PanelColumn(_word(metric), width=76, alarm=palette.WARNING, none="-", known=True),
                            latest(metric),
                        )
                        for metric in COUNTED
                    ),
                    (PanelColumn("Foreign key", unit="none", width=92, texts=keys), latest(FOREIGN_KEY)),
                ],
                sort="Record",
            ),
            16,
            6,
        ),
        Tile(
            grid(
                times,
                {"pipeline": THIS_PIPELINE},
                [
                    (PanelColumn(title, alarm=palette.WARNING), latest(metric))
                    for title, metric in (
                        ("Undated", UNDATED),
                        ("Lost", UNDATED_ELIGIBLE),
                        ("In the future", FUTURE),
                    )
                ],
                sort="Undated",
                descending=True,
            ),
            8,
            6,
        ),
    ]


def _word(metric: Metric) -> str:
    return metric.name.removesuffix("_records").capitalize()


def volume() -> list[Tile]:
    """All sessions by status."""
    history = About(
        id=51,
        title="Sessions over time",
        says="All sessions in the window by status.  A step down: deleted sessions, or sessions that left the window.  "
        "An interruption: a pipeline has no numbers.",
        unit=COUNT,
        runbook="NoData",
    )
    return [
        Tile(
            trend(
                history,
                Query(_whole(SESSIONS, "status"), "{{status}}"),
                colors={"/.*/": palette.NOTHING},
                with_table=True,
            ),
            24,
            7,
        ),
    ]
