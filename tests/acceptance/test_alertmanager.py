"""Who is told what, by a real Alertmanager with the routes and inhibitions that we ship."""

import itertools
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from alertmanager import (
    SETTINGS,
    Alertmanager,
    Inbox,
    Labels,
    running_alertmanager,
    running_inbox,
    shipped_settings,
)
from tools import find_tool
from waiting import START_SECONDS, at_most, soon

pytestmark = pytest.mark.prometheus

_jobs = itertools.count(1)


def amtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(find_tool("amtool")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=at_most(START_SECONDS))


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with running_inbox() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def alertmanager(inbox: Inbox) -> Iterator[Alertmanager]:
    with running_alertmanager(shipped_settings(inbox.url)) as alertmanager:
        yield alertmanager


@pytest.fixture
def of() -> Labels:
    """The labels of a pipeline's alerts, of a job that no other test knows."""
    return {"job": f"session-health-{next(_jobs)}", "database": "main", "pipeline": "assessments"}


def alert(name: str, severity: str, labels: Mapping[str, str], **more: str) -> Labels:
    return {**labels, **more, "alertname": f"SessionHealth{name}", "severity": severity}


def job_of(labels: Labels) -> Labels:
    return {"job": labels["job"]}


def target_of(labels: Labels) -> Labels:
    return {"job": labels["job"], "instance": "exporter:10157"}


def tell_apart(alertmanager: Alertmanager, heard: list[Labels], muted: list[Labels]) -> None:
    """Post these and wait until exactly the latter are muted."""

    def found(*, is_muted: bool) -> list[list[tuple[str, str]]]:
        jobs = {labels["job"] for labels in heard + muted}
        posted = [one for one in alertmanager.alerts() if one["labels"]["job"] in jobs]
        return sorted(sorted(one["labels"].items()) for one in posted if bool(one["status"]["inhibitedBy"]) == is_muted)

    alertmanager.post(*heard, *muted)
    soon(lambda: len(found(is_muted=True)) >= len(muted))

    assert found(is_muted=True) == sorted(sorted(labels.items()) for labels in muted)
    assert found(is_muted=False) == sorted(sorted(labels.items()) for labels in heard)


def test_amtool_finds_nothing_wrong_with_the_file() -> None:
    done = amtool("check-config", str(SETTINGS))

    assert done.returncode == 0, done.stdout + done.stderr
    assert " - 1 templates" in done.stdout


def test_no_secret_stands_in_the_file() -> None:
    """Each is read from a file of its own."""

    def keys(value: Any) -> Iterator[str]:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield str(key)
            if isinstance(inner, dict | list):
                yield from keys(inner)

    found = set(keys(yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))))

    assert {"smtp_auth_password_file", "routing_key_file", "api_url_file", "credentials_file"} <= found
    assert not [key for key in found if key.endswith(("password", "secret", "token", "credentials", "_key", "api_url"))]


@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("pager", ("SessionHealthSessionsWithGap", "critical", "pipeline=assessments")),
        ("pager", ("SessionHealthGapAge", "critical", "pipeline=assessments")),
        ("pager", ("SessionHealthUnknown", "critical", "pipeline=assessments")),
        ("pager", ("SessionHealthExporterAbsent", "critical")),
        ("tickets", ("SessionHealthGapAge", "warning", "pipeline=assessments")),
        ("tickets", ("SessionHealthOutdatedSessions", "warning", "record=profiles")),
        ("tickets", ("SessionHealthTargetDown", "warning", "instance=exporter:10157")),
        ("nobody", ("SessionHealthNoData", "info", "pipeline=assessments")),
        ("dead-mans-switch", ("SessionHealthWatchdog", "none")),
        ("tickets", ("SessionHealthOfSomeNewSeverity", "page")),
        ("tickets", ("NodeFilesystemFull", "critical")),
        ("tickets", ("Watchdog", "none")),
    ],
)
def test_the_severity_alone_decides_who_is_told(receiver: str, labels: tuple[str, ...]) -> None:
    name, severity, *more = labels
    given = (f"alertname={name}", f"severity={severity}", "job=session-health", *more)

    done = amtool("config", "routes", "test", f"--config.file={SETTINGS}", f"--verify.receivers={receiver}", *given)

    assert done.returncode == 0, done.stdout


def test_amtool_would_speak_up_of_a_wrong_receiver() -> None:
    given = ("alertname=SessionHealthSessionsWithGap", "severity=warning")

    assert amtool(
        "config", "routes", "test", f"--config.file={SETTINGS}", "--verify.receivers=pager", *given
    ).returncode


def test_critical_mutes_the_warning_of_the_same_and_of_nothing_else(alertmanager: Alertmanager, of: Labels) -> None:
    tell_apart(
        alertmanager,
        heard=[
            alert("InvalidRecords", "critical", of, record="profiles"),
            alert("InvalidRecords", "warning", of, record="fc_scores"),
            alert("InvalidRecords", "warning", of | {"pipeline": "orders"}, record="profiles"),
            alert("InvalidRecords", "warning", of | {"database": "other"}, record="profiles"),
            alert("InvalidRecords", "warning", of, record="profiles", env="staging"),
            alert("InvalidRecords", "warning", of, record="profiles", cluster="east"),
            alert("InvalidRecords", "warning", of | {"job": f"{of['job']}-staging"}, record="profiles"),
            alert("OrphanedRecords", "warning", of, record="profiles"),
            alert("FailedChecks", "critical", of, check="finalized"),
            alert("FailedChecks", "warning", of, check="answered"),
        ],
        muted=[
            alert("InvalidRecords", "warning", of, record="profiles"),
            alert("InvalidRecords", "info", of, record="profiles"),
            alert("FailedChecks", "warning", of, check="finalized"),
        ],
    )


@pytest.mark.parametrize(
    ("heard", "muted"),
    [
        (("GapAge critical",), ("SessionsWithGap critical", "GapRatio critical", "GapAge warning", "GapRatio warning")),
        (("GapAge warning", "GapRatio critical"), ("SessionsWithGap warning", "GapRatio warning")),
        (("SessionsWithGap critical", "GapRatio critical"), ("GapAge warning", "GapRatio warning")),
        (("SessionsWithGap warning", "GapRatio warning"), ()),
    ],
)
def test_the_same_gaps_are_told_once_and_by_nothing_milder(
    alertmanager: Alertmanager, of: Labels, heard: tuple[str, ...], muted: tuple[str, ...]
) -> None:
    def of_each(words: tuple[str, ...]) -> list[Labels]:
        return [alert(name, severity, of) for name, severity in map(str.split, words)]

    others = [
        alert("GapRatio", "critical", of | {"pipeline": "orders"}),
        alert("SessionsWithGap", "warning", of | {"database": "other"}),
        alert("SessionsWithGap", "warning", of, env="staging"),
        alert("NewestRecordAge", "critical", of, record="profiles"),
        alert("OutdatedSessions", "warning", of, record="profiles"),
    ]
    tell_apart(alertmanager, heard=[*of_each(heard), *others], muted=of_each(muted))


def test_a_target_that_is_down_mutes_the_tickets_of_its_pipelines(alertmanager: Alertmanager, of: Labels) -> None:
    tell_apart(
        alertmanager,
        heard=[
            alert("TargetDown", "warning", target_of(of)),
            alert("PipelineAbsent", "critical", of),
            alert("PipelineAbsent", "warning", of, env="staging"),
            alert("SessionsWithGap", "critical", of),
            alert("ConfigReloadFailed", "warning", target_of(of)),
            alert("Watchdog", "none", job_of(of)),
            {**target_of(of), "alertname": "DiskFull", "severity": "warning"},
        ],
        muted=[alert("PipelineAbsent", "warning", of | {"pipeline": "orders"})],
    )


def test_an_absent_exporter_mutes_all_of_its_job_but_itself_and_the_watchdog(
    alertmanager: Alertmanager, of: Labels
) -> None:
    tell_apart(
        alertmanager,
        heard=[
            alert("ExporterAbsent", "critical", job_of(of)),
            alert("Watchdog", "none", job_of(of)),
            alert("SessionsWithGap", "critical", of | {"job": f"{of['job']}-staging"}),
            {**job_of(of), "alertname": "DiskFull", "severity": "warning"},
        ],
        muted=[
            alert("TargetDown", "warning", target_of(of)),
            alert("SessionsWithGap", "critical", of),
            alert("InvalidRecords", "warning", of, record="profiles"),
        ],
    )


def test_a_database_is_one_page_one_ticket_and_information_is_nobodys(
    alertmanager: Alertmanager, inbox: Inbox, of: Labels
) -> None:
    orders = of | {"pipeline": "orders"}
    alertmanager.post(
        alert("SessionsWithGap", "critical", of),
        alert("GapAge", "critical", of),
        alert("GapAge", "warning", of),
        alert("InvalidRecords", "warning", of, record="profiles"),
        alert("OrphanedRecords", "warning", of, record="fc_scores"),
        alert("SessionsWithGap", "critical", orders),
        alert("SessionsWithGap", "critical", orders, env="staging"),
        alert("NoData", "info", orders),
        alert("Watchdog", "none", job_of(of)),
    )

    def told() -> list[tuple[str, str, list[str]]]:
        return sorted(
            (
                one["receiver"],
                one["groupLabels"].get("database", ""),
                sorted(alert["labels"]["alertname"].removeprefix("SessionHealth") for alert in one["alerts"]),
            )
            for one in list(inbox.delivered)
            if one["groupLabels"]["job"] == of["job"]
        )

    expected = [
        ("dead-mans-switch", "", ["Watchdog"]),
        ("pager", "main", ["GapAge", "SessionsWithGap"]),
        ("pager", "main", ["SessionsWithGap"]),
        ("tickets", "main", ["InvalidRecords", "OrphanedRecords"]),
    ]
    soon(lambda: len(told()) >= len(expected))
    assert told() == expected
