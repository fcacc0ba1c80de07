"""What the on-call engineer reads: the shipped receivers, rendered by Alertmanager's own engine."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from alertmanager import ALERTS, SETTINGS, Labels
from tools import NEWER_SUITE, find_tool
from waiting import START_SECONDS, at_most

pytestmark = pytest.mark.prometheus

TEAMS = re.compile(r"^    # (msteamsv2_configs:| .*)$", re.MULTILINE)
"""The lines of the receiver that Alertmanager 0.25 does not know."""

URL = "http://alertmanager:9093"


def with_teams() -> str:
    """The shipped file with Microsoft Teams."""
    return TEAMS.sub(r"    \1", SETTINGS.read_text(encoding="utf-8"))


RECEIVERS: dict[str, dict[str, Any]] = {
    kind: settings[0]
    for receiver in yaml.safe_load(with_teams())["receivers"]
    for kind, settings in receiver.items()
    if kind.endswith("_configs") and kind != "webhook_configs"
}
MAIL, SLACK = RECEIVERS["email_configs"], RECEIVERS["slack_configs"]
PAGERDUTY, TEAMS_CARD = RECEIVERS["pagerduty_configs"], RECEIVERS["msteamsv2_configs"]
TEXTS = {"mail": MAIL["text"], "slack": SLACK["text"], "teams": TEAMS_CARD["text"], "html": MAIL["html"]}

Notification = dict[str, Any]


def alert(name: str = "GapAge", pipeline: str = "assessments", ended: str | None = None, **more: str) -> Notification:
    labels = {
        "alertname": f"SessionHealth{name}",
        "job": "session-health",
        "limit": name.lower(),
        "severity": "critical",
        "database": "main",
        "pipeline": pipeline,
        **more,
    }
    return {
        "status": "resolved" if ended else "firing",
        "labels": {label: value for label, value in labels.items() if value},
        "annotations": {
            "summary": {"GapAge": "A session has waited too long."}.get(name, "Sessions are missing records."),
            "description": f"Pipeline {pipeline} (database main): 119d 9h 9m 14s; critical above 1h 0m 0s.",
            "command": f"session-health-exporter gaps --pipeline {pipeline}",
            "runbook_url": f"https://runbooks/coverage.md#sessionhealth{name.lower()}",
            "dashboard_url": f"https://grafana/d/overview?var-database=main&var-pipeline={pipeline}",
        },
        "startsAt": "2026-01-02T03:04:05+01:00",
        "endsAt": ended or "0001-01-01T00:00:00Z",
    }


def notification(*alerts: Notification, **more: str) -> Notification:
    """What a template is given: https://pkg.go.dev/github.com/prometheus/alertmanager/template#Data."""
    first, *others = [one["labels"].items() for one in alerts]
    common = dict(first) if not others else {k: v for k, v in first if all((k, v) in other for other in others)}
    return {
        "receiver": "pager",
        "status": "firing" if any(one["status"] == "firing" for one in alerts) else "resolved",
        "externalURL": URL,
        "alerts": list(alerts),
        "commonLabels": {**common, **more},
        "groupLabels": {"database": "main", "job": "session-health", **more},
        "commonAnnotations": {},
    }


@pytest.fixture(params=[None, NEWER_SUITE], ids=["own", NEWER_SUITE])
def amtool(request: pytest.FixtureRequest) -> str:
    return str(find_tool("amtool", request.param))


def rendered(amtool: str, folder: Path, text: str, data: Mapping[str, Any], kind: str = "text") -> str:
    (folder / "data.json").write_text(json.dumps(data))
    command = [
        *(amtool, "template", "render", f"--template.glob={ALERTS / '*.tmpl'}", f"--template.type={kind}"),
        *(f"--template.data={folder / 'data.json'}", f"--template.text={text}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=at_most(START_SECONDS))
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def kind_of(receiver: str) -> str:
    return "html" if receiver == "html" else "text"


def test_a_newer_alertmanager_takes_the_file_with_teams(tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text(with_teams(), encoding="utf-8")
    (tmp_path / "session-health.tmpl").write_bytes((ALERTS / "session-health.tmpl").read_bytes())
    command = [str(find_tool("amtool", NEWER_SUITE)), "check-config", str(tmp_path / "alertmanager.yml")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=at_most(START_SECONDS))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "msteamsv2_configs" in yaml.safe_load(with_teams())["receivers"][0]


ENDED = "2026-01-02T04:05:07+01:00"
DOWN = alert("TargetDown", "", database="", severity="warning", instance="exporter:10157")


@pytest.mark.parametrize(
    ("alerts", "more", "title"),
    [
        ([alert()], {}, "[CRITICAL] main/assessments: A session has waited too long."),
        (
            [alert(), alert("SessionsWithGap")],
            {},
            "[CRITICAL] main/assessments: A session has waited too long. (and 1 more)",
        ),
        (
            [alert(name, f"p{n}") for name in ("GapAge", "SessionsWithGap", "GapRatio") for n in range(10)],
            {},
            "[CRITICAL] main: 10 pipelines: A session has waited too long. (and 2 more)",
        ),
        (
            [alert("InvalidRecords", record="profiles"), alert("InvalidRecords", record="fc_scores")],
            {"env": "staging"},
            "[CRITICAL] staging main/assessments: Sessions are missing records.",
        ),
        # What is over counts no more.
        (
            [alert(), alert(pipeline="orders", ended=ENDED)],
            {},
            "[CRITICAL] main/assessments: A session has waited too long.",
        ),
        ([alert(ended=ENDED)], {}, "[RESOLVED] main/assessments: A session has waited too long."),
        (
            [alert(pipeline=f"p{n}", ended=ENDED) for n in range(2)],
            {},
            "[RESOLVED] main: 2 pipelines: A session has waited too long.",
        ),
        (
            [alert(), alert(pipeline="p", database="other")],
            {},
            "[CRITICAL] 2 pipelines: A session has waited too long.",
        ),
        ([DOWN], {}, "[WARNING] exporter:10157: Sessions are missing records."),
        ([alert("ExporterAbsent", "", database="")], {}, "[CRITICAL] session-health: Sessions are missing records."),
        ([alert("X", severity="")], {}, "[FIRING] main/assessments: Sessions are missing records."),
    ],
)
def test_the_title_names_severity_place_and_the_first_cause(
    amtool: str, tmp_path: Path, alerts: list[Notification], more: Labels, title: str
) -> None:
    said = rendered(amtool, tmp_path, SLACK["title"], notification(*alerts, **more))

    assert said == title
    assert MAIL["headers"]["Subject"] == PAGERDUTY["description"] == TEAMS_CARD["title"] == SLACK["title"]


def test_a_title_without_a_summary_counts_one_alert_as_one(amtool: str, tmp_path: Path) -> None:
    alerts = [{**alert(pipeline=f"p{n}"), "annotations": {}} for n in range(2)]

    assert rendered(amtool, tmp_path, SLACK["title"], notification(alerts[0])) == "[CRITICAL] main/p0: 1 alert"
    assert rendered(amtool, tmp_path, SLACK["title"], notification(*alerts)) == "[CRITICAL] main: 2 pipelines: 2 alerts"


SILENCE = (
    f"{URL}/#/silences/new?filter=%7Balertname%3D%22SessionHealthGapAge%22%2Cdatabase%3D%22main%22"
    "%2Cjob%3D%22session-health%22%2Cpipeline%3D%22assessments%22%7D"
)
RUNBOOK = "https://runbooks/coverage.md#sessionhealthgapage"
DASHBOARD = "https://grafana/d/overview?var-database=main&var-pipeline=assessments"
SAID = {
    "mail": f"""SessionHealthGapAge assessments, since 2026-01-02 02:04 UTC
A session has waited too long.
Pipeline assessments (database main): 119d 9h; critical above 1h.
Run:       session-health-exporter gaps --pipeline assessments
Runbook:   {RUNBOOK}
Dashboard: {DASHBOARD}
Silence:   {SILENCE}

Resolved:
- SessionHealthFailedChecks assessments/finalized, 2026-01-02 02:04 UTC to 2026-01-02 03:05 UTC (1h1m)""",
    "slack": f"""*SessionHealthGapAge assessments*, since 2026-01-02 02:04 UTC
A session has waited too long.
Pipeline assessments (database main): 119d 9h; critical above 1h.
Run: `session-health-exporter gaps --pipeline assessments`
<{RUNBOOK}|Runbook> · <{DASHBOARD}|Dashboard> · <{SILENCE}|Silence>

Resolved:
• SessionHealthFailedChecks assessments/finalized, 2026-01-02 02:04 UTC to 2026-01-02 03:05 UTC (1h1m)""",
    "teams": f"""**SessionHealthGapAge assessments**, since 2026-01-02 02:04 UTC

A session has waited too long.

Pipeline assessments (database main): 119d 9h; critical above 1h.

Run: session-health-exporter gaps --pipeline assessments

[Runbook]({RUNBOOK}) · [Dashboard]({DASHBOARD}) · [Silence]({SILENCE})

Resolved:

- SessionHealthFailedChecks assessments/finalized, 2026-01-02 02:04 UTC to 2026-01-02 03:05 UTC (1h1m)""",
}


@pytest.mark.parametrize("receiver", SAID)
def test_a_notification_says_what_since_when_what_to_run_and_where_to_look(
    amtool: str, tmp_path: Path, receiver: str
) -> None:
    data = notification(alert(), alert("FailedChecks", ended=ENDED, check="finalized"))

    assert rendered(amtool, tmp_path, TEXTS[receiver], data) == SAID[receiver]


@pytest.mark.parametrize("receiver", TEXTS)
def test_a_resolved_notification_asks_for_nothing(amtool: str, tmp_path: Path, receiver: str) -> None:
    said = rendered(amtool, tmp_path, TEXTS[receiver], notification(alert(ended=ENDED)), kind_of(receiver))

    assert "SessionHealthGapAge assessments, 2026-01-02 02:04 UTC to 2026-01-02 03:05 UTC (1h1m)" in said
    assert "Run:" not in said
    assert "since" not in said


@pytest.mark.parametrize("receiver", TEXTS)
@pytest.mark.parametrize(("pipelines", "more"), [(10, 0), (11, 1), (200, 190)])
def test_ten_alerts_are_told_in_full_and_the_others_by_name(
    amtool: str, tmp_path: Path, receiver: str, pipelines: int, more: int
) -> None:
    data = notification(*(alert(pipeline=f"p{n:03}") for n in range(pipelines)))

    said = rendered(amtool, tmp_path, TEXTS[receiver], data, kind_of(receiver))

    assert said.count("Run: ") == 10
    assert f"SessionHealthGapAge p{pipelines - 1:03}" in said
    assert (f"And {more} more:" in said) is bool(more)
    assert len(said) < 9000 + 50 * pipelines


HOSTILE = """a"b<b>*|](x)
`c`\\'<!channel>"""


class Page(HTMLParser):
    """The tags and links of a mail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]


def links_of(receiver: str, said: str) -> Iterator[str]:
    """The links as the reader's program finds them."""
    if receiver == "html":
        yield from Page(said).links
        return
    patterns = {"mail": r"(?m)^\w+: +(https?:\S+)$", "slack": r"<([^|>\s]*)\|\w+>", "teams": r"\[\w+\]\(([^()\s]*)\)"}
    yield from re.findall(patterns[receiver], said)


@pytest.mark.parametrize("receiver", TEXTS)
def test_a_hostile_label_is_text_and_breaks_no_link(amtool: str, tmp_path: Path, receiver: str) -> None:
    data = notification(alert(pipeline=HOSTILE, record=HOSTILE))

    said = rendered(amtool, tmp_path, TEXTS[receiver], data, kind_of(receiver))

    runbook, dashboard, silence = links_of(receiver, said)
    assert runbook == RUNBOOK
    assert dashboard.startswith("https://grafana/d/overview?var-database=main&var-pipeline=")
    # As a matcher of Alertmanager: quoted, then escaped for a URL.
    quoted = HOSTILE.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert silence.startswith(f"{URL}/#/silences/new?filter=%7B")
    assert f'pipeline="{quoted}",record="{quoted}"' in unquote(silence)
    assert "<!channel>" not in said or receiver == "mail"
    if receiver == "html":
        assert Page(said).tags == {"html", "body", "h2", "div", "b", "br", "code", "a"}
        assert said.count("<b>") == 1


def test_a_hostile_label_is_no_markup_in_a_title(amtool: str, tmp_path: Path) -> None:
    said = rendered(amtool, tmp_path, SLACK["title"], notification(alert(pipeline=HOSTILE)))

    assert said == "[CRITICAL] main/a_b_b_x_c_channel_: A session has waited too long."


def test_a_link_that_is_no_web_address_is_no_link_in_a_mail(amtool: str, tmp_path: Path) -> None:
    one = alert()
    one["annotations"]["runbook_url"] = "javascript:alert(1)"

    links = Page(rendered(amtool, tmp_path, MAIL["html"], notification(one), "html")).links

    assert [link for link in links if link.startswith("javascript")] == []


@pytest.mark.parametrize(
    ("severity", "ended", "colour", "urgency"),
    [
        ("critical", None, "#d50200", "critical"),
        ("warning", None, "#daa038", "warning"),
        ("page", None, "#439fe0", "error"),
        ("", None, "#439fe0", "error"),
        ("critical", ENDED, "#2eb67d", "critical"),
    ],
)
def test_the_severity_has_a_colour_in_slack_and_a_name_of_pagerduty(
    amtool: str, tmp_path: Path, severity: str, ended: str | None, colour: str, urgency: str
) -> None:
    data = notification(alert(ended=ended, severity=severity))

    assert rendered(amtool, tmp_path, SLACK["color"], data) == colour
    assert rendered(amtool, tmp_path, PAGERDUTY["severity"], data) == urgency


def test_pagerduty_is_told_kind_place_group_links_and_details(amtool: str, tmp_path: Path) -> None:
    data = notification(alert(), alert("SessionsWithGap"), env="staging")
    fields = {name: PAGERDUTY[name] for name in ("class", "component", "group")}
    fields |= {link["text"]: link["href"] for link in PAGERDUTY["links"]} | PAGERDUTY["details"]

    said = {name: rendered(amtool, tmp_path, text, data) for name, text in fields.items()}

    assert said.pop("firing").count("Run: ") == 2
    assert said == {
        "class": "SessionHealthGapAge (and 1 more)",
        "component": "main/assessments",
        "group": "database=main, env=staging, job=session-health",
        "Runbook": RUNBOOK,
        "Dashboard": DASHBOARD,
        "Silence": SILENCE,
        "resolved": "",
    }


def test_links_of_pagerduty_are_never_empty(amtool: str, tmp_path: Path) -> None:
    """PagerDuty refuses an event with an empty link."""
    data = notification({**alert(), "annotations": {}})

    assert all(rendered(amtool, tmp_path, link["href"], data) for link in PAGERDUTY["links"])


def test_two_hundred_pipelines_are_told_within_seconds(amtool: str, tmp_path: Path) -> None:
    """The count of pipelines compares alerts with alerts."""
    names = ("GapAge", "GapRatio", "SessionsWithGap", "Unknown", "NoData")
    data = notification(*(alert(name, f"p{n}") for name in names for n in range(200)))

    assert rendered(amtool, tmp_path, SLACK["title"], data).startswith("[CRITICAL] main: 200 pipelines: ")
