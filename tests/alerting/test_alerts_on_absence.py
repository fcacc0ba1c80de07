"""A pipeline that was there and is not any more: whose it was, who took over, and what an open page does meanwhile.

All labels of a series count but those that change with a restart or a reschedule, and those that `rules` is told of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from promtool import PIPELINE, ROUND, Phases, Values, at_round, of_groups, run_tests, series, written
from tools import NEWER_SUITE

from exporter.dimensions import DIMENSIONS
from exporter.model.alert_labels import PASSING_LABELS
from exporter.rules.formats import as_prometheus
from exporter.rules.groups import groups
from exporter.rules.settings import RuleSettings

pytestmark = pytest.mark.prometheus

MINUTES: Final = 60
HOURS: Final = 60 * MINUTES

State = Literal["fine", "broken", "failing", "gone"]
"""All is whole; sessions have gaps beyond a critical limit; nothing can be measured; Prometheus has no series."""


def there(state: State, labels: Mapping[str, str]) -> Values:
    """What a pipeline's exporter says, with the labels of its target."""
    if state == "gone":
        return []
    limit: Values = [("limit", {**labels, "limit": "sessions_with_gap", "severity": "critical"}, 0)]
    unknown: Values = [("verdict", {**labels, "verdict": "unknown"}, float(state == "failing"))]
    gaps: Values = [("eligible_sessions", {**labels, "state": "gap"}, 39 if state == "broken" else 0)]
    own: Values = [
        ("up", labels, float(state != "failing")),
        ("max_age_seconds", labels, 300),
        ("collection_interval_seconds", labels, 30),
        ("last_success_timestamp_seconds", labels, 10),
    ]
    return [*own, *limit, *unknown, *([] if state == "failing" else gaps)]


@dataclass(frozen=True)
class Exporter:
    """One target with its labels, and one state after the other: each with its minutes."""

    labels: Mapping[str, str]
    states: Sequence[tuple[State, float]]

    def series(self) -> list[dict[str, str]]:
        phases: Phases = [(there(state, self.labels), minutes * MINUTES) for state, minutes in self.states]
        return written(phases)


@dataclass(frozen=True)
class Claim:
    """What fires at some minutes, as `Alert severity LABEL` where `label` tells the exporters apart.

    `paged` is from when to when somebody is paged for what `who` is, at every moment.
    """

    name: str
    exporters: Sequence[Exporter]
    label: str
    at: Mapping[float, Sequence[str]] = field(default_factory=dict)
    paged: tuple[float, float, str] | None = None
    never: str | None = None

    def test(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "interval": at_round(ROUND),
            "input_series": [one for exporter in self.exporters for one in exporter.series()],
            "promql_expr_test": [*map(self._fires, self.at), *self._stays(), *self._is_silent()],
        }

    def _fires(self, minutes: float) -> dict[str, Any]:
        expected = []
        for words in self.at[minutes]:
            alert, severity, value = words.split()
            labels = {"alertname": f"SessionHealth{alert}", "severity": severity, self.label: value}
            expected.append({"labels": series("", labels), "value": 1})
        chosen = 'ALERTS{alertstate="firing",alertname!="SessionHealthWatchdog"}'
        return {
            "expr": f"count by (alertname, severity, {self.label}) ({chosen})",
            "eval_time": at_round(minutes * MINUTES),
            "exp_samples": expected,
        }

    def _stays(self) -> list[dict[str, Any]]:
        if self.paged is None:
            return []
        begin, end, who = self.paged
        page = f'ALERTS{{alertstate="firing",severity="critical",{self.label}="{who}"}}'
        # A series that has ended is no page, though Prometheus would look back for it.
        rounds = f"[{at_round((end - begin) * MINUTES)}:{ROUND}s]"
        return [
            {
                "expr": f"min_over_time((count({page}) or vector(0)){rounds}) > bool 0",
                "eval_time": at_round(end * MINUTES),
                "exp_samples": [{"value": 1}],
            }
        ]

    def _is_silent(self) -> list[dict[str, Any]]:
        if self.never is None:
            return []
        page = f'ALERTS{{alertstate="firing",{self.never}}}'
        minutes = sum(length for _, length in self.exporters[0].states)
        return [
            {
                "expr": f"max_over_time((count({page}) or vector(0))[{at_round(minutes * MINUTES)}:{ROUND}s])",
                "eval_time": at_round(minutes * MINUTES),
                "exp_samples": [{"value": 0}],
            }
        ]


def absent(who: str, *severities: str) -> list[str]:
    return [f"PipelineAbsent {severity} {who}" for severity in severities]


PROD: Final = {"env": "prod", "instance": "a:1"}
STAGING: Final = {"env": "staging", "instance": "b:1"}
LEAVES: Final[Sequence[tuple[State, float]]] = [("fine", 30), ("gone", 70)]
STAYS: Final[Sequence[tuple[State, float]]] = [("fine", 100)]
COMES: Final[Sequence[tuple[State, float]]] = [("gone", 31), ("fine", 69)]
FORGOTTEN: Final[Sequence[tuple[State, float]]] = [("fine", 30), ("gone", 430)]
NOW_AND_THEN: Final[Sequence[tuple[State, float]]] = [("failing", 0.5), ("fine", 0.5)] * 80
NO_ABSENCE: Final = 'alertname="SessionHealthPipelineAbsent"'
ENDED: Final = 30 + 7 * 60 + 4
"""In how many minutes what left after 30 is forgotten."""


def told(who: str) -> dict[float, Sequence[str]]:
    """What is said of a pipeline that leaves after 30 minutes, and when."""
    return {
        29: [],
        42: [],
        44: absent(who, "warning"),
        92: absent(who, "warning"),
        94: absent(who, "warning", "critical"),
    }


CLAIMS: Final = (
    *(
        Claim(
            f"one leaves discovery, another {label} stays",
            [Exporter({label: "lost", "instance": "a:1"}, LEAVES), Exporter({label: "kept", "instance": "b:1"}, STAYS)],
            label,
            told("lost"),
        )
        for label in ("env", "cluster", "region", "namespace", "tenant")
    ),
    Claim(
        "two clusters call their exporters alike",
        [
            Exporter({"cluster": "east", "instance": "localhost:10157"}, LEAVES),
            Exporter({"cluster": "west", "instance": "localhost:10157"}, STAYS),
        ],
        "cluster",
        told("east"),
    ),
    Claim(
        "the target has a label, the other one none",
        [Exporter(PROD, LEAVES), Exporter({"instance": "b:1"}, STAYS)],
        "env",
        told("prod"),
    ),
    Claim(
        "labels of the target are called database and pipeline",
        [
            Exporter({"database": "t", "pipeline": "t", "exported_database": "main", "exported_pipeline": name}, states)
            for name, states in (("lost", LEAVES), ("kept", STAYS))
        ],
        "exported_pipeline",
        told("lost"),
    ),
    Claim(
        "a pair, of which one dies",
        [
            Exporter({"env": "prod", "instance": "a:1", "pod": "health-0", "node": "n1"}, LEAVES),
            Exporter({"env": "prod", "instance": "b:1", "pod": "health-1", "node": "n2"}, STAYS),
            Exporter(STAGING, STAYS),
        ],
        "env",
        never=NO_ABSENCE,
    ),
    Claim(
        "a pair, of which both die",
        [
            Exporter({**PROD, "replica": "0"}, LEAVES),
            Exporter({**PROD, "replica": "1"}, LEAVES),
            Exporter(STAGING, STAYS),
        ],
        "env",
        told("prod"),
    ),
    Claim(
        "rescheduled, one pipeline for each label that changes then",
        [
            exporter
            for label in PASSING_LABELS
            for exporter in (
                Exporter({**PROD, label: "old", "pipeline": label}, LEAVES),
                Exporter({**PROD, label: "new", "pipeline": label}, COMES),
            )
        ],
        "env",
        never=NO_ABSENCE,
    ),
    Claim(
        "it leaves the config on purpose",
        [
            Exporter({"instance": "a:1", "pipeline": "old"}, LEAVES),
            Exporter({"instance": "a:1", "pipeline": "kept"}, STAYS),
        ],
        "pipeline",
        told("old"),
    ),
    Claim(
        "a label of the target is renamed with a deploy, which may be a removal",
        [Exporter(PROD, FORGOTTEN), Exporter({"env": "production", "instance": "c:1"}, [("gone", 30), ("fine", 430)])],
        "env",
        {**told("prod"), ENDED - 8: absent("prod", "warning", "critical"), ENDED: []},
    ),
    Claim(
        "an open page outlasts its exporter, until its absence pages by itself",
        [Exporter(PROD, [("broken", 40), ("gone", 110)]), Exporter(STAGING, [("fine", 150)])],
        "env",
        {
            39: ["SessionsWithGap critical prod"],
            60: ["SessionsWithGap critical prod", *absent("prod", "warning")],
            105: ["SessionsWithGap critical prod", *absent("prod", "warning", "critical")],
            130: absent("prod", "warning", "critical"),
        },
        paged=(17, 149, "prod"),
    ),
    Claim(
        "so does one about not knowing",
        [Exporter(PROD, [("failing", 80), ("gone", 110)]), Exporter(STAGING, [("fine", 190)])],
        "env",
        paged=(62, 189, "prod"),
    ),
    Claim(
        "so does one about collections that fail now and then",
        [
            Exporter(PROD, [*NOW_AND_THEN, ("gone", 110)]),
            Exporter(STAGING, [("fine", 190)]),
        ],
        "env",
        paged=(72, 189, "prod"),
    ),
    Claim(
        "rescheduled while a page is open, and still broken",
        [
            Exporter({**PROD, "pod": "health-0"}, [("broken", 40), ("gone", 80)]),
            Exporter(
                {"env": "prod", "instance": "c:1", "pod": "health-1"}, [("gone", 42), ("failing", 8), ("broken", 70)]
            ),
            Exporter(STAGING, [("fine", 120)]),
        ],
        "env",
        paged=(17, 119, "prod"),
        never=NO_ABSENCE,
    ),
    Claim(
        "rescheduled while a page is open, and mended",
        [
            Exporter({**PROD, "pod": "health-0"}, [("broken", 40), ("gone", 80)]),
            Exporter({"env": "prod", "instance": "c:1", "pod": "health-1"}, [("gone", 42), ("fine", 78)]),
            Exporter(STAGING, [("fine", 120)]),
        ],
        "env",
        {39: ["SessionsWithGap critical prod"], 50: ["SessionsWithGap critical prod"], 56: []},
    ),
    Claim(
        "one of a pair dies while the page of both is open, and the other sees it mended",
        [
            Exporter({**PROD, "instance": "a:1"}, [("broken", 40), ("gone", 80)]),
            Exporter({**PROD, "instance": "b:1"}, [("broken", 50), ("fine", 70)]),
        ],
        "env",
        {39: ["SessionsWithGap critical prod"], 58: ["SessionsWithGap critical prod"], 66: []},
    ),
    Claim(
        "what fires elsewhere at the same address begins nothing here",
        [
            Exporter({"cluster": "east", "instance": "localhost:10157"}, [("fine", 60), ("broken", 5), ("gone", 55)]),
            Exporter({"cluster": "west", "instance": "localhost:10157"}, [("broken", 120)]),
        ],
        "cluster",
        never='alertname="SessionHealthSessionsWithGap",cluster="east"',
    ),
)


@pytest.mark.parametrize("suite", [None, NEWER_SUITE], ids=["own", NEWER_SUITE])
@pytest.mark.parametrize("claim", [pytest.param(claim, id=claim.name) for claim in CLAIMS])
def test_whose_absence_is_told_and_what_an_open_page_does(tmp_path: Path, claim: Claim, suite: str | None) -> None:
    rules = of_groups("session-health.rules", "session-health-coverage", "session-health-exporter")

    assert run_tests(tmp_path, rules, [claim.test()], suite) == ""


def test_a_label_that_the_rules_are_told_of_makes_no_other_pipeline(tmp_path: Path) -> None:
    slots = [
        Exporter({**PROD, "slot": "blue"}, LEAVES),
        Exporter({**PROD, "slot": "green"}, COMES),
    ]
    # No other group has what is asked for, and promtool takes its time.
    wanted = ("session-health.rules", "session-health-coverage", "session-health-exporter")
    made = groups(DIMENSIONS, RuleSettings(passing=("slot",)))
    told_of = as_prometheus(tuple(group for group in made if group.name in wanted))

    assert run_tests(tmp_path, told_of, [Claim("passing", slots, "env", never=NO_ABSENCE).test()]) == ""
    assert run_tests(tmp_path, of_groups(*wanted), [Claim("counts", slots, "slot", told("blue")).test()]) == ""


def test_what_counts_are_the_labels_that_say_whose_data_they_are() -> None:
    assert not {*PIPELINE, "env", "environment", "cluster", "region", "namespace", "tenant"} & {*PASSING_LABELS} - {
        "instance"
    }
    assert len({*PASSING_LABELS}) == len(PASSING_LABELS)
