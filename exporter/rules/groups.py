"""Dimensions -> all rules, in groups."""

from exporter.model.dimension import Dimension
from exporter.rules import judgement, pipelines
from exporter.rules.limit_alerts import alert_of
from exporter.rules.own_alerts import OWN_ALERTS, own_alerts_of
from exporter.rules.rule import RuleGroup
from exporter.rules.settings import RuleSettings


def groups(dimensions: tuple[Dimension, ...], at: RuleSettings) -> tuple[RuleGroup, ...]:
    """All rules: a group per dimension with limits, then the group of the exporter.

    Grafana has no recording rules, and no heartbeat: the heartbeat is about the way from Prometheus to Alertmanager.
    """
    below = [limit.name for dimension in dimensions for limit in dimension.limits if limit.below]
    recorded = RuleGroup("session-health.rules", (*pipelines.recordings(at), *judgement.recordings(at, below)))
    own = (own for own in OWN_ALERTS if at.has_recordings or "none" not in own.after)
    return (
        *([recorded] if at.has_recordings else []),
        *(
            RuleGroup(
                f"session-health-{dimension.name}",
                tuple(alert_of(limit, dimension, at) for limit in dimension.limits),
            )
            for dimension in dimensions
            if dimension.limits
        ),
        RuleGroup("session-health-exporter", tuple(alert for one in own for alert in own_alerts_of(one, at))),
    )
