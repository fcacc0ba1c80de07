"""Where the rules are used, and the times in them.

Times are counted in rounds of collecting: with an interval of five minutes, rules wait ten times as long as with 30 s.

"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from exporter.model.judging import Select
from exporter.model.metric import Metric

OUTAGE_ROUNDS: Final = 140
"""Rounds for which a value stands as it was last known while nothing is measured: until not knowing pages by itself."""

LOOKBACK_ROUNDS: Final = 6
"""Rounds for which a value is taken as it was last seen: one scrape that fails neither hides nor resets anything."""

KEEP_FIRING_ROUNDS: Final = 20
"""Rounds for which an alert goes on firing: a number that comes and goes about its limit tells nobody twice."""

WARN_ROUNDS: Final = 10
PAGE_ROUNDS: Final = 120

TAKEOVER_ROUNDS: Final = 30
"""Rounds in which every alert on data begins: whoever measures for so long in another's place has told all of it."""

PASSING_LABELS: Final = (
    *("instance", "replica", "prometheus_replica", "service_instance_id"),
    *("pod", "pod_name", "pod_ip", "pod_uid", "kubernetes_pod_name", "k8s_pod_name", "k8s_pod_uid", "uid"),
    *("statefulset_kubernetes_io_pod_name", "apps_kubernetes_io_pod_index"),
    *("pod_template_hash", "controller_revision_hash", "pod_template_generation"),
    *("container_id", "container_name", "task_id", "task_slot", "alloc_id", "instance_id", "ip", "address"),
    *("node", "node_name", "nodename", "kubernetes_node", "kubernetes_io_hostname", "k8s_node_name"),
    *("host", "hostname", "host_name", "host_ip", "host_id"),
    *("availability_zone", "topology_kubernetes_io_zone"),
    *("version", "revision", "image", "image_tag", "service_version", "app_kubernetes_io_version", "helm_sh_chart"),
)
"""Labels of targets that change with a restart, a reschedule or a release, by the usual ways of discovery.

All others (env, cluster, region, namespace, …) say whose data a pipeline's are.
"""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Where rules are used: the job that scrapes, how often is measured, and where dashboards and runbooks are.

    `config_file` is the path in printed commands, `passing` are more labels of targets like `PASSING_LABELS`.
    """

    job: str = "session-health"
    interval: timedelta = timedelta(seconds=30)
    dashboards: str = "https://grafana.example.com"
    runbooks: str = "https://runbooks.example.com"
    config_file: str = "config.yaml"
    passing: tuple[str, ...] = ()

    def select(self, metric: Metric, /, **labels: str) -> str:
        """The series of our job, each as it was last seen."""
        return self.last(LOOKBACK_ROUNDS, metric.full_name, **labels)

    def within(self, count: int) -> Select:
        """How the series of our job are selected, each as it was last seen within so many rounds."""

        def select(metric: Metric, /, **labels: str) -> str:
            return self.last(count, metric.full_name, **labels)

        return select

    def last(self, count: int, name: str, /, **labels: str) -> str:
        """The series of our job, each as it was last seen within so many rounds."""
        return f"last_over_time({self.selector(name, **labels)}[{self.rounds(count)}])"

    def selector(self, name: str, /, **labels: str) -> str:
        """The series of our job, as they are."""
        given = {"job": self.job, **labels}
        return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in given.items()) + "}"

    def but_passing(self, *others: str) -> str:
        """The labels that make no other pipeline of a series, for `without` and `ignoring`."""
        return f"({', '.join(dict.fromkeys((*PASSING_LABELS, *self.passing, *others)))})"

    def rounds(self, count: int) -> str:
        """So many rounds of collecting, as a duration of Prometheus."""
        milliseconds = round(count * self.interval / timedelta(milliseconds=1))
        for unit, length in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if milliseconds % length == 0:
                return f"{milliseconds // length}{unit}"
        return f"{milliseconds}ms"
