"""A real Prometheus as a process, and what it answers."""

import http.client
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools import find_tool
from waiting import START_SECONDS, at_most, soon

Result = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    port: int
    log_file: Path

    def api(self, path: str, **parameters: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=at_most(10))
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def __call__(self, promql: str, *labels: str) -> Result:
        """The values of an instant query, by these labels."""
        found = self.api("query", query=promql)["result"]
        return {tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1]) for one in found}

    @property
    def is_ready(self) -> bool:
        try:
            return self("vector(1)") == {(): 1}
        except (OSError, ValueError):
            return False


@contextmanager
def running_prometheus(
    jobs: list[dict[str, Any]],
    suite: str | None = None,
    *,
    interval: str = "1s",
    rules: Iterable[Path] = (),
    alertmanager: str | None = None,
) -> Iterator[Prometheus]:
    """A real Prometheus; `suite` is Debian's that it comes from, None the machine's own.

    `alertmanager` is the address of whom it tells what fires.
    """
    program = find_tool("prometheus", suite)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="prometheus-") as name:
        folder = Path(name)
        told = [] if alertmanager is None else [{"static_configs": [{"targets": [alertmanager]}]}]
        settings = {
            "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), interval),
            "scrape_configs": jobs,
            "rule_files": [str(file) for file in rules],
            "alerting": {"alertmanagers": told},
        }
        (folder / "prometheus.yml").write_text(json.dumps(settings))
        arguments = (
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            # What fires before it has found Alertmanager would wait for a minute.
            "--rules.alert.resend-delay=2s",
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        try:
            prometheus = Prometheus(port, folder / "log")
            assert soon(lambda: prometheus.is_ready or process.poll() is not None, START_SECONDS)
            assert process.poll() is None, prometheus.log_file.read_text()
            yield prometheus
        finally:
            process.terminate()
            try:
                process.wait(at_most(5))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
