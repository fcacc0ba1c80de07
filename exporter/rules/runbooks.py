"""Dimensions -> runbooks: for every alert the meaning, the first look, likely causes, the repair and the silence.

Written for an on-call engineer who has never seen this exporter.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from exporter.model.advice import DASHBOARDS, Advice
from exporter.model.alert_names import ALERT_PREFIX, alert_name, subject_label
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit
from exporter.model.sections import Pipeline
from exporter.rules.limit_alerts import command_of
from exporter.rules.own_alerts import OWN_ALERTS, OwnAlert, own_command
from exporter.rules.rule import Urgency
from exporter.rules.settings import RuleSettings
from exporter.state.self_metrics import LIMIT_VALUE
from exporter.text.figures import format_value

_EXAMPLE: Final = {"pipeline": "assessments", "record": "profiles", "database": "main", "check": "finalized"}
_NOTE: Final = "<!-- Generated from exporter/dimensions and exporter/rules by `make generate`: change it there. -->"


def pages(dimensions: tuple[Dimension, ...], tour: Pipeline) -> dict[str, str]:
    """Every page by file name: one per dimension with alerts, one for the exporter, and the index.

    SQL and commands use the names of the `tour`.
    """
    found = {
        f"{dimension.name}.md": _page(
            dimension.name.capitalize(), dimension.question, (_of_limit(limit, tour) for limit in dimension.limits)
        )
        for dimension in dimensions
        if dimension.limits
    }
    question = "Does the exporter measure every pipeline, and do the measurements arrive?"
    found["exporter.md"] = _page("The exporter itself", question, map(_of_own, OWN_ALERTS))
    places = {alert: f"{page}#{alert.lower()}" for page, text in found.items() for alert in _HEADING.findall(text)}
    linked = {page: _linked(text, places) for page, text in found.items()}
    return {"README.md": _index(dimensions), **linked}


_HEADING: Final = re.compile(r"^## (\w+)$", re.MULTILINE)
_MENTION: Final = re.compile(rf"(?<!## )(?<!=)\b{ALERT_PREFIX}\w+")


def _linked(text: str, places: Mapping[str, str]) -> str:
    """Turn names of alerts in prose into links; names in headings and commands stay."""
    return _MENTION.sub(lambda found: f"[{found[0]}]({places[found[0]]})", text)


def _index(dimensions: tuple[Dimension, ...]) -> str:
    alerts = [
        (alert_name(limit), dimension.name, limit.advice) for dimension in dimensions for limit in dimension.limits
    ]
    alerts += [(ALERT_PREFIX + own.name, "exporter", own.advice) for own in OWN_ALERTS]
    # The table of alerts in a dashboard links to the anchor: a link from a cell can contain the name, and no more.
    rows = [
        f'| <a id="{name}"></a>[{name}]({page}.md#{name.lower()}) | {advice.summary} |' for name, page, advice in alerts
    ]
    return "\n".join(
        [
            _NOTE,
            "# Runbooks",
            "",
            "One section per alert.  For limits and thresholds, see [operations](../operations.md).  For the delivery",
            "of alerts, see [alerting](../alerting.md).  In commands, `config.yaml` stands for the path of a config.",
            "Commands and SQL name the sample pipeline `assessments`: replace the name with the `pipeline` label of",
            "your alert.  The report and the exporter's page print commands and SQL with your names.",
            "",
            "| alert | summary |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _page(title: str, question: str, sections: Iterator[Iterator[str]]) -> str:
    lines = [_NOTE, f"# {title}", "", question, ""]
    for section in sections:
        lines += section
    return "\n".join(lines)


def _of_limit(limit: Limit, tour: Pipeline) -> Iterator[str]:
    name, label = alert_name(limit), subject_label(limit)
    per = f"each {label}" if label else "the pipeline"
    side = "below" if limit.below else "above"
    condition = (
        f"The alert fires if the value stays {side} the threshold of `limits.{limit.name}` for {_time(limit.rounds)}.  "
        f"The value, for {per}: {limit.what[0].lower()}{limit.what[1:]}"
    )
    yield from _section(
        name,
        condition,
        limit.advice,
        limit.advice.steps(tour, _EXAMPLE.get(label or "", "")),
        command_of(limit, RuleSettings()),
        f'{LIMIT_VALUE.full_name}{{limit="{limit.name}"}}',
        ("database", "pipeline", *([label] if label else [])),
    )


def _of_own(own: OwnAlert) -> Iterator[str]:
    when = ", ".join(_after(severity, rounds) for severity, rounds in own.after.items())
    yield from _section(
        ALERT_PREFIX + own.name,
        when,
        own.advice,
        tuple(step for step in own.advice.mend if isinstance(step, str)),
        own_command(own, RuleSettings()),
        own.expr(RuleSettings(), next(iter(own.after))),
        tuple(label for label in own.labels if label != "database"),
    )


def _after(severity: Urgency, rounds: int) -> str:
    level = {"critical": "critical", "warning": "warning", "info": "not notified", "none": "always firing"}[severity]
    return f"{level} after {_time(rounds)}" if rounds else level


def _section(
    name: str,
    condition: str,
    advice: Advice,
    steps: tuple[str, ...],
    command: str,
    promql: str,
    labels: tuple[str, ...],
) -> Iterator[str]:
    yield from (f"## {name}", "", f"*{advice.summary}*  {condition[0].upper()}{condition[1:]}.", "")
    yield from ("**Meaning.** " + advice.means, "")
    yield from ("**First look**", "", "```console", f"$ {_filled(command)}", "```", "")
    yield from ("In Prometheus:", "", "```promql", promql, "```", "")
    yield from (f"In Grafana: Session health / {DASHBOARDS[advice.dashboard]}.", "", "**Likely causes**", "")
    yield from (f"- {cause}" for cause in advice.causes)
    yield from ("", "**Repair**", "")
    yield from (f"{number}. {step}" for number, step in enumerate(steps, start=1))
    matchers = " ".join([f"alertname={name}", *(f"{label}={_EXAMPLE[label]}" for label in labels)])
    yield from ("", "**Silence** during the repair:", "", "```console")
    silence = f"amtool --alertmanager.url=http://localhost:9093 silence add {matchers}"
    yield from (f'$ {silence} --duration=4h --comment="under repair"', "```", "")
    if "pipeline" in labels:
        yield from ("One cause can break several limits.  Without `alertname`, the silence covers the pipeline.", "")


def _filled(command: str) -> str:
    """A command of an alert with the names of the tour in place of labels."""
    for label, value in (*_EXAMPLE.items(), ("instance", "localhost:10157")):
        command = command.replace(f"{{{{ $labels.{label} }}}}", value)
    return command


def _time(rounds: int) -> str:
    """Rounds, and the time with the default interval."""
    usual = rounds * RuleSettings().interval / timedelta(seconds=1)
    return f"{rounds} collections ({format_value(usual, 'seconds')} by default)"
