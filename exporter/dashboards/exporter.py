"""Exporter: can the numbers be believed?  What was measured, when, at what cost, and why not."""

from typing import Final

from exporter.dashboards import links, palette
from exporter.dashboards.overview import AGE
from exporter.dashboards.page import Page, Section, Tile
from exporter.dashboards.panels import COUNT, TIME, About, PanelColumn, Query, grid, number, timeline, trend
from exporter.dashboards.promql import by, first_of, labels_of, latest, rounded_up_time, selector, target_selector
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
"""Exporters are told apart here: each may have a fault of its own."""

RESULTS: Final = {"success": palette.GOOD, "partial": palette.WARNING, "failure": palette.CRITICAL}
MEASURED_TEXTS: Final = {1: ("✓ measured", palette.GOOD), 0: ("? not measured", palette.UNKNOWN)}
MEASURED_LANES: Final = {1: ("✓ measured", palette.GOOD_GROUND), 0: ("? not measured", palette.UNKNOWN_GROUND)}


def each(metric: Metric) -> str:
    """A gauge of every exporter by itself."""
    return f"max {by((*TARGET, *labels_of(metric)))} ({selector(metric)})"


def _numbers() -> list[Tile]:
    down = About(
        id=1,
        title="Targets lost",
        says="Targets of the chosen jobs that do not answer Prometheus.  Normal is 0.",
        unit=COUNT,
        none="? none is scraped",
        runbook="TargetDown",
    )
    pipelines = About(
        id=2,
        title="Pipelines lost",
        says="Whose last collection did not measure everything, by any exporter.  Normal is 0; *errors by reason* "
        "below says why.",
        unit=COUNT,
        runbook="CollectionFailing",
    )
    records = About(
        id=3,
        title="Records lost",
        says="Record tables that were not measured, by any exporter: their numbers are absent, not 0.  Normal is 0.",
        unit=COUNT,
        runbook="CollectionFailing",
    )
    whole = About(
        id=4,
        title="Last whole",
        says="How long ago a collection last measured everything; of several pipelines the longest.  Normal is up to "
        "the interval.  Red beyond `max_age`: values are withdrawn then.",
        unit=TIME,
        none="never yet",
        runbook="ValuesStale",
    )
    config = About(
        id=5,
        title="Config",
        says="Whether the config was last read without a mistake.  With one, the exporter goes on with the old config, "
        "and a restart would end it.",
        unit="none",
        texts={1: ("✓ read", palette.GOOD), 0: ("✕ mistake", palette.CRITICAL)},
        runbook="ConfigReloadFailed",
    )
    hidden = About(
        id=6,
        title="Rows hidden",
        says="Whether policies decide which rows this role sees (`row_security: allow`).  Where they do, the verdict "
        "is never healthy: what they hide was not measured.",
        unit="none",
        texts={0: ("✓ none", palette.GOOD), 1: ("? some", palette.UNKNOWN)},
        runbook="Unknown",
    )
    since = rounded_up_time(f"time() - {latest(LAST_SUCCESS)}")
    too_old = f"({since} > {latest(MAX_AGE)})"
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
        says="Every pipeline of every exporter.  *Last whole*: since a collection measured everything.  *Age*: since "
        "the snapshot that is served.  *Withdrawn at*: at what age its numbers are.  *Took*: the last collection.  "
        "*Every*: how often one starts, later where the database is slow.  *Replica lag*: how far the replica was "
        "behind; **-** where it is none.",
        unit=TIME,
        none="? none is scraped",
        runbook="CollectionFailing",
    )
    measured = About(
        id=11,
        title="What is measured",
        says="Each record table over time.  A hole is time in which nothing was scraped.",
        unit="none",
        none="? none is scraped",
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
                        PanelColumn("Last whole", width=112, none="never"),
                        rounded_up_time(f"time() - {each(LAST_SUCCESS)}"),
                    ),
                    (PanelColumn("Age", width=112), rounded_up_time(f"time() - {each(SNAPSHOT_TIME)}")),
                    (PanelColumn("Withdrawn at", width=110), each(MAX_AGE)),
                    (PanelColumn("Took", unit="s", decimals=1, width=84), each(COLLECTION_DURATION)),
                    (PanelColumn("Every", width=80), each(INTERVAL)),
                    (
                        PanelColumn("Replica lag", unit="s", width=96, texts={-1: ("-", palette.NOTHING)}),
                        first_of(each(REPLICA_LAG), f"0 * {each(SNAPSHOT_TIME)} - 1"),
                    ),
                ],
                rows=each(UP),
                sort="State",
            ),
            24,
            6,
        ),
        Tile(timeline(measured, Query(latest(RECORD_UP), "{{pipeline}}: {{record}}")), 24, 5),
    ]


def _collections() -> list[Tile]:
    results = About(
        id=20,
        title="Collections per minute by result",
        says="*Success* measured everything, *partial* left out a record or a check, *failure* got no snapshot.  "
        "Normal is success alone.",
        unit=COUNT,
        decimals=1,
        runbook="CollectionFailing",
    )
    errors = About(
        id=21,
        title="Errors by reason",
        says="Why collections did not measure everything.  None is normal.  The log has a line for each, with its "
        "remedy.",
        unit=COUNT,
        decimals=0,
        none="✓ none",
        none_is_known=True,
        runbook="CollectionFailing",
    )
    cost = About(
        id=22,
        title="Duration against interval",
        says="How long collections take, and how often they start (dashed).  The database is then left in peace ten "
        "times as long (`rest_ratio`), so beyond a tenth of the interval collections become rarer.",
        unit="s",
        runbook="ValuesStale",
    )
    ages = About(
        id=23,
        title="Age of the data against max_age",
        says="Since the snapshot that is served; beyond `max_age` (dashed) its numbers are withdrawn.  A line that "
        "climbs is a database that cannot be looked at.",
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
        says="How long Prometheus takes to fetch the page.  It is made in advance, so normal is some milliseconds, "
        "whatever the database does.",
        unit="s",
        none="? none is scraped",
        runbook="TargetDown",
    )
    lag = About(
        id=31,
        title="Replica lag",
        says="How far the replica was behind when its snapshot was taken.  Beyond `max_replica_lag` nothing is "
        "measured.",
        unit="s",
        none="no replica, or not measured",
        none_is_known=True,
        runbook="CollectionFailing",
    )
    folded = About(
        id=32,
        title="Folded series",
        says="How many values of a metric are added up in `<other>`, beyond `max_label_values`.  None is normal; "
        "totals are right all the same.",
        unit=COUNT,
        none="none, or not measured",
        none_is_known=True,
    )
    builds = About(
        id=33,
        title="What is running",
        says="Version, revision and Python of every exporter, and since when its config is in force.",
        unit="none",
        none="? none is scraped",
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
    answers="Can the numbers be believed?  What was measured, when, at what cost, and why not?",
    sections=[
        Section([*_numbers(), *_each()]),
        Section(_collections(), title="Collections", id=100),
        Section(_surroundings(), title="Around them", id=101),
    ],
)
