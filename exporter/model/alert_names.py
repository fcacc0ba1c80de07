"""The names of alerts, and the place of their runbooks."""

from typing import Final

from exporter.model.dimension import Dimension
from exporter.model.judging import Limit

ALERT_PREFIX: Final = "SessionHealth"


def alert_name(limit: Limit) -> str:
    """The alert of a limit is called as the limit is: sessions_with_gap, SessionHealthSessionsWithGap."""
    return ALERT_PREFIX + "".join(map(str.capitalize, limit.name.split("_")))


def runbook_of(limit: Limit, dimension: Dimension) -> str:
    """Where the runbooks speak of its alert."""
    return f"{dimension.name}.md#{alert_name(limit).lower()}"


def subject_label(limit: Limit) -> str | None:
    """The label that names what is judged; None where it is the pipeline."""
    return {"pipeline": None, "record": "record", "part": "check"}[limit.per]
