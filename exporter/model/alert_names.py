"""The names of alerts, and the places of runbooks."""

from typing import Final

from exporter.model.dimension import Dimension
from exporter.model.judging import Limit

ALERT_PREFIX: Final = "SessionHealth"


def alert_name(limit: Limit) -> str:
    """The name of the alert of a limit: sessions_with_gap, SessionHealthSessionsWithGap."""
    return ALERT_PREFIX + "".join(map(str.capitalize, limit.name.split("_")))


def runbook_of(limit: Limit, dimension: Dimension) -> str:
    """The page and section of the runbook for the alert."""
    return f"{dimension.name}.md#{alert_name(limit).lower()}"


def subject_label(limit: Limit) -> str | None:
    """The label of the judged record or check; None for a judged pipeline."""
    return {"pipeline": None, "record": "record", "part": "check"}[limit.per]
