"""compose.yaml and Grafana's provisioning, without a container engine: that they fit each other and the checkout.

Nobody but a real engine can tell whether the images can be had and start.
"""

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tools import NEWER_SUITE, find_tool
from waiting import at_most

from exporter.cli import build_parser
from exporter.serve.listen import DEFAULT_ADDRESS

ROOT = Path(__file__).parents[1]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


SERVICES: dict[str, dict[str, Any]] = read("compose.yaml")["services"]
PROMETHEUS = read("alerts/prometheus.yml")
[DATASOURCE] = read("grafana/provisioning/datasources/session-health.yaml")["datasources"]
[PROVIDER] = read("grafana/provisioning/dashboards/session-health.yaml")["providers"]


def mounts(service: str) -> dict[str, Path]:
    """Where in the container which file or folder of the checkout is to be seen."""
    volumes = [volume.split(":") for volume in SERVICES[service].get("volumes", [])]
    assert all(mode == ["ro"] for _, _, *mode in volumes)
    return {target: ROOT / source for source, target, *_ in volumes}


def listening() -> set[str]:
    """Host and port of everything that has a port, as the others reach it."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    return {f"{name}:{port.split(':')[-1]}" for name, published in ports.items() for port in published}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_pinned_sealed_and_reached_from_this_machine_alone(service: str) -> None:
    settings = SERVICES[service]

    assert "build" in settings or re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", settings["image"])
    assert settings["read_only"] is True
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in settings.get("ports", []))
    assert settings.get("cap_drop") == ["ALL"] or service == "database"
    # The exporter's is part of its image.
    assert "healthcheck" in settings or service == "exporter"


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_mounts_is_there(service: str) -> None:
    assert [str(source) for source in mounts(service).values() if not source.exists()] == []


def test_whoever_is_asked_by_name_listens() -> None:
    [scrape], [alertmanager] = PROMETHEUS["scrape_configs"], PROMETHEUS["alerting"]["alertmanagers"]
    targets = [
        target for where in (scrape, alertmanager) for one in where["static_configs"] for target in one["targets"]
    ]

    assert {*targets, urlsplit(DATASOURCE["url"]).netloc} == listening() - {"grafana:3000"}
    assert f"exporter{DEFAULT_ADDRESS}" in targets


def test_the_files_that_a_service_reads_are_mounted() -> None:
    for service, named in (
        ("prometheus", PROMETHEUS["rule_files"]),
        ("alertmanager", read("alerts/alertmanager.yml")["templates"]),
    ):
        [config] = [
            word.partition("=")[2] for word in SERVICES[service]["command"] if word.startswith("--config.file=")
        ]
        assert {config, *(str(Path(config).with_name(name)) for name in named)} == mounts(service).keys()


def test_grafana_finds_its_dashboards_and_begins_with_one() -> None:
    mounted = mounts("grafana")
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])

    assert mounted[PROVIDER["options"]["path"]] == ROOT / "grafana" / "dashboards"
    assert (mounted[str(home.parent)] / home.name).is_file()


def test_rates_are_taken_over_the_interval_of_scraping() -> None:
    assert DATASOURCE["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_the_exporters_command_is_one_of_ours() -> None:
    words = [word.replace("${SCENARIO:-backfill}", "backfill") for word in SERVICES["exporter"]["command"]]

    options = build_parser().parse_args(words)

    assert (options.scenario, options.live) == ("backfill", True)
    # A demo's default is loopback, which no other container reaches.
    assert [str(address) for address in options.addresses] == [DEFAULT_ADDRESS]


@pytest.mark.prometheus
@pytest.mark.parametrize("suite", [None, NEWER_SUITE])
def test_promtool_finds_nothing_wrong_with_the_settings_of_prometheus(suite: str | None) -> None:
    command = [
        str(find_tool("promtool", suite)),
        "check",
        "config",
        "--lint-fatal",
        str(ROOT / "alerts/prometheus.yml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=at_most(20))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
