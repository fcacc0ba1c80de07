"""Dimensions -> all rules, in groups."""

from exporter.model.dimension import Dimension
from exporter.rules.limit_alerts import alerts_of, recorded_name
from exporter.rules.own_alerts import OWN_ALERTS, own_alerts_of
from exporter.rules.rule import LOST_PIPELINES, Recording, RuleGroup, lost_pipelines
from exporter.rules.settings import RuleSettings


def groups(dimensions: tuple[Dimension, ...], at: RuleSettings) -> tuple[RuleGroup, ...]:
    """All rules: a group per dimension with limits, then the group of the exporter."""
    recorded = [
        Recording(recorded_name(limit), limit.value.promql(at.select))
        for dimension in dimensions
        for limit in dimension.limits
        if limit.unit == "ratio"
    ]
    return (
        RuleGroup("session-health.rules", (Recording(LOST_PIPELINES, lost_pipelines(at)), *recorded)),
        *(
            RuleGroup(
                f"session-health-{dimension.name}",
                tuple(alert for limit in dimension.limits for alert in alerts_of(limit, dimension, at)),
            )
            for dimension in dimensions
            if dimension.limits
        ),
        RuleGroup("session-health-exporter", tuple(alert for own in OWN_ALERTS for alert in own_alerts_of(own, at))),
    )
