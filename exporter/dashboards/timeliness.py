"""Timeliness and conversion: how many sessions get all records, how fast, and do new sessions and records arrive?"""

from typing import Final

from exporter.dashboards import judged, links, palette
from exporter.dashboards.page import Page, Section, Tile
from exporter.dashboards.panels import COUNT, SHARE, TIME, About, PanelColumn, Query, bars, grid, number, trend
from exporter.dashboards.promql import latest, rounded_up_time, selector, total
from exporter.dashboards.vectors import IS_MEASURED, MEASURED, THIS_PIPELINE
from exporter.dimensions.conversion import COHORT
from exporter.dimensions.freshness import NEWEST_DUE, NEWEST_RECORD, NEWEST_SESSION
from exporter.dimensions.stuck import STUCK_SESSIONS
from exporter.dimensions.timeliness import DELAY, DELAYED
from exporter.model.counting import PERCENTILES
from exporter.state.self_metrics import LIMIT

STANDING: Final = PanelColumn("Standing", unit="none", width=142, none="-", known=True, texts=judged.STANDING_TEXTS)
NO_COHORT: Final = "no cohort, or not measured"
THIS_RECORD: Final = PanelColumn(
    "Record", link=("Only this record", links.drill_down(links.TIMELINESS, record="Record"))
)


def _numbers() -> list[Tile]:
    conversion = About(
        id=1,
        title="Conversion",
        says="Share of the cohort's completed sessions with every required record.  With several pipelines: the lowest "
        "share.  The word is the standing of `conversion_ratio`.",
        unit=SHARE,
        high=1,
        none="no session, or not measured",
        runbook="ConversionRatio",
    )
    completion = About(
        id=2,
        title="Completion",
        says="Share of the cohort's started sessions that completed.  With several pipelines: the lowest share.  The "
        "word is the standing of `completion_ratio`.",
        unit=SHARE,
        high=1,
        none="no session, or not measured",
        runbook="CompletionRatio",
    )
    delay = About(
        id=3,
        title="Slowest p95",
        says="The largest p95 of the chosen records: 95 of 100 sessions of the cohort with the record had the record "
        "within this time after completion.  Gaps do not count.  The word is the standing of `processing_delay_p95`.",
        unit=TIME,
        none="no session, or not measured",
        runbook="ProcessingDelayP95",
    )
    session = About(
        id=4,
        title="Newest session",
        says="Time since the latest start of a session.  With several pipelines: the longest time.  The "
        "word is the standing of `newest_session_age`.",
        unit=TIME,
        runbook="NewestSessionAge",
    )
    late = About(
        id=5,
        title="Records late by",
        says="Age of the newest record while a session waits for a newer record.  With several records: the largest "
        "age.  Normal: none late, also at night.  The word is the standing of `newest_record_age`.",
        unit=TIME,
        none="none late, or not measured",
        none_is_known=True,
        runbook="NewestRecordAge",
    )

    return [
        Tile(number(conversion, *judged.with_standing(judged.worst("conversion_ratio"), "conversion_ratio")), 5, 4),
        Tile(number(completion, *judged.with_standing(judged.worst("completion_ratio"), "completion_ratio")), 5, 4),
        Tile(number(delay, *judged.with_standing(judged.worst("processing_delay_p95"), "processing_delay_p95")), 4, 4),
        Tile(number(session, *judged.with_standing(judged.worst("newest_session_age"), "newest_session_age")), 5, 4),
        Tile(number(late, *judged.with_standing(judged.worst("newest_record_age"), "newest_record_age")), 5, 4),
    ]


def _conversion() -> list[Tile]:
    funnel = About(
        id=10,
        title="The cohort",
        says="Sessions of the cohort: started, completed, and covered (completed, with every required record).  The "
        "difference between the last two bars is missing work of the pipeline.",
        unit=COUNT,
        none=NO_COHORT,
        none_is_known=True,
        runbook="ConversionRatio",
    )
    ratios = About(
        id=11,
        title="Conversion and completion",
        says="Ratios of each pipeline over time; limits are dashed.  An interruption: no session in the cohort, or "
        "not measured.",
        unit=SHARE,
        high=1,
        none=NO_COHORT,
        none_is_known=True,
        runbook="ConversionRatio",
    )
    warning = selector(LIMIT, limit="completion_ratio", severity="warning")
    return [
        Tile(
            bars(
                funnel,
                *(Query(total(latest(COHORT, step=step)), step, color) for step, color in palette.STEPS.items()),
            ),
            8,
            7,
        ),
        Tile(
            trend(
                ratios,
                Query(judged.values("conversion_ratio"), "conversion: {{pipeline}}"),
                Query(judged.values("completion_ratio"), "completion: {{pipeline}}"),
                *judged.bound_lines("conversion_ratio"),
                Query(f"max ({warning})", "completion warning limit", palette.NOTHING, dashed=True),
                colors={"/^conversion:/": palette.GOOD, "/^completion:/": palette.NOTHING},
            ),
            16,
            7,
        ),
    ]


def _delays() -> list[Tile]:
    each = About(
        id=20,
        title="Processing delay by record",
        says="Time from completion to the record as percentiles of the cohort, and the number of sessions.  With few "
        "sessions, p99 is the slowest session.  Sessions without the record are gaps, and not counted.",
        unit=TIME,
        none=NO_COHORT,
        none_is_known=True,
        runbook="ProcessingDelayP95",
    )
    history = About(
        id=21,
        title="Processing delay",
        says="Processing delay by record over time; the limit on p95 is dashed.  An interruption: no session in the "
        "cohort.",
        unit=TIME,
        none=NO_COHORT,
        none_is_known=True,
        runbook="ProcessingDelayP95",
    )
    return [
        Tile(
            grid(
                each,
                {"pipeline": THIS_PIPELINE, "record": THIS_RECORD},
                [
                    (IS_MEASURED, MEASURED),
                    *(
                        (
                            PanelColumn(f"p{percentile}", width=112, none="-", known=True),
                            rounded_up_time(latest(DELAY, percentile=str(percentile))),
                        )
                        for percentile in PERCENTILES
                    ),
                    (PanelColumn("Sessions", unit=COUNT, width=90, none="-", known=True), latest(DELAYED)),
                    (STANDING, judged.standings("processing_delay_p95", "record")),
                ],
                sort="p95",
                descending=True,
            ),
            24,
            5,
        ),
        Tile(
            trend(
                history,
                Query(rounded_up_time(latest(DELAY)), "{{pipeline}} {{record}} p{{percentile}}"),
                *judged.bound_lines("processing_delay_p95"),
                colors={f"/ p{percentile}$/": color for percentile, color in palette.PERCENTILES.items()},
                with_table=True,
            ),
            24,
            8,
        ),
    ]


def _freshness() -> list[Tile]:
    sessions = About(
        id=30,
        title="Age of the newest session",
        says="Time since the latest start and the latest completion.  A saw-tooth: traffic.  A rising line: no new "
        "sessions; other numbers can look healthy, because absent sessions have no gaps.  With several pipelines: the "
        "largest age.",
        unit=TIME,
        none="no session, or not measured",
        none_is_known=True,
        runbook="NewestSessionAge",
    )
    records = About(
        id=31,
        title="Age of the newest record",
        says="Time since the latest row of each record.  Compare with the newest session: after completions, records "
        "must arrive.",
        unit=TIME,
        none="no created_at, or not measured",
        none_is_known=True,
        runbook="NewestRecordAge",
    )
    late = About(
        id=32,
        title="Late records",
        says="*Waits since*: the latest completion after the grace period.  If the newest record is older, the record "
        "is late, and *Late by* is the age of the newest record.  **-**: no value.",
        unit=TIME,
        none="no created_at, or not measured",
        none_is_known=True,
        runbook="NewestRecordAge",
    )
    newest, due = latest(NEWEST_RECORD), latest(NEWEST_DUE)
    return [
        Tile(
            trend(
                sessions,
                Query(rounded_up_time(f"time() - min by (step) ({latest(NEWEST_SESSION)})"), "{{step}}"),
                *judged.bound_lines("newest_session_age"),
                colors={"/started/": palette.FAIR, "/completed/": palette.GOOD},
            ),
            6,
            8,
        ),
        Tile(
            trend(
                records,
                Query(rounded_up_time(f"time() - {newest}"), "{{pipeline}} {{record}}"),
                *judged.bound_lines("newest_record_age"),
                colors={"/^(?!critical|warning)/": palette.GOOD},
            ),
            6,
            8,
        ),
        Tile(
            grid(
                late,
                {"pipeline": THIS_PIPELINE, "record": THIS_RECORD},
                [
                    (IS_MEASURED, MEASURED),
                    (
                        PanelColumn("Newest", width=112, none="-", known=True),
                        rounded_up_time(f"time() - {newest}"),
                    ),
                    (
                        PanelColumn("Waits since", width=112, none="-", known=True),
                        rounded_up_time(f"time() - {due}"),
                    ),
                    (
                        PanelColumn("Late by", width=112, none="-", known=True),
                        judged.values("newest_record_age", "record"),
                    ),
                    (STANDING, judged.standings("newest_record_age", "record")),
                ],
                sort="Late by",
                descending=True,
            ),
            12,
            8,
        ),
    ]


def _stuck() -> list[Tile]:
    about = About(
        id=40,
        title="Stuck sessions",
        says="Sessions that stay in a status for longer than `sessions.stuck.after`, by status; dashed is the limit.",
        unit=COUNT,
        none="no `sessions.stuck`, or not measured",
        none_is_known=True,
        runbook="StuckSessions",
    )
    return [
        Tile(
            trend(
                about,
                Query(latest(STUCK_SESSIONS), "{{pipeline}} {{status}}"),
                *judged.bound_lines("stuck_sessions"),
                colors={"/^(?!critical|warning)/": palette.GOOD},
            ),
            24,
            8,
        )
    ]


TIMELINESS: Final = Page(
    uid=links.TIMELINESS,
    subject="Timeliness and conversion",
    answers="How many sessions get all required records, how fast, and do new sessions and records arrive?",
    sections=[
        Section([*_numbers(), *_conversion()]),
        Section(_delays(), title="Delay", id=100),
        Section(_freshness(), title="Freshness", id=101),
        Section(_stuck(), title="Stuck sessions", id=102),
    ],
)
