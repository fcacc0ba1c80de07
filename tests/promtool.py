"""Unit tests of rules, as promtool runs them.

https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from conftest import plan_of, whole_tour
from tools import find_tool
from waiting import at_most

from exporter.dimensions import DIMENSIONS
from exporter.model.judging import Readings
from exporter.model.metric import Metric
from exporter.model.sections import Pipeline
from exporter.state.board import PipelineStatus
from exporter.state.judge import judge
from exporter.state.self_metrics import LIMIT_BROKEN, LIMIT_LEVEL, LIMIT_VALUE, SELF_METRICS
from exporter.state.snapshot import Collection, Snapshot

Labels = Mapping[str, str]

ROUND: Final = 30
"""Seconds between collections and scrapes."""

MINUTE: Final = 60
"""Seconds between evaluations that a Prometheus makes unless its config says otherwise."""

TARGET: Final = {"job": "session-health", "instance": "exporter:10157"}
PIPELINE: Final = {**TARGET, "database": "main", "pipeline": "assessments"}

WHOSE: Final = {label: value for label, value in PIPELINE.items() if label != "instance"}
"""The pipeline, whichever exporter measures it: the labels of an alert."""

Values = list[tuple[str, Mapping[str, str], float]]
"""Series below `session_health_`: name, labels and value; of a time, how many seconds ago it was."""


def series(name: str, labels: Labels) -> str:
    """A series in Prometheus' notation."""
    return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items()) + "}"


RULES: Final = Path(__file__).parents[1] / "alerts" / "rules.yml"


def of_groups(*names: str) -> str:
    """The committed rules, those of these groups only: promtool takes its time."""
    content = yaml.safe_load(RULES.read_text())
    wanted = [group for group in content["groups"] if group["name"] in names]
    assert len(wanted) == len(names)
    return json.dumps({"groups": wanted})


def of_alerts(*names: str) -> str:
    """The committed rules, those of the groups that have these alerts, with what is recorded for all."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    recorded, *alerting = [group["name"] for group in groups]
    return of_groups(
        recorded,
        *(
            name
            for name, group in zip(alerting, groups[1:], strict=True)
            if any(rule.get("alert") in names for rule in group["rules"])
        ),
    )


def run_tests(
    folder: Path,
    rules: str,
    tests: Iterable[Mapping[str, Any]],
    suite: str | None = None,
    evaluation_interval: int | None = None,
) -> str:
    """What promtool (of a suite of Debian) says of tests of these rules: empty where all of them passed.

    Evaluations are `evaluation_interval` seconds apart, or as far as each test allows.
    """
    paced: dict[int, list[Mapping[str, Any]]] = {}
    for test in tests:
        paced.setdefault(evaluation_interval or pace(test), []).append(test)
    return "".join(_run(folder, rules, some, suite, seconds) for seconds, some in paced.items())


def pace(test: Mapping[str, Any]) -> int:
    """Seconds between evaluations: a minute, at half the work, or a round if anything is asked or turns in between."""
    asked = [*test.get("alert_rule_test", ()), *test.get("promql_expr_test", ())]
    seconds = [one["eval_time"].removesuffix("s") for one in asked if one["eval_time"].endswith("s")]
    is_whole = all(float(second) % MINUTE == 0 for second in seconds)
    return ROUND if not is_whole or any(map(_turns_within_a_minute, test["input_series"])) else MINUTE


def _turns_within_a_minute(given: Mapping[str, str]) -> bool:
    """Whether a series comes, goes or changes with an odd round; a time moves on with every round."""
    tokens = given["values"].split()
    is_time = given["series"].partition("{")[0].endswith("_timestamp_seconds")
    kinds = ["number" if is_time and token not in ("_", "stale") else token for token in tokens]
    kinds = ["_" if kind == "stale" else kind for kind in kinds]
    return any(even != odd for even, odd in zip(kinds[::2], kinds[1::2], strict=False))


def _run(folder: Path, rules: str, tests: list[Mapping[str, Any]], suite: str | None, seconds: int) -> str:
    (folder / "rules.yml").write_text(rules)
    # JSON is YAML.
    content = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": at_round(seconds),
        "group_eval_order": _group_names(rules),
        "tests": tests,
    }
    (folder / "tests.yml").write_text(json.dumps(content))
    command = [str(find_tool("promtool", suite)), "test", "rules", "tests.yml"]
    # It frees memory that it could well keep, on other cores: a third of its time.
    # https://pkg.go.dev/runtime#hdr-Environment_Variables
    environment = {**os.environ, "GOGC": "off", "GOMEMLIMIT": "400MiB", "GOMAXPROCS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=at_most(120)
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr or f"exit code {done.returncode}"


@cache
def _group_names(rules: str) -> list[str]:
    """The groups in order: else promtool takes any order, and an alert may see what was recorded a round ago."""
    return [group["name"] for group in yaml.safe_load(rules)["groups"] or []]


def at_round(seconds: float) -> str:
    return f"{seconds:.0f}s"


Phases = list[tuple[Values, float]]
"""What there is, and for how many seconds."""

_METRICS: Final = {measure.metric.name: measure.metric for d in DIMENSIONS for measure in d.measures}
_NOW: Final = datetime(2026, 11, 20, tzinfo=UTC).timestamp()


def with_judgement(values: Values) -> Values:
    """The series with what the exporter's judge says of them: `limit` and `limit_min_sessions` are the config.

    Labels that no metric has are those of a target; each target is judged by itself.
    """
    targets: dict[tuple[tuple[str, str], ...], tuple[dict[Metric, dict[tuple[str, ...], float]], list[str]]] = {}
    clock = _NOW - sum(age for name, _, age in values if name == "snapshot_timestamp_seconds")
    for name, labels, value in values:
        own = _METRICS[name].labels if name in _METRICS else ("limit", "severity")
        target = tuple((label, text) for label, text in labels.items() if label not in own)
        families, limits = targets.setdefault(target, ({}, []))
        if name in _METRICS:
            at = _NOW - value if name.endswith("_timestamp_seconds") else value
            families.setdefault(_METRICS[name], {})[tuple(labels[label] for label in own)] = at
        elif name in ("limit", "limit_min_sessions"):
            limits.append(f"{labels['limit']} {labels.get('severity', 'min_sessions')} {value:g}")
    return [
        *values,
        *(
            (name, {**dict(target), **labels}, value)
            for target, (families, limits) in targets.items()
            if families  # values are withdrawn with the judgement
            for name, labels, value in _judged(families, tuple(limits), clock)
        ),
    ]


def _judged(
    families: Mapping[Metric, Mapping[tuple[str, ...], float]], limits: tuple[str, ...], clock: float
) -> Values:
    pipeline = _with_limits(limits)
    readings = Readings(pipeline, clock, families, frozenset(pipeline.records))
    judgement = judge(DIMENSIONS, readings, frozenset(), frozenset(), ())
    snapshot = Snapshot(readings, {}, {}, (), {}, judgement)
    status = PipelineStatus(pipeline, max_age=300).after(Collection(snapshot, None, 0.1, _NOW), now=0.0)
    return [
        (one.metric.name, {label: text for label, text in zip(one.metric.labels, labels, strict=True) if text}, value)
        for one in SELF_METRICS
        if one.metric in (LIMIT_VALUE, LIMIT_LEVEL, LIMIT_BROKEN)
        for labels, value in one.values(status)
        if value is not None
    ]


@cache
def _with_limits(limits: tuple[str, ...]) -> Pipeline:
    """The pipeline of the tour with just these limits."""
    given: dict[str, dict[str, str | float]] = {}
    for name, key, value in (limit.split() for limit in limits):
        unit = next(limit.unit for d in DIMENSIONS for limit in d.limits if limit.name == name)
        if key != "min_sessions" or unit == "ratio":
            given.setdefault(name, {})[key] = f"{value}s" if unit == "seconds" else json.loads(value)
    whole = {name: keys for name, keys in given.items() if set(keys) & {"warning", "critical"}}
    head = (
        whole_tour().partition("    limits:")[0].replace("current: v1.2}", "current: v1.2, current_since: 2025-09-17}")
    )
    return plan_of(f"{head}    limits: {json.dumps(whole)}\n", "postgresql://nowhere").pipeline


def written(phases: Phases, *, is_judged: bool = False) -> list[dict[str, str]]:
    """The series of one phase after the other, judged unless they are; of a phase that has them no more, stale."""
    rounds = [
        judged
        for phase, seconds in phases
        for judged in [dict_of(phase if is_judged else with_judgement(phase))]
        for _ in range(round(seconds / ROUND))
    ]
    found = []
    for name, labels in dict.fromkeys(key for one in rounds for key in one):
        tokens, last = [], None
        for number, one in enumerate(rounds):
            value = one.get((name, labels))
            is_time = value is not None and name.endswith("_timestamp_seconds")
            nothing = "_" if last is None else "stale"
            tokens.append(nothing if value is None else str(number * ROUND - value if is_time else value))
            last = value
        found.append(
            {"series": series(f"session_health_{name}", {**PIPELINE, **dict(labels)}), "values": " ".join(tokens)}
        )
    return found


def dict_of(values: Values) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(name, tuple(labels.items())): value for name, labels, value in values}
