"""Versions: the progress of a migration, new rows of old versions, and the rest."""

from typing import Final

from exporter.dashboards import links, palette, progress
from exporter.dashboards.overview import MEASURED, NOT_ASKED_FOR, NOT_SET_UP, THIS_PIPELINE
from exporter.dashboards.page import Page, Section, Tile
from exporter.dashboards.panels import COUNT, SHARE, About, PanelColumn, Query, grid, number, trend
from exporter.dashboards.promql import first_of, latest, of_all, share, summed
from exporter.dashboards.verdict import judged_by
from exporter.dimensions.conformance import DRIFTED, RECORDS, VERSION_SESSIONS
from exporter.dimensions.coverage import RECORD_SESSIONS
from exporter.dimensions.validity import VALUE_ROWS, VALUE_SESSIONS

OUTDATED: Final = latest(RECORD_SESSIONS, state="outdated")
RIGHT: Final = summed(RECORD_SESSIONS, "state", 'state=~"current|accepted"')
THERE: Final = summed(RECORD_SESSIONS, "state", 'state=~"current|accepted|outdated|invalid"')


def _numbers() -> list[Tile]:
    right = About(
        id=1,
        title="With a good version",
        says="Share of the sessions with the record whose best row is valid, and of the current or an accepted "
        "version.  A migration ends at 100%.",
        unit=SHARE,
        high=1,
        texts={-1: ("no record yet", palette.NOTHING)},
        runbook="OutdatedSessions",
    )
    residue = About(
        id=2,
        title="Left over",
        says="Sessions whose best row has an old version: a backfill must derive a new row.  The number falls during a "
        "migration.  Red or yellow: `outdated_sessions` is broken.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    drift = About(
        id=3,
        title="Still written",
        says="Drift: rows of an old version written since `current_since`.  While the number grows, the migration "
        "cannot end: find the writer of the old version.  Measured only with `current_since` in the config.",
        unit=COUNT,
        texts={-1: ("not configured", palette.NOTHING)},
        runbook="DriftedRecords",
    )
    end = About(
        id=4,
        title="Nothing left over in",
        says="Estimate from the pace of the last hour.  *No progress*: less than one session a day, or more than 90 "
        "days.",
        unit="s",
        decimals=1,
        texts=progress.ETA_TEXTS,
        runbook="OutdatedSessions",
    )
    right_of_all, there = of_all("sum", RIGHT), of_all("sum", THERE)
    left = of_all("sum", OUTDATED)
    paced = of_all("sum", progress.pace(RECORD_SESSIONS, state="outdated"))
    # A record without current_since adds nothing; where no record has it, there is nothing to say.
    counted = of_all("sum", f"{first_of(latest(DRIFTED), f'0 * {MEASURED}')} and {MEASURED} == 1")
    drifted = first_of(f"(0 * {counted} - 1) unless on () {latest(DRIFTED)}", counted)
    return [
        Tile(number(right, Query(first_of(share(right_of_all, there), f"0 * ({there} == 0) - 1"))), 6, 4),
        Tile(number(residue, *judged_by("outdated_sessions", "sum")), 6, 4),
        Tile(number(drift, *judged_by("drifted_records", "sum", value=drifted)), 6, 4),
        Tile(number(end, Query(progress.remaining(left, paced))), 6, 4),
    ]


def _records() -> Tile:
    about = About(
        id=5,
        title="Migration by record",
        says="Sessions by state of the best row; rows that drifted (*Still written*); the pace of the migration, and "
        "an estimate of the end.  **-**: not configured; **?**: not measured.",
        unit=COUNT,
        runbook="OutdatedSessions",
    )
    paced = progress.pace(RECORD_SESSIONS, state="outdated")
    record = PanelColumn("Record", link=("Only this record", links.drill_down(links.VERSIONS, record="Record")))

    def state(name: str, title: str, alarm: str | None = None) -> tuple[PanelColumn, str]:
        return PanelColumn(title, width=88, alarm=alarm), latest(RECORD_SESSIONS, state=name)

    return Tile(
        grid(
            about,
            {"pipeline": THIS_PIPELINE, "record": record},
            [
                state("current", "Current"),
                state("accepted", "Accepted"),
                state("outdated", "Left over", palette.WARNING),
                state("invalid", "Invalid", palette.BAD),
                state("missing", "Missing", palette.CRITICAL),
                (
                    PanelColumn(
                        "Good share",
                        unit=SHARE,
                        bar=True,
                        texts={-1: ("no record yet", palette.NOTHING)},
                    ),
                    first_of(share(RIGHT, THERE), f"0 * ({THERE} == 0) - 1"),
                ),
                (
                    PanelColumn("Still written", width=100, alarm=palette.WARNING, texts=NOT_SET_UP),
                    first_of(latest(DRIFTED), NOT_ASKED_FOR),
                ),
                (PanelColumn("Fewer per hour", width=112, decimals=1), f"3600 * {paced}"),
                (
                    PanelColumn("Done in", unit="s", decimals=1, width=100, texts=progress.ETA_TEXTS),
                    progress.remaining(OUTDATED, paced),
                ),
            ],
            rows=MEASURED,
            sort="Left over",
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
        title="Left over against still written",
        says="*Left over*: sessions with only old rows; the number falls during a migration.  *Still written* (drift): "
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
                Query(f"sum ({OUTDATED})", "left over: sessions", palette.WARNING),
                Query(f"sum ({latest(DRIFTED)})", "still written: rows", palette.CRITICAL, dashed=True),
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
    answers="How far is the migration, which records still get an old version, and how many sessions are left over?",
    sections=[
        Section([*_numbers(), _records()]),
        Section(_each(), title="$record", id=100, repeat="record"),
        Section(_tables(), title="Versions and values", id=101),
    ],
)
