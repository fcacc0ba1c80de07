"""Links of the dashboards: runbooks, other dashboards, and the variables that a click keeps."""

from typing import Final

from exporter.dimensions import DIMENSIONS
from exporter.model.alert_names import ALERT_PREFIX, alert_name
from exporter.rules.own_alerts import OWN_ALERTS
from exporter.rules.settings import RuleSettings

RUNBOOKS: Final = RuleSettings().runbooks
"""A placeholder for the operator's address of runbooks, as in the rules."""
ALL_RUNBOOKS: Final = f"{RUNBOOKS}/README.md"
TAG: Final = "session-health"

OVERVIEW: Final = "session-health-overview"
VERSIONS: Final = "session-health-versions"
TIMELINESS: Final = "session-health-timeliness"
EXPORTER: Final = "session-health-exporter"

_KEPT: Final = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"


_PAGES: Final = {alert_name(limit): dimension.name for dimension in DIMENSIONS for limit in dimension.limits} | {
    ALERT_PREFIX + own.name: "exporter" for own in OWN_ALERTS
}


def runbook(alert: str) -> str:
    """The section on an alert, by name without the prefix."""
    return f"{RUNBOOKS}/{_PAGES[ALERT_PREFIX + alert]}.md#{(ALERT_PREFIX + alert).lower()}"


def drill_down(uid: str, **fields: str) -> str:
    """A link from a cell to a dashboard, with the time, the data source, and variables from fields of the row."""
    chosen = "".join(f"&var-{variable}=${{__data.fields.{name}:percentencode}}" for variable, name in fields.items())
    return f"/d/{uid}?{_KEPT}{chosen}"
