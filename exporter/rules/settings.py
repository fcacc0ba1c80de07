"""Settings and times of the rules.

Times are multiples of the collection interval (rounds): with an interval of 5 minutes, rules wait 10 times as long as
with 30 s.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from exporter.model.alert_labels import PASSING_LABELS
from exporter.model.metric import Metric

OUTAGE_ROUNDS: Final = 140
"""Rounds for which the last known value counts without a measurement: until the missing measurement itself pages."""

LOOKBACK_ROUNDS: Final = 6
"""Rounds of look-back for every value: a failed scrape neither hides nor resets an alert."""

KEEP_FIRING_ROUNDS: Final = 20
"""Rounds for which an alert continues to fire: a number around the limit notifies only once."""

QUERY: Final = "A"
"""Grafana's name of the query of an alert."""

THRESHOLD: Final = "C"
"""Grafana's name of the query for the threshold in the description."""

WARN_ROUNDS: Final = 10
PAGE_ROUNDS: Final = 120


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """The scrape job, the collection interval, and the addresses of dashboards and runbooks.

    `config_file` is the path in printed commands; `passing` adds labels to `PASSING_LABELS`.  `evaluator` evaluates the
    rules; Grafana queries the data source `datasource`, and knows no recording rules and no queries in texts.
    """

    job: str = "session-health"
    interval: timedelta = timedelta(seconds=30)
    dashboards: str = "https://grafana.example.com"
    runbooks: str = "https://runbooks.example.com"
    config_file: str = "config.yaml"
    passing: tuple[str, ...] = ()
    evaluator: Literal["prometheus", "grafana"] = "prometheus"
    datasource: str = "session-health-prometheus"

    @property
    def has_recordings(self) -> bool:
        """Whether the rules may read recorded series, and texts may query."""
        return self.evaluator == "prometheus"

    @property
    def value(self) -> str:
        """The value of an alert in the template language of the evaluator.

        https://grafana.com/docs/grafana/latest/alerting/alerting-rules/templates/reference/
        """
        return "$value" if self.has_recordings else f"$values.{QUERY}.Value"

    @property
    def threshold(self) -> str:
        """The threshold of an alert on a limit, in Grafana's template language."""
        return f"$values.{THRESHOLD}.Value"

    def last(self, count: int, name: str, /, **labels: str) -> str:
        """The series of the job, each with the last value within `count` rounds."""
        return f"last_over_time({self.selector(name, **labels)}[{self.rounds(count)}])"

    def merged(self, aggregate: str, metric: Metric, /, *without: str, **labels: str) -> str:
        """The series of the job by pipeline, each with the last value, merged over exporters: a line and a line end."""
        last = self.last(LOOKBACK_ROUNDS, metric.full_name, **labels)
        return f"{aggregate} without {self.but_passing(*without)} (\n  {last}\n)\n"

    def selector(self, name: str, /, **labels: str) -> str:
        """The current series of the job."""
        given = {"job": self.job, **labels}
        return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in given.items()) + "}"

    def matching(self, name: str, /, **patterns: str) -> str:
        """The current series of the job whose labels match regular expressions."""
        given = [f"job={json.dumps(self.job)}", *(f"{label}=~{json.dumps(value)}" for label, value in patterns.items())]
        return f"{name}{{{','.join(given)}}}"

    def but_passing(self, *others: str) -> str:
        """The labels that do not identify a pipeline, for `without` and `ignoring`."""
        return f"({', '.join(dict.fromkeys((*PASSING_LABELS, *self.passing, *others)))})"

    def rounds(self, count: int) -> str:
        """`count` rounds as a Prometheus duration."""
        milliseconds = round(count * self.interval / timedelta(milliseconds=1))
        for unit, length in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if milliseconds % length == 0:
                return f"{milliseconds // length}{unit}"
        return f"{milliseconds}ms"
