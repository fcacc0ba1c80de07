"""What a report links to: runbooks and dashboards."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from exporter.model.alert_names import ALERT_PREFIX, alert_name, runbook_of
from exporter.model.dimension import Dimension
from exporter.present.report.shell import Shell
from exporter.state.board import PipelineStatus
from exporter.state.judge import Finding

_MENTION: Final = re.compile(rf"\b{ALERT_PREFIX}\w+")


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of runbooks and Grafana (None: no link), and the shell for commands.

    Strangers can see the page: the shell of the page has the name of the config without the folder.
    """

    runbooks: str | None = None
    dashboards: str | None = None
    shell: Shell = Shell()  # noqa: RUF009 - a frozen value

    def dashboard(self, status: PipelineStatus, finding: Finding | None) -> str:
        """The best dashboard with the pipeline and the record selected, empty without an address."""
        if self.dashboards is None:
            return ""
        chosen = {"var-database": status.database, "var-pipeline": status.pipeline}
        if finding is not None and finding.limit.per == "record" and finding.subject:
            chosen["var-record"] = finding.subject
        shown = "exporter" if finding is None else finding.limit.advice.dashboard
        return f"{self.dashboards}/d/session-health-{shown}?{urlencode(chosen)}"

    def runbook(self, alert: str, dimensions: Sequence[Dimension]) -> str:
        """The URL of the runbook for an alert, empty without an address."""
        if self.runbooks is None:
            return ""
        limits = ((limit, dimension) for dimension in dimensions for limit in dimension.limits)
        places = (runbook_of(limit, dimension) for limit, dimension in limits if alert_name(limit) == alert)
        return f"{self.runbooks}/{next(places, f'exporter.md#{alert.lower()}')}"

    def linked(self, step: str, dimensions: Sequence[Dimension]) -> str:
        """A step in Markdown: the name of an alert links to the runbook."""
        if self.runbooks is None:
            return step
        return _MENTION.sub(lambda found: f"[{found[0]}]({self.runbook(found[0], dimensions)})", step)


NO_LINKS: Final = Links()
"""Without addresses."""
