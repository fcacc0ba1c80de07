"""Versions: the progress of a migration, new rows of old versions, and the rest."""

from typing import Final

from exporter.dashboards import judged, links, palette, progress
from exporter.dashboards.page import Page, Section, Tile
from exporter.dashboards.panels import COUNT, SHARE, About, PanelColumn, Query, grid, number, trend
from exporter.dashboards.promql import PIPELINE, latest, selector, share, summed, total_of_records
from exporter.dashboards.vectors import IS_MEASURED, MEASURED, THIS_PIPELINE
from exporter.dimensions.conformance import DRIFTED, RECORDS, VERSION_SESSIONS
from exporter.dimensions.coverage import RECORD_SESSIONS
from exporter.dimensions.validity import VALUE_ROWS, VALUE_SESSIONS
from exporter.state.self_metrics import RECORD_UP

OUTDATED: Final = latest(RECORD_SESSIONS, state="outdated")
GOOD_STATES: Final = 'state=~"current|accepted"'
STATES_THERE: Final = 'state=~"current|accepted|outdated|invalid"'
RIGHT: Final = summed(RECORD_SESSIONS, "state", GOOD_STATES)
THERE: Final = summed(RECORD_SESSIONS, "state", STATES_THERE)
PACED: Final = progress.pace(RECORD_SESSIONS, state="outdated")


def _numbers() -> list[Tile]:
    right = About(
        id=1,
        title="With a good version",
        says="Share of the sessions with the record whose row is valid, and of the current or an accepted version: the "
        "best row or, with `satisfied_by: every_row`, the worst.  A migration ends at 100%.",
        unit=SHARE,
        high=1,
        none="no record yet, or not measured",
        runbook="OutdatedSessions",
    )
    residue = About(
        id=2,
        title="Outdated sessions",
        says="Sessions whose best row (`satisfied_by: every_row`: worst row) has an old version: a backfill must "
        "derive a new row.  The number falls during a migration.  The word is the standing of `outdated_sessions`.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    drift = About(
        id=3,
        title="Drifted rows",
        says="Drift: rows of an old version written since `current_since`.  While the number grows, the migration "
        "cannot end: find the writer of the old version.  Measured only with `current_since` in the config.",
        unit=COUNT,
        none="not configured, or not measured",
        none_is_known=True,
        runbook="DriftedRecords",
    )
    end = About(
        id=4,
        title="Migration done in",
        says="Estimate from the pace of the last hour.  *No progress*: less than one session a day.",
        unit="s",
        decimals=1,
        none="no progress, or not measured",
        none_is_known=True,
        runbook="OutdatedSessions",
    )
    lost = f"NaN * ({selector(RECORD_UP)} == 0)"
    rows = f"{latest(DRIFTED)} or on ({', '.join((*PIPELINE, 'record'))}) {lost}"
    good, there = f"sum ({latest(RECORD_SESSIONS, GOOD_STATES)})", latest(RECORD_SESSIONS, STATES_THERE)
    return [
        Tile(number(right, Query(share(good, total_of_records(there)))), 6, 4),
        Tile(number(residue, *judged.with_standing(total_of_records(OUTDATED), "outdated_sessions")), 6, 4),
        Tile(number(drift, *judged.with_standing(f"sum ({rows})", "drifted_records")), 6, 4),
        Tile(number(end, Query(progress.remaining(total_of_records(OUTDATED), f"sum ({PACED})"))), 6, 4),
    ]


def _records() -> Tile:
    about = About(
        id=5,
        title="Migration by record",
        says="Sessions by state of the best row (`satisfied_by: every_row`: worst row); rows that drifted (*Drifted*); "
        "the pace of the migration, and an estimate of the end.  **-**: not configured; **?**: not measured.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    record = PanelColumn("Record", link=("Only this record", links.drill_down(links.VERSIONS, record="Record")))

    def state(name: str, title: str, alarm: str | None = None) -> tuple[PanelColumn, str]:
        return PanelColumn(title, width=88, alarm=alarm), latest(RECORD_SESSIONS, state=name)

    return Tile(
        grid(
            about,
            {"pipeline": THIS_PIPELINE, "record": record},
            [
                (IS_MEASURED, MEASURED),
                state("current", "Current"),
                state("accepted", "Accepted"),
                state("outdated", "Outdated", palette.WARNING),
                state("invalid", "Invalid", palette.BAD),
                state("missing", "Missing", palette.CRITICAL),
                (
                    PanelColumn(
                        "Good share",
                        unit=SHARE,
                        bar=True,
                        none="no record yet, or not measured",
                    ),
                    share(RIGHT, THERE),
                ),
                (
                    PanelColumn("Drifted rows", width=104, alarm=palette.WARNING, none="-", known=True),
                    latest(DRIFTED),
                ),
                (PanelColumn("Fewer per hour", width=112, decimals=1), f"3600 * ({PACED} and {OUTDATED})"),
                (
                    PanelColumn("Done in", unit="s", decimals=1, width=100, none="-", known=True),
                    progress.remaining(OUTDATED, PACED),
                ),
            ],
            sort="Outdated",
            descending=True,
        ),
        24,
        6,
    )


def _each() -> list[Tile]:
    versions = About(
        id=20,
        title="Sessions by version",
        says="Analysed sessions with a row of a version; a session with rows of several versions counts for each "
        "version.  One version replaces another: a migration runs.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    shares = About(
        id=21,
        title="Share with a good version",
        says="Share of the sessions with the record.  A flat line below 100%: the migration has stopped.",
        unit=SHARE,
        high=1,
        none="no record, or not measured",
        none_is_known=True,
        runbook="OutdatedSessions",
    )
    against = About(
        id=22,
        title="Outdated sessions against drifted rows",
        says="*Outdated*: sessions with only old rows; the number falls during a migration.  *Drifted*: "
        "rows of old versions written since `current_since`.  A step up: a worker writes the old version at that "
        "time.  The migration cannot end before the drift is gone.",
        unit=COUNT,
        runbook="DriftedRecords",
    )
    return [
        Tile(
            trend(
                versions,
                Query(f"sum by (version, class) ({latest(VERSION_SESSIONS)})", "{{version}} ({{class}})"),
                colors={
                    r"/\(current\)$/": palette.GOOD,
                    r"/\(accepted\)$/": palette.FAIR,
                    r"/\(other\)$/": palette.WARNING,
                },
                stacked=True,
            ),
            8,
            8,
        ),
        Tile(trend(shares, Query(share(f"sum ({RIGHT})", f"sum ({THERE})"), "share", palette.GOOD)), 8, 8),
        Tile(
            trend(
                against,
                Query(f"sum ({OUTDATED})", "outdated: sessions", palette.WARNING),
                Query(f"sum ({latest(DRIFTED)})", "drifted: rows", palette.CRITICAL, dashed=True),
            ),
            8,
            8,
        ),
    ]


def _tables() -> list[Tile]:
    versions = About(
        id=30,
        title="Versions",
        says="Analysed sessions with a row of a version, and all rows of the table.  Old rows of a session with a "
        "current row are history, and need no backfill.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    values = About(
        id=31,
        title="Values of accepted_values",
        says="Analysed sessions and rows by value.  A row with a value outside `accepted_values` is invalid.",
        unit=COUNT,
        none="no values are listed, or not measured",
        none_is_known=True,
        runbook="InvalidRecords",
    )
    classes = {name: (name, color) for name, color in palette.VERSION_CLASSES.items()}
    lists = {"accepted": ("accepted", palette.GOOD), "invalid": ("✕ invalid", palette.BAD)}
    sessions, rows = PanelColumn("Sessions", width=74), PanelColumn("Rows", width=56)
    return [
        Tile(
            grid(
                versions,
                {
                    "pipeline": THIS_PIPELINE,
                    "record": PanelColumn("Record"),
                    "version": PanelColumn("Version"),
                    "class": PanelColumn("Class", width=76, words=classes),
                },
                [
                    (sessions, latest(VERSION_SESSIONS)),
                    (rows, latest(RECORDS)),
                ],
                sort="Record",
            ),
            12,
            9,
        ),
        Tile(
            grid(
                values,
                {
                    "pipeline": THIS_PIPELINE,
                    "record": PanelColumn("Record"),
                    "column": PanelColumn("Column"),
                    "value": PanelColumn("Value"),
                    "class": PanelColumn("Class", width=76, words=lists),
                },
                [
                    (sessions, latest(VALUE_SESSIONS)),
                    (rows, latest(VALUE_ROWS)),
                ],
                sort="Record",
            ),
            12,
            9,
        ),
    ]


VERSIONS: Final = Page(
    uid=links.VERSIONS,
    subject="Versions",
    answers="How far is the migration, which records still get an old version, and how many sessions are outdated?",
    sections=[
        Section([*_numbers(), _records()]),
        Section(_each(), title="$record", id=100, repeat="record"),
        Section(_tables(), title="Versions and values", id=101),
    ],
)
