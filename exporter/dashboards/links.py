"""Where the dashboards lead: runbooks, each other, and what a click keeps."""

from typing import Final

from exporter.dimensions import DIMENSIONS
from exporter.model.alert_names import ALERT_PREFIX, alert_name
from exporter.rules.own_alerts import OWN_ALERTS
from exporter.rules.settings import RuleSettings

RUNBOOKS: Final = RuleSettings().runbooks
"""A stand-in for where an operator keeps them; the rules have the same."""
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
    """The section on an alert, by its name without our prefix."""
    return f"{RUNBOOKS}/{_PAGES[ALERT_PREFIX + alert]}.md#{(ALERT_PREFIX + alert).lower()}"


def drill_down(uid: str, **fields: str) -> str:
    """A link from a cell to a dashboard, with the time, the source and what the row is about: variable and field."""
    chosen = "".join(f"&var-{variable}=${{__data.fields.{name}:percentencode}}" for variable, name in fields.items())
    return f"/d/{uid}?{_KEPT}{chosen}"
