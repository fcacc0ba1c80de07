"""Overview: are the data complete, and if not, which records are missing, and since when?"""

from typing import Final

from exporter.dashboards import judged, links, palette, progress
from exporter.dashboards.page import ALERTS, WATCHDOG, Page, Section, Tile
from exporter.dashboards.panels import (
    COUNT,
    SHARE,
    TIME,
    About,
    PanelColumn,
    Query,
    bars,
    grid,
    number,
    timeline,
    trend,
)
from exporter.dashboards.promql import (
    PIPELINE,
    SEEN,
    by,
    first_of,
    latest,
    named,
    of_all,
    rounded_down,
    rounded_up_time,
    share,
    summed,
)
from exporter.dashboards.verdict import RANK, RANK_OR_LOST, TEXTS, judged_by
from exporter.dimensions.conformance import VERSION_SESSIONS
from exporter.dimensions.coverage import ELIGIBLE, GAP_OLDEST, GAP_SESSIONS, RECORD_SESSIONS
from exporter.dimensions.integrity import FOREIGN_KEY
from exporter.dimensions.validity import CHECK_SESSIONS, VALUE_SESSIONS
from exporter.dimensions.volume import FUTURE, SESSIONS, UNDATED, UNDATED_ELIGIBLE
from exporter.model.alert_names import ALERT_PREFIX
from exporter.model.metric import SNAPSHOT_TIME, WINDOW_START, Metric
from exporter.state.self_metrics import MAX_AGE, RECORD_UP, UP

MEASURED: Final = latest(RECORD_UP)
GAPS: Final = latest(ELIGIBLE, state="gap")
ANALYSED: Final = summed(ELIGIBLE, "state")
REQUIRED: Final = summed(RECORD_SESSIONS, "state", 'state!="not_required"')
RECORD_GAPS: Final = summed(GAP_SESSIONS, "reason")
COVERED: Final = f"({REQUIRED} - {RECORD_GAPS} - {latest(RECORD_SESSIONS, state='pending')})"
AGE: Final = rounded_up_time(f"time() - {latest(SNAPSHOT_TIME)}")

THIS_PIPELINE: Final = PanelColumn(
    "Pipeline", link=("Only this pipeline", links.drill_down(links.OVERVIEW, pipeline="Pipeline"))
)
THIS_RECORD: Final = PanelColumn(
    "Record",
    link=("Versions of this record", links.drill_down(links.VERSIONS, pipeline="Pipeline", record="Record")),
)
NARROW: Final = 78
"""Width of a column with a count, in pixels: thirteen columns fit on a page of 1200 pixels."""

NOT_ASKED_FOR: Final = f"(0 * ({MEASURED} == 1) - 1)"
"""-1 for every measured record: stands for a number without the keys in the config."""

NO_GAP: Final = {0: ("none", palette.GOOD)}
NOT_SET_UP: Final = {-1: ("-", palette.NOTHING)}
NO_SESSION: Final = f"(0 * ({judged.RESTS_ON['gap_ratio']} == 0) - 1)"
"""-1 if every session is pending, or without a session."""
NOT_SCRAPED: Final = "? NOT SCRAPED"


def _verdict() -> Tile:
    about = About(
        id=1,
        title="Verdict",
        says="The worst verdict of the chosen pipelines.  **Healthy**: everything is measured, no limit is broken.  "
        "**Degraded**: a warning limit is broken.  **Unhealthy**: a critical limit is broken.  **Unknown**: a value is "
        "not measured or not judged, and the other numbers may be incomplete.  **No data**: no session to judge.  "
        "*Not scraped*: a pipeline of this time range is gone; check that the exporter runs.",
        unit="none",
        none=NOT_SCRAPED,
        texts=TEXTS,
        runbook="Unknown",
    )
    return Tile(number(about, Query(f"max ({RANK_OR_LOST})"), fill=True), 6, 6)


def _numbers() -> list[Tile]:
    needing = About(
        id=2,
        title="Sessions that need a backfill",
        says="Sessions with a gap.  A session with several missing records counts once; the record filter does not "
        "apply.  Red or yellow: `sessions_with_gap` is broken.  Normal: 0.  `session-health-exporter gaps` lists the "
        "sessions.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )
    part = About(
        id=3,
        title="Share with a gap",
        says="Share of sessions with a gap, pending sessions excluded.  With several pipelines: the largest share.  "
        "Red or yellow: `gap_ratio` is broken.",
        unit=SHARE,
        high=1,
        texts={-1: ("no session", palette.NOTHING)},
        runbook="GapRatio",
    )
    oldest = About(
        id=4,
        title="Oldest gap",
        says="Time since the completion of the session with the oldest gap.  Many young gaps are a backlog; one old "
        "gap is a stuck session.  Red or yellow: `gap_age` is broken.",
        unit=TIME,
        texts=NO_GAP,
        runbook="GapAge",
    )
    analysed = About(
        id=5,
        title="Sessions analysed",
        says="Eligible sessions in the window: complete, pending or gap.  A sudden drop: fewer sessions arrive, or "
        "`eligible` excludes new sessions.",
        unit=COUNT,
        runbook="NoData",
    )
    window = About(
        id=6,
        title="Discovery window since",
        says="Start of the window: earlier sessions are not measured.  With several pipelines: the earliest start.",
        unit="dateTimeAsIso",
        low=None,
        runbook="NoData",
    )
    age = About(
        id=7,
        title="Age of the data",
        says="Age of the snapshot behind the numbers.  With several pipelines: the oldest snapshot.  Normal: up to the "
        "collection interval.  Yellow: more than half of `max_age`; at `max_age` the numbers are withdrawn.",
        unit=TIME,
        runbook="ValuesStale",
    )
    is_old = f"({AGE} > 0.5 * {latest(MAX_AGE)})"
    oldest_data = of_all("max", AGE)
    return [
        Tile(number(needing, *judged_by("sessions_with_gap", "sum")), 6, 3),
        Tile(number(part, *judged_by("gap_ratio", "max", or_else=NO_SESSION)), 6, 3),
        Tile(number(oldest, *judged_by("gap_age", "max")), 6, 3),
        Tile(number(analysed, Query(of_all("sum", ANALYSED))), 6, 3),
        Tile(number(window, Query(f"1000 * {of_all('min', latest(WINDOW_START))}")), 6, 3),
        Tile(
            number(
                age,
                Query(f"{oldest_data} and on () {is_old}", color=palette.WARNING),
                Query(f"{oldest_data} unless on () {is_old}", color=palette.GOOD),
            ),
            6,
            3,
        ),
    ]


def _records() -> Tile:
    about = About(
        id=8,
        title="Records",
        says="For each record the sessions that need the record, by state.  *Covered*: with a good row.  *Current*: a "
        "row of the current version.  *Accepted*: a row of an accepted version.  *Outdated*: only rows of other "
        "versions.  *Invalid*: only invalid rows.  *Missing*: no row.  *Pending*: within the grace period.  **?**: not "
        "measured, not 0.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )

    def state(name: str, title: str, alarm: str | None = None) -> tuple[PanelColumn, str]:
        return PanelColumn(title, width=NARROW, alarm=alarm), latest(RECORD_SESSIONS, state=name)

    measured = PanelColumn("Measured", width=NARROW, texts={1: ("yes", palette.PLAIN), 0: ("NO", palette.UNKNOWN)})
    none_required = {-1: ("none required", palette.NOTHING)}
    return Tile(
        grid(
            about,
            {"pipeline": THIS_PIPELINE, "record": THIS_RECORD},
            [
                (measured, MEASURED),
                (PanelColumn("Required", width=NARROW), REQUIRED),
                (PanelColumn("Covered", width=NARROW), COVERED),
                (
                    PanelColumn("Share", unit=SHARE, bar=True, texts=none_required),
                    first_of(share(COVERED, REQUIRED), f"0 * ({REQUIRED} == 0) - 1"),
                ),
                state("current", "Current"),
                state("accepted", "Accepted"),
                state("outdated", "Outdated", palette.WARNING),
                state("invalid", "Invalid", palette.BAD),
                state("missing", "Missing", palette.CRITICAL),
                state("pending", "Pending"),
                (
                    PanelColumn("Oldest gap", unit=TIME, width=110, texts=NO_GAP),
                    first_of(rounded_up_time(f"time() - {latest(GAP_OLDEST)}"), f"0 * ({RECORD_GAPS} == 0)"),
                ),
            ],
            rows=MEASURED,
            sort="Missing",
            descending=True,
        ),
        24,
        6,
    )


def _trend_and_alerts() -> list[Tile]:
    gaps = About(
        id=9,
        title="Gaps by record and reason",
        says="Sessions with a gap by record and reason; a session can miss several records.  A line ends when the "
        "measurement stops.  Falling: a backfill works.  Rising: the pipeline loses records now.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )
    alerts = About(
        id=10,
        title="Alerts that fire",
        says="Firing alerts of the chosen pipelines.  A critical alert hides the warning of the same alert.  Normal: "
        "no alert.  The annotations of an alert link to the runbook.",
        unit="none",
        none="✓ none fires",
        none_is_known=True,
        low=None,
        runbook="Watchdog",
    )
    alert = ("alert", "pipeline", "subject")

    def firing(severity: str) -> str:
        fire = f'label_join(ALERTS{{{ALERTS}, alertstate="firing", {severity}}}, "subject", "", "record", "check")'
        return f"max {by(('severity', *alert))} ({named(fire, 'alert', '$1', 'alertname', f'{ALERT_PREFIX}(.+)')})"

    critical, lesser = firing('severity="critical"'), firing('severity!="critical"')
    others = f"{lesser} unless on ({', '.join(alert)}) {critical}"
    no_rules = named(f"max by (severity) (absent({WATCHDOG}))", "alert", "? alert rules are not loaded")
    severities = {severity: (severity, color) for severity, color in palette.SEVERITIES.items()}
    return [
        Tile(
            trend(
                gaps,
                Query(latest(GAP_SESSIONS), "{{pipeline}} {{record}}: {{reason}}"),
                colors={
                    "/.*: missing$/": palette.CRITICAL,
                    "/.*: outdated$/": palette.WARNING,
                    "/.*: invalid$/": palette.BAD,
                },
                with_table=True,
            ),
            14,
            7,
        ),
        Tile(
            grid(
                alerts,
                {
                    "alert": PanelColumn("Alert", none=""),
                    "severity": PanelColumn("Severity", width=84, none="", words=severities),
                    "subject": PanelColumn("Of", width=96, none=""),
                    "pipeline": PanelColumn("Pipeline", width=110, none=""),
                },
                [(PanelColumn("Value", hidden=True), first_of(critical, others, no_rules))],
                sort="Severity",
            ),
            10,
            7,
        ),
    ]


def _verdicts() -> list[Tile]:
    history = About(
        id=11,
        title="Verdict over time",
        says="Verdict of each pipeline.  An interruption: no scrape.",
        unit="none",
        none=NOT_SCRAPED,
        texts=TEXTS,
        runbook="Unknown",
    )
    each = About(
        id=12,
        title="Pipelines",
        says="Every pipeline of this time range, the worst first.  Click a pipeline to select it.",
        unit=COUNT,
        none=NOT_SCRAPED,
        runbook="SessionsWithGap",
    )
    return [
        Tile(timeline(history, Query(RANK, "{{pipeline}}")), 24, 4),
        Tile(
            grid(
                each,
                {"database": PanelColumn("Database"), "pipeline": THIS_PIPELINE},
                [
                    (PanelColumn("Verdict", unit="none", texts=TEXTS, fill=True, width=150), RANK_OR_LOST),
                    (PanelColumn("Analysed"), ANALYSED),
                    (PanelColumn("Complete"), latest(ELIGIBLE, state="complete")),
                    (PanelColumn("Pending"), latest(ELIGIBLE, state="pending")),
                    (PanelColumn("Gap", alarm=palette.CRITICAL), GAPS),
                    (
                        PanelColumn("Share", unit=SHARE, texts=NOT_SET_UP),
                        first_of(judged.shown("gap_ratio"), NO_SESSION),
                    ),
                    (PanelColumn("Oldest gap", unit=TIME, texts=NO_GAP), judged.shown("gap_age")),
                    (PanelColumn("Data age", unit=TIME), AGE),
                ],
                rows=f"({SEEN})",
                sort="Verdict",
                descending=True,
            ),
            24,
            5,
        ),
    ]


def _limits() -> list[Tile]:
    standings = {
        judged.WITHIN: ("within", palette.GOOD),
        judged.WARNED: ("! warning", palette.WARNING),
        judged.BROKEN: ("✕ critical", palette.CRITICAL),
        judged.TOO_FEW: ("too few", palette.NOTHING),
        judged.NOT_KNOWN: ("?", palette.UNKNOWN),
    }

    def on(about: About, kind: str, wide: int, height: int, columns: tuple[int, int, int]) -> Tile:
        limits = tuple(limit for limit in judged.LIMITS if limit.unit == kind)
        return Tile(
            grid(
                about,
                {"pipeline": THIS_PIPELINE, "limit": PanelColumn("Limit", width=columns[0])},
                [
                    (PanelColumn("Worst", width=columns[1], texts=NOT_SET_UP), judged.worst(limits)),
                    (PanelColumn("Warning", width=columns[2], none="-", known=True), judged.bounds("warning", limits)),
                    (
                        PanelColumn("Critical", width=columns[2], none="-", known=True),
                        judged.bounds("critical", limits),
                    ),
                    (PanelColumn("Standing", unit="none", texts=standings, width=88), judged.standing(limits)),
                ],
                rows=judged.configured(limits),
                sort="Standing",
                descending=True,
            ),
            wide,
            height,
        )

    says = (
        "  The worst value of all records and checks, with the thresholds of the config.  **?**: not measured.  A "
        "limit without a threshold is not in the table."
    )
    none = "no such limit is set"
    counts = About(
        id=13,
        title="Limits on counts",
        says=f"Broken above the threshold.{says}",
        unit=COUNT,
        none=none,
        none_is_known=True,
    )
    shares = About(
        id=14,
        title="Limits on shares",
        says=f"`gap_ratio` is broken above the threshold, the other limits below.  *Too few*: fewer sessions than "
        f"`min_sessions`, not judged.{says}",
        unit=SHARE,
        none=none,
        none_is_known=True,
    )
    ages = About(
        id=15,
        title="Limits on ages and delays",
        says=f"Broken above the threshold.{says}",
        unit=TIME,
        none=none,
        none_is_known=True,
    )
    return [
        on(counts, "count", 11, 12, (136, 72, 72)),
        on(shares, "ratio", 13, 6, (156, 112, 100)),
        on(ages, "seconds", 13, 6, (156, 112, 100)),
    ]


def _backfill() -> list[Tile]:
    gap = {"state": "gap"}
    left, paced = of_all("sum", GAPS), of_all("sum", progress.pace(ELIGIBLE, **gap))
    done = About(
        id=20,
        title="Backfill done",
        says="Share of gaps filled since the largest number of gaps in this time range.",
        unit=SHARE,
        high=1,
        texts=progress.SHARE_TEXTS,
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
        says="Estimate from the pace of the last hour.  *No progress*: less than one session a day, or more than 90 "
        "days.",
        unit="s",
        decimals=1,
        texts=progress.ETA_TEXTS,
        runbook="SessionsWithGap",
    )
    states = About(
        id=23,
        title="Sessions analysed",
        says="Analysed sessions by state: complete, pending (within the grace period) or gap.",
        unit=COUNT,
        runbook="SessionsWithGap",
    )
    return [
        Tile(number(done, Query(progress.done_share(left, of_all("sum", progress.most(ELIGIBLE, **gap))))), 6, 3),
        Tile(
            trend(
                states,
                *(
                    Query(of_all("sum", latest(ELIGIBLE, state=state), among=latest(UP)), state, color)
                    for state, color in palette.SESSION_STATES.items()
                ),
                stacked=True,
            ),
            18,
            9,
        ),
        Tile(number(speed, Query(f"3600 * {paced}")), 6, 3),
        Tile(number(end, Query(progress.remaining(left, paced))), 6, 3),
    ]


def _quality() -> list[Tile]:
    versions = About(
        id=30,
        title="Versions of the analysed sessions' records",
        says="Sessions with a row of a version, and the share of the sessions that need the record.  A session with "
        "rows of several versions counts for each version.  Normal: only the current version.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    quality = About(
        id=31,
        title="Data quality",
        says="Good values of all measured values: checks of sessions, values of records, and versions of existing "
        "records.",
        unit=COUNT,
        none="nothing to count, or not measured",
        none_is_known=True,
        runbook="FailedChecks",
    )
    classes = {name: (name, color) for name, color in palette.VERSION_CLASSES.items()}
    of_versions = latest(VERSION_SESSIONS)
    kinds = (
        (
            "check",
            '"what", "", "check"',
            latest(CHECK_SESSIONS, result="pass"),
            summed(CHECK_SESSIONS, "result", 'result!="pending"'),
        ),
        (
            "values",
            '"what", ".", "record", "column"',
            f"sum {by((*PIPELINE, 'record', 'column'))} ({latest(VALUE_SESSIONS, **{'class': 'accepted'})})",
            f"sum {by((*PIPELINE, 'record', 'column'))} ({latest(VALUE_SESSIONS)})",
        ),
        (
            "version",
            '"what", "", "record"',
            summed(RECORD_SESSIONS, "state", 'state=~"current|accepted|invalid"'),
            summed(RECORD_SESSIONS, "state", 'state=~"current|accepted|invalid|outdated"'),
        ),
    )
    row = (*PIPELINE, "kind", "what")

    def each(position: int) -> str:
        vectors = (
            named(f"label_join({(good, whole)[position]}, {what})", "kind", kind) for kind, what, good, whole in kinds
        )
        return f"sum {by(row)} ({first_of(*vectors)})"

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
                    (PanelColumn("Sessions", width=NARROW), of_versions),
                    (
                        PanelColumn("Share", unit=SHARE, bar=True),
                        rounded_down(
                            f"{of_versions} / on ({', '.join((*PIPELINE, 'record'))}) group_left () ({REQUIRED} > 0)"
                        ),
                    ),
                ],
                sort="Record",
            ),
            12,
            8,
        ),
        Tile(
            grid(
                quality,
                {"kind": PanelColumn("Kind", width=68), "what": PanelColumn("What"), "pipeline": THIS_PIPELINE},
                [
                    (PanelColumn("Good", width=60), each(0)),
                    (PanelColumn("Of", width=60), each(1)),
                    (PanelColumn("Share", unit=SHARE, bar=True), share(each(0), each(1))),
                ],
                sort="Share",
            ),
            12,
            8,
        ),
    ]


def _integrity() -> list[Tile]:
    meanings = "\n".join(f"- *{_word(metric)}*: {metric.help}" for metric in judged.COUNTED.values())
    records = About(
        id=40,
        title="Faulty rows",
        says=f"Rows of each record table, for all sessions.  Normal: 0.\n{meanings}\n\n**-**: the config has no key "
        "for the number; **?**: not measured.  *Foreign key*: whether the database prevents orphans.",
        unit=COUNT,
        runbook="OrphanedRecords",
    )
    times = About(
        id=41,
        title="Sessions with implausible times",
        says="*Undated*: without a start time, outside every window.  *Eligible and undated*: the records of these "
        "sessions are not checked, and the verdict is unknown.  *In the future*: start or completion after now.  "
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
                    *(
                        (
                            PanelColumn(_word(metric), width=76, alarm=palette.WARNING, texts=NOT_SET_UP),
                            first_of(latest(metric), NOT_ASKED_FOR),
                        )
                        for metric in judged.COUNTED.values()
                    ),
                    (PanelColumn("Foreign key", unit="none", width=92, texts=keys), latest(FOREIGN_KEY)),
                ],
                rows=MEASURED,
                sort="Record",
            ),
            16,
            6,
        ),
        Tile(
            number(
                times,
                *(
                    Query(of_all("sum", latest(metric)), title)
                    for title, metric in (
                        ("Undated", UNDATED),
                        ("Eligible and undated", UNDATED_ELIGIBLE),
                        ("In the future", FUTURE),
                    )
                ),
                alarm=palette.WARNING,
            ),
            8,
            6,
        ),
    ]


def _word(metric: Metric) -> str:
    return metric.name.removesuffix("_records").capitalize()


def _volume() -> list[Tile]:
    now = About(
        id=50,
        title="Sessions by status",
        says="All sessions in the window by status, the ten most frequent statuses.  Only eligible sessions are "
        "analysed.",
        unit=COUNT,
        none="no session, or not measured",
        runbook="NoData",
    )
    history = About(
        id=51,
        title="Sessions over time",
        says="All sessions in the window by status, and the analysed sessions.  A step down: deleted sessions, or "
        "sessions that left the window.",
        unit=COUNT,
        runbook="NoData",
    )
    by_status = f"sum by (status) ({latest(SESSIONS)})"
    return [
        Tile(bars(now, Query(f"topk(10, {by_status})", "{{status}}")), 8, 7),
        Tile(
            trend(
                history,
                Query(by_status, "{{status}}"),
                Query(of_all("sum", ANALYSED, among=latest(UP)), "analysed", palette.GOOD),
                colors={"/.*/": palette.NOTHING},
                with_table=True,
            ),
            16,
            7,
        ),
    ]


OVERVIEW: Final = Page(
    uid=links.OVERVIEW,
    subject="Overview",
    answers="Are the data complete, and if not, which records are missing, and since when?",
    sections=[
        Section([_verdict(), *_numbers(), _records(), *_trend_and_alerts()]),
        Section([*_verdicts(), *_limits()], title="Pipelines and limits", id=100),
        Section(_backfill(), title="Backfill", id=101),
        Section(_quality(), title="Versions and data quality", id=102),
        Section(_integrity(), title="Integrity", id=103),
        Section(_volume(), title="Volume", id=104),
    ],
)
