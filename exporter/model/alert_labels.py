"""Labels of alerts: labels of targets that change with a restart, and names that a config cannot give to labels."""

from typing import Final

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
"""Labels of targets that change with a restart, a reschedule or a release, for the usual kinds of discovery.

All other labels (env, cluster, region, namespace, …) identify a pipeline.
"""

RESERVED_LABELS: Final = frozenset(
    {
        *("job", "database", "pipeline", "record", "check", "limit", "severity", "fault", "verdict", "owner"),
        *("alertname", "alertstate", "le", "quantile"),
    }
)
"""Labels of the exporter, the rules and Prometheus."""
