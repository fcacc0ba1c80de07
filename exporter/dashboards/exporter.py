"""Exporter: are the numbers reliable?  Successful and failed measurements, their time, cost and faults."""

from typing import Final

from exporter.dashboards import links, palette
from exporter.dashboards.page import Page, Section, Tile
from exporter.dashboards.panels import COUNT, TIME, About, PanelColumn, Query, grid, number, timeline, trend
from exporter.dashboards.promql import PIPELINE, by, labels_of, latest, rounded_up_time, selector, target_selector
from exporter.dashboards.vectors import AGE, LANES
from exporter.model.metric import SNAPSHOT_TIME, Metric
from exporter.state.self_metrics import (
    BUILD_INFO,
    COLLECTION_DURATION,
    COLLECTION_ERRORS,
    COLLECTIONS,
    FOLDED_SERIES,
    INTERVAL,
    LAST_SUCCESS,
    MAX_AGE,
    RECORD_UP,
    RELOAD_SUCCESS_TIME,
    RELOAD_SUCCESSFUL,
    REPLICA_LAG,
    RESTRICTED,
    UP,
)

TARGET: Final = ("job", "instance")
"""This dashboard shows exporters separately: each exporter can have a different fault."""

RESULTS: Final = {"success": palette.GOOD, "partial": palette.WARNING, "failure": palette.CRITICAL}
MEASURED_TEXTS: Final = {1: ("✓ measured", palette.GOOD), 0: ("? not measured", palette.UNKNOWN)}
MEASURED_LANES: Final = {1: ("✓ measured", palette.GOOD_GROUND), 0: ("? not measured", palette.UNKNOWN_GROUND)}


def each(metric: Metric) -> str:
    """A gauge per exporter."""
    return f"max {by((*TARGET, *labels_of(metric)))} ({selector(metric)})"


def _numbers() -> list[Tile]:
    down = About(
        id=1,
        title="Targets down",
        says="Targets of the chosen jobs that do not answer Prometheus.  Normal: 0.",
        unit=COUNT,
        none="? no target scraped",
        runbook="TargetDown",
    )
    pipelines = About(
        id=2,
        title="Pipelines not measured",
        says="Pipelines whose last collection did not measure everything, with any exporter.  Normal: 0.  For the "
        "cause, see *Errors by reason* below.",
        unit=COUNT,
        runbook="CollectionFailing",
    )
    records = About(
        id=3,
        title="Records not measured",
        says="Record tables without a measurement by any exporter: the numbers are absent, not 0.  Normal: 0.",
        unit=COUNT,
        runbook="CollectionFailing",
    )
    whole = About(
        id=4,
        title="Last complete",
        says="Time since the last complete collection.  With several pipelines: the longest time.  Normal: up to the "
        "interval.  Red: more than `max_age`, and the exporter withdraws values of that age; or a pipeline was never "
        "complete.",
        unit=TIME,
        none="never, or no target scraped",
        runbook="ValuesStale",
    )
    config = About(
        id=5,
        title="Config",
        says="Result of the last read of the config.  After a mistake, the exporter runs with the previous config, and "
        "would not start again after a restart.",
        unit="none",
        texts={1: ("✓ read", palette.GOOD), 0: ("✕ mistake", palette.CRITICAL)},
        runbook="ConfigReloadFailed",
    )
    hidden = About(
        id=6,
        title="Rows hidden",
        says="Whether policies hide rows from the exporter's role (`row_security: allow`).  If so, the verdict is "
        "never healthy: hidden rows are not measured.",
        unit="none",
        texts={0: ("✓ none", palette.GOOD), 1: ("? some", palette.UNKNOWN)},
        runbook="Unknown",
    )
    since = rounded_up_time(f"time() - {latest(LAST_SUCCESS)}")
    fresh = f"{selector(LAST_SUCCESS)} > time() - {selector(MAX_AGE)}"
    too_old = f"({selector(UP)} unless on ({', '.join(PIPELINE)}) ({fresh}))"
    return [
        Tile(number(down, Query(f"sum ({target_selector('up')} == bool 0)"), alarm=palette.CRITICAL), 4, 4),
        Tile(number(pipelines, Query(f"sum ({latest(UP)} == bool 0)"), alarm=palette.UNKNOWN), 4, 4),
        Tile(number(records, Query(f"sum ({latest(RECORD_UP)} == bool 0)"), alarm=palette.UNKNOWN), 4, 4),
        Tile(
            number(
                whole,
                Query(f"max ({since}) and on () {too_old}", color=palette.CRITICAL),
                Query(f"max ({since}) unless on () {too_old}", color=palette.GOOD),
            ),
            4,
            4,
        ),
        Tile(number(config, Query(f"min ({selector(RELOAD_SUCCESSFUL)})")), 4, 4),
        Tile(number(hidden, Query(f"max ({selector(RESTRICTED)})")), 4, 4),
    ]


def _each() -> list[Tile]:
    about = About(
        id=10,
        title="Exporters and what they measure",
        says="Every pipeline of every exporter.  *Last complete*: time since the last complete collection.  *Age*: age "
        "of the served snapshot.  *Withdrawn at*: `max_age`.  *Took*: duration of the last collection.  *Every*: the "
        "interval; longer if the database is slow.  *Replica lag*: lag of the replica; **-**: a primary.",
        unit=TIME,
        none="? no target scraped",
        runbook="CollectionFailing",
    )
    measured = About(
        id=11,
        title="What is measured",
        says=f"Each record table over time; with more than {LANES}, those without a measurement first.  An "
        "interruption: no scrape.",
        unit="none",
        none="? no target scraped",
        texts=MEASURED_LANES,
        runbook="CollectionFailing",
    )
    link = ("Its overview", links.drill_down(links.OVERVIEW, pipeline="Pipeline"))
    return [
        Tile(
            grid(
                about,
                {
                    "instance": PanelColumn("Instance"),
                    "database": PanelColumn("Database"),
                    "pipeline": PanelColumn("Pipeline", link=link),
                },
                [
                    (PanelColumn("State", unit="none", width=126, texts=MEASURED_TEXTS), each(UP)),
                    (
                        PanelColumn("Last complete", width=112, none="never"),
                        rounded_up_time(f"time() - {each(LAST_SUCCESS)}"),
                    ),
                    (PanelColumn("Age", width=112), rounded_up_time(f"time() - {each(SNAPSHOT_TIME)}")),
                    (PanelColumn("Withdrawn at", width=110), each(MAX_AGE)),
                    (PanelColumn("Took", unit="s", decimals=1, width=84), each(COLLECTION_DURATION)),
                    (PanelColumn("Every", width=80), each(INTERVAL)),
                    (
                        PanelColumn("Replica lag", unit="s", width=96, none="-", known=True),
                        each(REPLICA_LAG),
                    ),
                ],
                sort="State",
            ),
            24,
            6,
        ),
        Tile(timeline(measured, Query(f"bottomk({LANES}, {latest(RECORD_UP)})", "{{pipeline}}: {{record}}")), 24, 8),
    ]


def _collections() -> list[Tile]:
    results = About(
        id=20,
        title="Collections per minute by result",
        says="*Success*: everything measured.  *Partial*: a record or a check is missing.  *Failure*: no snapshot.  "
        "Normal: only success.",
        unit=COUNT,
        decimals=1,
        runbook="CollectionFailing",
    )
    errors = About(
        id=21,
        title="Errors by reason",
        says="Faults of collections by reason.  Normal: no fault.  The log has one line per fault, with the remedy.",
        unit=COUNT,
        decimals=0,
        none="none, or no target scraped",
        none_is_known=True,
        runbook="CollectionFailing",
    )
    cost = About(
        id=22,
        title="Duration against interval",
        says="Duration of collections, and the interval (dashed).  Collections take "
        "the share `duty` of the time: a collection longer than this share of the interval makes collections rarer.",
        unit="s",
        runbook="ValuesStale",
    )
    ages = About(
        id=23,
        title="Age of the data against max_age",
        says="Age of the served snapshot; beyond `max_age` (dashed) the numbers are withdrawn.  A rising line: "
        "collections fail.",
        unit=TIME,
        runbook="ValuesStale",
    )
    failed = f"sum by (reason) (increase({selector(COLLECTION_ERRORS)}[$__rate_interval])) > 0"
    return [
        Tile(
            trend(
                results,
                *(
                    Query(f"60 * sum (rate({selector(COLLECTIONS, result=result)}[$__rate_interval]))", result, color)
                    for result, color in RESULTS.items()
                ),
            ),
            12,
            7,
        ),
        Tile(trend(errors, Query(failed, "{{reason}}"), colors={"/.*/": palette.CRITICAL}, with_table=True), 12, 7),
        Tile(
            trend(
                cost,
                Query(each(COLLECTION_DURATION), "{{instance}}: {{pipeline}}"),
                Query(f"min ({latest(INTERVAL)})", "interval", palette.NOTHING, dashed=True),
                colors={"/.*: .*/": palette.GOOD},
            ),
            12,
            7,
        ),
        Tile(
            trend(
                ages,
                Query(AGE, "{{pipeline}}"),
                Query(f"min ({latest(MAX_AGE)})", "max_age", palette.CRITICAL, dashed=True),
                colors={"/.*/": palette.GOOD},
            ),
            12,
            7,
        ),
    ]


def _surroundings() -> list[Tile]:
    scrapes = About(
        id=30,
        title="Scrape duration",
        says="Duration of a scrape.  The exporter prepares the page in advance: normal are some milliseconds, even "
        "with a slow database.",
        unit="s",
        none="? no target scraped",
        runbook="TargetDown",
    )
    lag = About(
        id=31,
        title="Replica lag",
        says="Lag of the replica at the time of the snapshot.  Beyond `max_replica_lag` the exporter does not measure "
        "the replica.",
        unit="s",
        none="no replica, or not measured",
        none_is_known=True,
        runbook="CollectionFailing",
    )
    folded = About(
        id=32,
        title="Folded series",
        says="Series of a metric added up in `<other>`, beyond `max_label_values`.  Normal: none.  Totals stay "
        "correct.",
        unit=COUNT,
        none="none, or not measured",
        none_is_known=True,
    )
    builds = About(
        id=33,
        title="Running versions",
        says="Version, revision and Python of every exporter, and the time of the last successful read of the config.",
        unit="none",
        none="? no target scraped",
        low=None,
        runbook="ConfigReloadFailed",
    )
    return [
        Tile(
            trend(
                scrapes,
                Query(f"max by (instance) ({target_selector('scrape_duration_seconds')})", "{{instance}}"),
                colors={"/.*/": palette.GOOD},
            ),
            8,
            7,
        ),
        Tile(trend(lag, Query(latest(REPLICA_LAG), "{{database}}: {{pipeline}}"), colors={"/.*/": palette.GOOD}), 8, 7),
        Tile(
            grid(
                folded,
                {"pipeline": PanelColumn("Pipeline"), "metric": PanelColumn("Metric")},
                [(PanelColumn("Folded", width=80, alarm=palette.WARNING), f"{latest(FOLDED_SERIES)} > 0")],
                sort="Folded",
                descending=True,
            ),
            8,
            7,
        ),
        Tile(
            grid(
                builds,
                {
                    "job": PanelColumn("Job"),
                    "instance": PanelColumn("Instance"),
                    "version": PanelColumn("Version"),
                    "revision": PanelColumn("Revision"),
                    "python_version": PanelColumn("Python"),
                },
                [
                    (
                        PanelColumn("Config in force since", unit="dateTimeAsIso"),
                        f"1000 * ({each(BUILD_INFO)} * on (job, instance) group_left () {each(RELOAD_SUCCESS_TIME)})",
                    )
                ],
                sort="Instance",
            ),
            24,
            5,
        ),
    ]


EXPORTER: Final = Page(
    uid=links.EXPORTER,
    subject="Exporter",
    answers="Are the numbers reliable?  Does the exporter measure everything, when, and at which cost?",
    sections=[
        Section([*_numbers(), *_each()]),
        Section(_collections(), title="Collections", id=100),
        Section(_surroundings(), title="Environment", id=101),
    ],
)
