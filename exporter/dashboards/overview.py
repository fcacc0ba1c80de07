"""Overview: are the data complete, and if not, which records are missing, and since when?"""

from typing import Final

from exporter.dashboards import judged, links, palette
from exporter.dashboards.page import ALERTS, WATCHDOG, Page, Section, Tile
from exporter.dashboards.panels import (
    COUNT,
    SHARE,
    TIME,
    About,
    PanelColumn,
    Query,
    grid,
    number,
    timeline,
    trend,
)
from exporter.dashboards.promql import (
    PIPELINE,
    latest,
    named,
    rounded_down,
    rounded_up_time,
    selector,
    total,
)
from exporter.dashboards.sections import backfill, integrity, quality, segments, volume
from exporter.dashboards.vectors import (
    AGE,
    ALL_GAPS,
    ANALYSED,
    GAPS,
    IS_MEASURED,
    LANES,
    MEASURED,
    NARROW,
    RECORD_GAPS,
    REQUIRED,
    THIS_PIPELINE,
    THIS_RECORD,
)
from exporter.dimensions.coverage import ELIGIBLE, GAP_OLDEST, GAP_SESSIONS, RECORD_SESSIONS
from exporter.model.standing import Standing
from exporter.state.self_metrics import VERDICT
from exporter.text.figures import LimitUnit


def _first_numbers() -> list[Tile]:
    verdict = About(
        id=1,
        title="Verdict",
        says="The worst verdict of the chosen pipelines.  **Healthy**: everything is measured, no limit is broken.  "
        "**Degraded**: a warning limit is broken.  **Unhealthy**: a critical limit is broken.  **Unknown**: a value is "
        "not measured or not judged, and the other numbers may be incomplete.  **No data**: no session to judge.  "
        "*Not scraped*: a pipeline of this time range is gone; check that the exporter runs.",
        unit="none",
        none="? NOT SCRAPED",
        texts=judged.VERDICT_TEXTS,
        runbook="Unknown",
    )
    analysed = About(
        id=5,
        title="Sessions analysed",
        says="Eligible sessions in the window: complete, pending or gap.  A sudden drop: fewer sessions arrive, or "
        "`eligible` excludes new sessions.",
        unit=COUNT,
        runbook="NoData",
    )
    since = About(
        id=6,
        title="Last healthy",
        says="The last time in this time range at which every scraped pipeline was healthy.  A pipeline that is gone "
        "does not count.",
        unit="dateTimeFromNow",
        none="not in this time range",
        none_is_known=True,
        low=None,
        runbook="Unknown",
    )
    age = About(
        id=7,
        title="Age of the data",
        says="Age of the snapshot behind the numbers.  With several pipelines: the oldest snapshot of the scraped "
        "pipelines.  Normal: up to the collection interval.  At `max_age` the numbers are withdrawn.",
        unit=TIME,
        runbook="ValuesStale",
    )
    broken = About(
        id=13,
        title="Broken or unknown",
        says="The number of limits beyond a critical or warning threshold, and of limits with an unknown value.  "
        "Normal: none.",
        unit=COUNT,
        none="none, or none judged",
        none_is_known=True,
        runbook="Unknown",
    )
    healthy = f"min ({selector(VERDICT, verdict='healthy')}) == 1"
    return [
        Tile(number(verdict, Query(f"max ({judged.VERDICT_OR_LOST})"), fill=True), 5, 6),
        *_gaps(),
        Tile(number(since, Query(f"1000 * max_over_time(timestamp({healthy})[$__range:1m])")), 4, 3),
        Tile(number(broken, Query(judged.COUNTS, "{{level}}"), words=judged.COUNT_WORDS), 4, 3),
        Tile(number(analysed, Query(total(latest(ELIGIBLE)))), 4, 3),
        Tile(number(age, Query(f"max ({AGE})")), 4, 3),
    ]


def _gaps() -> list[Tile]:
    needing = About(
        id=2,
        title="Sessions that need a backfill",
        says="Sessions with a gap, and the standing of `sessions_with_gap`.  A session with several missing records "
        "counts once; the record filter does not apply.  Normal: 0.  `session-health-exporter gaps` lists the "
        "sessions.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )
    part = About(
        id=3,
        title="Share with a gap",
        says="Share of sessions with a gap, pending sessions excluded, and the standing of `gap_ratio`.  With several "
        "pipelines: the largest share.",
        unit=SHARE,
        none="no session, or not measured",
        high=1,
        runbook="GapRatio",
    )
    oldest = About(
        id=4,
        title="Oldest gap",
        says="Time since the completion of the session with the oldest gap, and the standing of `gap_age`.  Many young "
        "gaps are a backlog; one old gap is a stuck session.",
        unit=TIME,
        none="no gap, or not measured",
        none_is_known=True,
        runbook="GapAge",
    )
    return [
        Tile(number(needing, *judged.with_standing(ALL_GAPS, "sessions_with_gap", over_time=True)), 7, 6),
        Tile(number(part, *judged.with_standing(judged.worst("gap_ratio"), "gap_ratio")), 4, 3),
        Tile(
            number(
                oldest,
                *judged.with_standing(judged.worst("gap_age"), "gap_age"),
            ),
            4,
            3,
        ),
    ]


def _broken_and_alerts() -> list[Tile]:
    limits = About(
        id=16,
        title="Limits that are broken or unknown",
        says="The worst first.  Values and thresholds are below, in *Limits*.  *Of*: the record or the check; for "
        "`segment_gap_ratio` see *Segments*.",
        unit="none",
        none="none is broken, or none is judged",
        none_is_known=True,
    )
    alerts = About(
        id=10,
        title="Alerts that fire",
        says="Firing alerts of the chosen pipelines.  Normal: no alert.  Click an alert for the runbook.",
        unit="none",
        none="✓ none fires",
        none_is_known=True,
        low=None,
        runbook="Watchdog",
    )
    gone = {judged.NOT_SCRAPED: ("? not scraped", palette.UNKNOWN)}
    standings: dict[float, tuple[str, str]] = {
        **{float(level): text for level, text in judged.STANDING_TEXTS.items()},
        **gone,
    }
    subject = '"subject", "", "record", "check"'
    key = "alertname, severity, database, pipeline, subject"
    firing = f'ALERTS{{{ALERTS}, alertstate="firing"}}'
    no_rules = named(f"max by (severity) (absent({WATCHDOG}))", "alertname", "? no alert rules loaded")
    bad = (Standing.CRITICAL, Standing.WARNING)
    severities = {standing.value: judged.STANDING_TEXTS[standing.level] for standing in bad}
    runbook = ("Runbook", f"{links.ALL_RUNBOOKS}#${{__data.fields.Alert}}")
    return [
        Tile(
            grid(
                limits,
                {
                    "pipeline": THIS_PIPELINE,
                    "limit": PanelColumn("Limit", none=""),
                    "subject": PanelColumn("Of", none=""),
                },
                [
                    (
                        PanelColumn("Standing", texts=standings, width=124),
                        f"max by (database, pipeline, limit, subject) (label_join({judged.BROKEN}, {subject}))",
                    )
                ],
                sort="Standing",
                descending=True,
            ),
            12,
            7,
        ),
        Tile(
            grid(
                alerts,
                {
                    "alertname": PanelColumn("Alert", none="", link=runbook),
                    "severity": PanelColumn("Severity", width=94, none="", words=severities),
                    "subject": PanelColumn("Of", width=110, none=""),
                    "pipeline": PanelColumn("Pipeline", none=""),
                },
                [
                    (
                        PanelColumn("Value", hidden=True),
                        f"max by ({key}) (label_join({firing}, {subject})) or {no_rules}",
                    )
                ],
                sort="Severity",
            ),
            12,
            7,
        ),
    ]


def _pipelines() -> Tile:
    each = About(
        id=12,
        title="Pipelines",
        says="Every pipeline of this time range, the worst first.  Click a pipeline to select it.",
        unit=COUNT,
        none="? not scraped",
        runbook="SessionsWithGap",
    )
    return Tile(
        grid(
            each,
            {"database": PanelColumn("Database"), "pipeline": THIS_PIPELINE},
            [
                (
                    PanelColumn("Verdict", unit="none", texts=judged.VERDICT_TEXTS, fill=True, width=150),
                    judged.VERDICT_OR_LOST,
                ),
                (PanelColumn("Analysed"), ANALYSED),
                (PanelColumn("Gap", alarm=palette.CRITICAL), GAPS),
                (PanelColumn("Share with a gap", unit=SHARE), judged.values("gap_ratio")),
                (PanelColumn("Oldest gap", unit=TIME, none="-", known=True), judged.values("gap_age")),
            ],
            sort="Verdict",
            descending=True,
        ),
        24,
        6,
    )


def _records() -> Tile:
    about = About(
        id=8,
        title="Records",
        says="For each record the sessions that need the record, by state.  *Current*: a row of the current version.  "
        "*Accepted*: a row of an accepted version.  *Outdated*: only rows of other versions.  *Invalid*: only invalid "
        "rows.  With `satisfied_by: every_row` the worst row decides.  *Missing*: no row.  Too few or too many rows "
        "(`rows`) count under *Gap* alone.  *Pending*: within the grace period.  *Without a gap*: the share of the "
        "required sessions.  **?**: not measured, not 0.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )

    def state(name: str, title: str, alarm: str | None = None) -> tuple[PanelColumn, str]:
        return PanelColumn(title, width=NARROW, alarm=alarm), latest(RECORD_SESSIONS, state=name)

    return Tile(
        grid(
            about,
            {"pipeline": THIS_PIPELINE, "record": THIS_RECORD},
            [
                (IS_MEASURED, MEASURED),
                (PanelColumn("Required", width=NARROW), REQUIRED),
                (
                    PanelColumn("Without a gap", unit=SHARE, bar=True, none="none required, or not measured"),
                    rounded_down(f"(1 - {RECORD_GAPS} / ({REQUIRED} > 0))"),
                ),
                (PanelColumn("Gap", width=NARROW, alarm=palette.CRITICAL), RECORD_GAPS),
                state("current", "Current"),
                state("accepted", "Accepted"),
                state("outdated", "Outdated", palette.WARNING),
                state("invalid", "Invalid", palette.BAD),
                state("missing", "Missing", palette.CRITICAL),
                state("pending", "Pending"),
                (
                    PanelColumn("Oldest gap", unit=TIME, width=110, none="-", known=True),
                    rounded_up_time(f"time() - {latest(GAP_OLDEST)}"),
                ),
            ],
            sort="Gap",
            descending=True,
        ),
        24,
        6,
    )


def _trends() -> list[Tile]:
    gaps = About(
        id=9,
        title="Gaps by record and reason",
        says="Sessions with a gap, by record and reason: a session can miss several records.  A record without a gap "
        "in the time range has no line.  A line ends when the measurement stops.  Falling: a backfill works.  Rising: "
        "the pipeline loses records now.",
        unit=COUNT,
        none="no gap in this time range, or not measured",
        none_is_known=True,
        runbook="SessionsWithGap",
    )
    history = About(
        id=11,
        title="Verdict over time",
        says=f"Verdict of each pipeline; with more than {LANES} pipelines the worst.  An interruption: no scrape.",
        unit="none",
        none="? NOT SCRAPED",
        texts=judged.VERDICT_TEXTS,
        runbook="Unknown",
    )
    key = (*PIPELINE, "record", "reason")
    ever = f"max_over_time({selector(GAP_SESSIONS)}[$__range])"
    return [
        Tile(
            trend(
                gaps,
                Query(
                    f"{latest(GAP_SESSIONS)} and on ({', '.join(key)}) {ever} > 0",
                    "{{pipeline}} {{record}}: {{reason}}",
                ),
                colors={
                    "/.*: missing$/": palette.CRITICAL,
                    "/.*: outdated$/": palette.WARNING,
                    "/.*: invalid$/": palette.BAD,
                },
                with_table=True,
            ),
            14,
            8,
        ),
        Tile(timeline(history, Query(f"topk({LANES}, {judged.VERDICT})", "{{pipeline}}")), 10, 8),
    ]


def _limits() -> list[Tile]:
    def on(about: About, kind: LimitUnit, wide: int, height: int, columns: tuple[int, int]) -> Tile:
        standing = PanelColumn(
            "Standing", unit="none", texts=judged.STANDING_TEXTS, width=142, none="- not set", known=True
        )
        return Tile(
            grid(
                about,
                {"pipeline": THIS_PIPELINE, "limit": PanelColumn("Limit", width=columns[0])},
                [
                    (standing, judged.all_standings(kind)),
                    (PanelColumn("Worst", width=columns[1], none="-", known=True), judged.all_values(kind)),
                    (
                        PanelColumn("Warning", width=columns[1], none="-", known=True),
                        judged.all_bounds("warning", kind),
                    ),
                    (
                        PanelColumn("Critical", width=columns[1], none="-", known=True),
                        judged.all_bounds("critical", kind),
                    ),
                ],
                sort="Standing",
                descending=True,
            ),
            wide,
            height,
        )

    says = "  The worst value of all records, checks and segments, with the thresholds of the config; **-**: no value."
    counts = About(
        id=17,
        title="Limits on counts",
        says=f"Broken above the threshold.{says}",
        unit=COUNT,
        none="no such limit is set, or not measured",
        none_is_known=True,
    )
    shares = About(
        id=14,
        title="Limits on shares",
        says=f"`conversion_ratio` and `completion_ratio` are broken below the threshold, the others above.  *Too few*: "
        f"fewer sessions than `min_sessions`, not judged.{says}",
        unit=SHARE,
        none="no such limit is set, or not measured",
        none_is_known=True,
    )
    ages = About(
        id=15,
        title="Limits on ages and delays",
        says=f"Broken above the threshold.{says}",
        unit=TIME,
        none="no such limit is set, or not measured",
        none_is_known=True,
    )
    return [
        on(counts, "count", 11, 12, (136, 76)),
        on(shares, "ratio", 13, 6, (156, 116)),
        on(ages, "seconds", 13, 6, (156, 116)),
    ]


OVERVIEW: Final = Page(
    uid=links.OVERVIEW,
    subject="Overview",
    answers="Are the data complete, and if not, which records are missing, and since when?",
    sections=[
        Section([*_first_numbers(), *_broken_and_alerts(), _pipelines(), _records(), *_trends()]),
        Section(_limits(), title="Limits", id=100),
        Section(quality(), title="Versions and checks", id=102),
        Section(segments(), title="Segments", id=105, folded=True),
        Section(backfill(), title="Backfill", id=101, folded=True),
        Section(integrity(), title="Integrity", id=103, folded=True),
        Section(volume(), title="Volume", id=104, folded=True),
    ],
)
