"""A real Alertmanager as a process, with the routes that we ship, and a pager that keeps what is delivered."""

import http.client
import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from tools import find_tool
from waiting import START_SECONDS, at_most, soon

ALERTS = Path(__file__).parents[2] / "alerts"
SETTINGS = ALERTS / "alertmanager.yml"

WAIT = {"group_wait": "200ms", "group_interval": "500ms"}
"""What the shipped waits give way to, so that a test need not last for hours."""

Labels = dict[str, str]


@dataclass(frozen=True)
class Inbox:
    """Everything that was delivered, whoever was to receive it, in the order of arrival.

    Each is a webhook's payload: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    """

    url: str
    delivered: list[dict[str, Any]] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """The monotonic time of each."""

    def alerts(self, receiver: str, status: str = "firing") -> list[dict[str, Any]]:
        """The alerts that this receiver was told of, once for each time that it was."""
        told = [one for one in list(self.delivered) if one["receiver"] == receiver]
        return [alert for one in told for alert in one["alerts"] if alert["status"] == status]

    def names(self, receiver: str, status: str = "firing") -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.alerts(receiver, status)}


@contextmanager
def running_inbox() -> Iterator[Inbox]:
    """A web server on loopback that takes every notification."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            inbox.arrived.append(time.monotonic())
            inbox.delivered.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        inbox = Inbox(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield inbox
        finally:
            server.shutdown()
            thread.join()


def shipped_settings(inbox_url: str, faster: int | None = None) -> dict[str, Any]:
    """Our very routes and inhibitions: only whoever is told something is replaced, and the waits.

    With `faster` every wait is the shipped one divided by the number.
    """
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    del settings["global"]
    settings["templates"] = [str(ALERTS / name) for name in settings["templates"]]
    for receiver in settings["receivers"]:
        for kind in [key for key in receiver if key != "name"]:
            [one] = receiver.pop(kind)
            receiver["webhook_configs"] = [{"url": inbox_url, "send_resolved": one["send_resolved"]}]
    routes = [settings["route"]]
    for route in routes:
        route.update(
            WAIT if faster is None else {wait: _shorter(route[wait], faster) for wait in WAIT if wait in route}
        )
        routes += route.get("routes", [])
    return settings


def _shorter(wait: str, faster: int) -> str:
    seconds = float(wait[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[wait[-1]]
    return f"{round(1000 * seconds / faster)}ms"


@dataclass(frozen=True)
class Alertmanager:
    """A running one."""

    port: int
    log_file: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=at_most(10))
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, f"/api/v2/{path}", sent, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        assert response.status == 200, text
        return json.loads(text) if text else None

    def post(self, *alerts: Labels) -> None:
        """Let these fire, as a Prometheus would."""
        self.ask("POST", "alerts", [{"labels": labels} for labels in alerts])

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        """Those that have these labels, with their `status`."""
        return [one for one in self.ask("GET", "alerts") if labels.items() <= one["labels"].items()]

    @property
    def is_ready(self) -> bool:
        try:
            return bool(self.ask("GET", "status"))
        except OSError:
            return False


@contextmanager
def running_alertmanager(settings: dict[str, Any]) -> Iterator[Alertmanager]:
    """A real Alertmanager, alone."""
    program = find_tool("alertmanager")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="alertmanager-") as name:
        folder = Path(name)
        (folder / "alertmanager.yml").write_text(json.dumps(settings))
        arguments = (
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
        try:
            alertmanager = Alertmanager(port, folder / "log")
            assert soon(lambda: alertmanager.is_ready or process.poll() is not None, START_SECONDS)
            assert process.poll() is None, alertmanager.log_file.read_text()
            yield alertmanager
        finally:
            process.terminate()
            try:
                process.wait(at_most(5))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
