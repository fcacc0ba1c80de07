"""Whatever a status or a version holds: the page stays valid, Prometheus gets it back exactly, and no log shows it."""

import asyncio
import json
import os
import re
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from processes import ANY_PORT, OPENMETRICS, Exporter, Page, environment
from prometheus import Prometheus, running_prometheus
from tools import NEWER_SUITE, find_tool
from waiting import START_SECONDS, at_most, soon

from exporter.embedded import EmbeddedPostgres
from exporter.text.terminal import printable

MARK = "zzq"
"""In values that must not be seen where values do not belong."""

SIGNS = {
    "quotes": "\"'`",
    "backslash": "\\",
    "backslash, n": "\\n",
    "backslash, quote": '\\"',
    "newline": "\n",
    "carriage return": "\r",
    "both": "\r\n",
    "tab": "\t",
    "vertical tab, form feed": "\v\f",
    "separators of files, groups, records, units": "\x1c\x1d\x1e\x1f",
    "first control character": "\x01",
    "escape": "\x1b[31m",
    "delete": "\x7f",
    "next line": "\x85",
    "no-break space": "\xa0",
    "zero-width space": "\u200b",
    "joiners": "\u200c\u200d\u2060",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "byte order mark": "\ufeff",
    "replacement character": "\ufffd",
    "non-characters": "\ufdd0\uffff\U0010ffff",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "overrides": "\u202e\u2066\u2069\u202c",
    "lone combining mark": "\u0301",
    "composed and not": "\xe9e\u0301",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "astral": "\U0001d11e\U00020000",
    "braces": "{a='b', c=\"d\"}",
    "html": "</td></table><script>alert(1)</script>&amp;<!--",
    "shell and templates": "$(id) ${HOME} {{ .Value }} %s %(name)s",
}
"""Characters that some parser, terminal or page gives a meaning to."""

WORDS = ["NaN", "+Inf", "null", "NULL", "0", "# HELP x", "# EOF", "# TYPE x counter", "} 1", '"} 1\nx 1 #', " ", " a "]
"""Words that some format gives a meaning to."""

SHOWN = {
    None: "<null>",
    "": "<empty>",
    "<null>": "\\<null>",
    "<empty>": "\\<empty>",
    "<other>": "\\<other>",
    "\\<null>": "\\\\<null>",
    "x" * 300: "x" * 256,
    "x" * 1_000_000: "x" * 256,
    "\U0001f600" * 300: "\U0001f600" * 256,
    '"' * 300: '"' * 256,
    "a" * 255 + "e\u0301": "a" * 255 + "e",
}
"""The values whose label is another, as documented; that of every other one is the value itself."""

HOSTILE = [*SHOWN, *WORDS, *SIGNS.values(), *(f"{MARK}{sign}{MARK}" for sign in SIGNS.values())]
TIMES = {value: number % 4 + 1 for number, value in enumerate(HOSTILE)}
"""How many sessions have this status, and rows this version."""

CURRENT, ACCEPTED = f"{MARK}\n{MARK}", [f"{MARK}\"'`{MARK}", "x" * 300, f"{MARK}\u2028{MARK}"]
LIMIT = 200
DISTINCT = 2000
BIG_ROWS = 200
BIG_PART = "b" * 300

LONG = "0123456789-_-9876543210_abcdefghij-ABCDE"
PIPELINE, FLOOD, BIG, RAISING = LONG, "-", "_", "0"
DIRECT, RELAYED = LONG[::-1], "-_"
RECORD = "9" * 40
WIRE_BYTES = 40_000
MEMORY_BYTES = 30_000_000


def expected() -> dict[str, float]:
    """The number for each label of the hostile tables."""
    counts: Counter[str] = Counter()
    for value, times in TIMES.items():
        counts[SHOWN.get(value, value or "")] += times
    return {label: float(count) for label, count in counts.items()}


def pipeline(prefix: str, database: str, **record: str) -> dict[str, Any]:
    return {
        "database": database,
        "window": {"since": "2020-01-01"},
        "sessions": {
            "table": f"{prefix}_sessions",
            "key": "id",
            "status": "status",
            "started_at": "started",
            "completed_at": "completed",
            "eligible": "true",
        },
        "records": {
            RECORD: {
                "table": f"{prefix}_records",
                "session_key": "id",
                "version": {"column": "version", "current": CURRENT, "accepted": ACCEPTED},
                "satisfied_by": "any_version",
                **record,
            }
        },
    }


def trusted(url: str) -> dict[str, Any]:
    return {"url": url, "allow_superuser": True}


def config(dsn: str, relayed: str) -> dict[str, Any]:
    return {
        "databases": {DIRECT: trusted(dsn), RELAYED: trusted(relayed)},
        "collection": {"interval": "300ms", "duty": 0.5, "max_age": "1m", "max_label_values": LIMIT},
        "pipelines": {
            PIPELINE: pipeline("hostile", DIRECT),
            FLOOD: pipeline("flood", DIRECT),
            BIG: pipeline("big", RELAYED),
            # The server's complaint quotes the value.
            RAISING: pipeline(
                "hostile", DIRECT, valid="case when starts_with(version, 'zz') then version::int > 0 end"
            ),
        },
    }


TABLES = """
create table {0}_sessions (id bigint primary key, status text, started timestamptz, completed timestamptz);
create table {0}_records (id bigint, version text);
"""
INSERT = """
with v as (select row_number() over () + $3 as id, value from unnest($1::text[], $2::int[]) u(value, times),
                  generate_series(1, times)),
     s as (insert into {0}_sessions select id, value, now() - interval '1 hour', now() - interval '1 hour' from v)
insert into {0}_records select id, value from v
"""


async def insert(connection: asyncpg.Connection, prefix: str, times: dict[str | None, int], first: int = 0) -> None:
    await connection.execute(INSERT.format(prefix), list(times), list(times.values()), first)


class Wire:
    """Stands between the exporter and the server, and counts what the server says on each connection."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.received: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(self.server)
            self.received.append(0)
            place = len(self.received) - 1
            threading.Thread(target=self._copy, args=(client, upstream, None), daemon=True).start()
            threading.Thread(target=self._copy, args=(upstream, client, place), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, place: int | None) -> None:
        with source:
            try:
                while data := source.recv(65536):
                    if place is not None:
                        self.received[place] += len(data)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass


@dataclass
class Front:
    """Passes scrapes on and remembers them; /text asks in text for whoever cannot be told to."""

    exporter: Exporter
    scrapes: set[tuple[str, str, str]] = field(default_factory=set)
    """Path, the first media type that was asked for, and the one of the answer."""
    port: int = 0

    @contextmanager
    def running(self) -> Iterator["Front"]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                accept = self.headers["Accept"]
                headers = {} if self.path == "/text" else {"accept": accept}
                answer = front.exporter.get("/metrics", **headers)
                kind = answer.headers["content-type"]
                front.scrapes.add((self.path, accept.partition(";")[0], kind.partition(";")[0]))
                self.send_response(answer.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@dataclass(frozen=True)
class Scene:
    """An exporter on a database full of hostile values."""

    exporter: Exporter
    wire: Wire
    memory: int
    """What the exporter took at most before the megabytes came, in bytes."""


def most_memory(exporter: Exporter) -> int:
    """The most that a process ever held, in bytes, where the system tells; else what it holds now."""
    status = Path(f"/proc/{exporter.process.pid}/status")
    if status.exists() and (most := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(most[1]) * 1024
    command = ["ps", "-o", "rss=", "-p", str(exporter.process.pid)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024


@pytest.fixture(scope="module")
def scene(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    name = f"hostile_{os.getpid()}"

    async def make() -> None:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"create database {name} encoding 'UTF8' locale 'C' template template0")
        await connection.close()
        connection = await asyncpg.connect(server.dsn(name))
        for prefix in ("hostile", "flood", "big"):
            await connection.execute(TABLES.format(prefix))
        await insert(connection, "hostile", TIMES)
        flood: dict[str | None, int] = {f"{MARK}\n{n}": n % 3 + 1 for n in range(DISTINCT)}
        await insert(connection, "flood", flood | {"<other>": 40, None: 1})
        await connection.close()

    async def fill() -> None:
        connection = await asyncpg.connect(server.dsn(name))
        await connection.execute(
            "insert into big_sessions select n, $1 || repeat('c', 1000000) || n, now() - interval '1 hour', now() "
            f"from generate_series(1, {BIG_ROWS}) n",
            BIG_PART,
        )
        await connection.execute("insert into big_records select id, status from big_sessions")
        await connection.close()

    async def drop() -> None:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"drop database {name} with (force)")
        await connection.close()

    asyncio.run(make())
    with ExitStack() as stack:
        stack.callback(lambda: asyncio.run(drop()))
        dsn = server.dsn(name)
        wire = Wire(server.host, server.port)
        stack.callback(wire.close)
        url = urlsplit(dsn)
        relayed = url._replace(netloc=f"{url.netloc.rpartition('@')[0]}@127.0.0.1:{wire.port}").geturl()
        path = tmp_path_factory.mktemp("hostile") / "config.yaml"
        path.write_text(json.dumps(config(dsn, relayed)))
        arguments = ("serve", "--config.file", str(path), "--log.level", "debug", *ANY_PORT)
        exporter = stack.enter_context(Exporter(*arguments, environ=environment()))

        def collections(pipeline: str) -> float:
            return exporter.page().total("collections_total", pipeline=pipeline)

        def several_more(pipeline: str) -> bool:
            before = collections(pipeline)
            return soon(lambda: collections(pipeline) > before + 2, START_SECONDS)

        assert all(several_more(one) for one in (PIPELINE, FLOOD, BIG, RAISING))
        memory = most_memory(exporter)
        asyncio.run(fill())
        assert several_more(BIG)
        yield Scene(exporter, wire, memory)


def test_the_page_says_exactly_what_is_in_the_database_in_both_formats(scene: Scene) -> None:
    text = scene.exporter.page()
    openmetrics = Page(scene.exporter.get("/metrics", accept=OPENMETRICS).text, openmetrics=True)

    for page in (text, openmetrics):
        for metric, label in (("sessions", "status"), ("records", "version"), ("record_version_sessions", "version")):
            assert family(page, metric, label) == expected()
        assert page.total("records", pipeline=PIPELINE, **{"class": "current"}) == TIMES[CURRENT]
        assert page.total("records", pipeline=PIPELINE, **{"class": "accepted"}) == sum(TIMES[v] for v in ACCEPTED)
        assert page("record_up", pipeline=PIPELINE, database=DIRECT, record=RECORD) == 1


def family(page: Page, metric: str, label: str) -> dict[str, float]:
    """The numbers of the hostile tables by one label, whatever the others."""
    numbers: dict[str, float] = {}
    for (name, labels), value in page.series.items():
        own = dict(labels)
        if name == f"session_health_{metric}" and own["pipeline"] == PIPELINE and value:
            numbers[own[label]] = numbers.get(own[label], 0) + value
    return numbers


@pytest.mark.parametrize("suite", [None, NEWER_SUITE])
@pytest.mark.prometheus
def test_promtool_has_nothing_to_say(scene: Scene, suite: str | None) -> None:
    command = [str(find_tool("promtool", suite)), "check", "metrics"]
    page = scene.exporter.get("/metrics").text.encode()
    done = subprocess.run(command, input=page, capture_output=True, check=False, timeout=at_most(START_SECONDS))

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("metric", "count"), [("sessions", "sessions"), ("records", "records"), ("record_version_sessions", "records")]
)
def test_what_exceeds_the_limit_is_in_other_and_the_sum_is_the_count(scene: Scene, metric: str, count: str) -> None:
    page = scene.exporter.page()
    label = "status" if count == "sessions" else "version"
    shown = [dict(labels) for name, labels in page.series if name == f"session_health_{metric}"]
    values = {labels[label] for labels in shown if labels["pipeline"] == FLOOD}

    assert page.total(metric, pipeline=FLOOD) == sum(n % 3 + 1 for n in range(DISTINCT)) + 41
    # The platform's own "<other>" is frequent enough to be kept, and is not ours.
    assert page.total(metric, pipeline=FLOOD, **{label: "\\<other>"}) == 40
    assert page.total(metric, pipeline=FLOOD, **{label: "<other>"}) > DISTINCT
    assert len(values - {"<other>"}) == LIMIT


@dataclass(frozen=True)
class Asked:
    """A Prometheus that has scraped the exporter in every format that it can be brought to."""

    prometheus: Prometheus
    jobs: dict[str, str]
    """The media type of each job."""
    scrapes: set[tuple[str, str, str]]


@pytest.fixture(scope="module", params=[None, NEWER_SUITE])
def asked(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Asked]:
    suite: str | None = request.param
    find_tool("prometheus", suite)
    jobs = {"negotiated": "application/openmetrics-text", "text": "text/plain"}
    with ExitStack() as stack:
        front = stack.enter_context(Front(scene.exporter).running())
        target = [{"targets": [f"127.0.0.1:{front.port}"]}]
        settings: list[dict[str, Any]] = [
            {"job_name": "negotiated", "static_configs": target},
            {"job_name": "text", "static_configs": target, "metrics_path": "/text"},
        ]
        if suite is not None:
            jobs["text by choice"] = "text/plain"
            protocols = ["PrometheusText0.0.4"]
            settings.append({"job_name": "text by choice", "static_configs": target, "scrape_protocols": protocols})
        prometheus = stack.enter_context(running_prometheus(settings, suite))
        assert soon(lambda: len(prometheus("up", "job")) == len(jobs), START_SECONDS)
        yield Asked(prometheus, jobs, front.scrapes)


@pytest.mark.prometheus
def test_prometheus_gets_every_value_back_with_its_number(asked: Asked) -> None:
    for job in asked.jobs:
        own = f'job="{job}", pipeline="{PIPELINE}", database="{DIRECT}"'
        by_label = {(label,): number for label, number in expected().items()}
        assert asked.prometheus(f"session_health_sessions{{{own}}}", "status") == by_label
        versions = asked.prometheus(f"sum by (version) (session_health_records{{{own}}}) > 0", "version")
        assert versions == by_label
        series = asked.prometheus.api("series", **{"match[]": f"session_health_sessions{{{own}}}"})
        assert Counter(labels["status"] for labels in series) == Counter(list(expected()))
        assert asked.prometheus(f"sum(session_health_sessions{{job='{job}', pipeline='{FLOOD}'}})") == {
            (): sum(n % 3 + 1 for n in range(DISTINCT)) + 41
        }


@pytest.mark.prometheus
def test_every_value_can_be_asked_for_by_itself(asked: Asked) -> None:
    found: dict[tuple[str, ...], float] = {}
    for label in expected():
        quoted = "".join(f"\\U{ord(sign):08x}" for sign in label)
        own = f'job="negotiated", pipeline="{PIPELINE}", status="{quoted}"'
        found |= asked.prometheus(f"session_health_sessions{{{own}}}", "status")

    assert found == {(label,): number for label, number in expected().items()}


@pytest.mark.prometheus
def test_every_scrape_succeeds_in_the_format_that_was_negotiated(asked: Asked) -> None:
    targets = asked.prometheus.api("targets", state="active")["activeTargets"]
    assert {(t["labels"]["job"], t["health"], t["lastError"]) for t in targets} == {
        (job, "up", "") for job in asked.jobs
    }
    assert asked.prometheus("up", "job") == {(job,): 1 for job in asked.jobs}
    assert asked.prometheus("scrape_samples_scraped != scrape_samples_post_metric_relabeling") == {}
    assert {(path, kind) for path, _, kind in asked.scrapes} >= {
        ("/metrics", "application/openmetrics-text"),
        ("/text", "text/plain"),
    }
    by_choice = ("/metrics", "text/plain", "text/plain") in asked.scrapes
    assert by_choice == ("text by choice" in asked.jobs)
    log = asked.prometheus.log_file.read_text().lower()
    assert "starting" in log
    wrong = ("level=error", "duplicate", "out of order", "out-of-order")
    lines = [line for line in log.splitlines() if any(part in line for part in wrong)]
    assert [*lines, *(line for line in log.splitlines() if "level=warn" in line and "scrape" in line)] == []


def test_no_log_shows_a_value_not_even_when_the_server_quotes_it(scene: Scene) -> None:
    assert scene.exporter.page()("record_up", pipeline=RAISING, record=RECORD) == 0
    log = scene.exporter.log

    assert scene.exporter.events("collection.failing", f"pipeline={RAISING} ", "reason=type")
    assert MARK not in log
    assert [sign for sign in log if not (sign == "\n" or " " <= sign <= "~" or sign == "…")] == []
    assert "bbbb" not in log
    assert max(map(len, log.splitlines())) < 1000


def test_a_megabyte_never_crosses_the_wire_and_is_never_held(scene: Scene) -> None:
    assert scene.exporter.page()("sessions", pipeline=BIG, database=RELAYED, status=BIG_PART[:256]) == BIG_ROWS
    assert most_memory(scene.exporter) - scene.memory < MEMORY_BYTES
    assert 1000 < max(scene.wire.received) < WIRE_BYTES


class Outline(HTMLParser):
    """The tags of a page, and the text that is read of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("path", ["/", "/report.html"])
def test_for_people_every_value_is_text_and_nothing_else(scene: Scene, path: str) -> None:
    answer = scene.exporter.get(path)
    outline = Outline(answer.text)

    assert answer.status == 200
    for label in expected():
        assert f"Sessions with the status {printable(label)}\n" in outline.text
    assert not {"script", "img", "iframe", "object"} & set(outline.tags)
    assert outline.tags.count("style") == outline.tags.count("h1") == outline.tags.count("main") == 1
    assert outline.tags.count("article") == 4, "one for each pipeline"
    assert [sign for sign in answer.text if not (sign == "\n" or sign.isprintable())] == []
