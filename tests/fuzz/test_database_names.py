"""Whatever tables, columns, statuses and versions are called: the numbers are right, and each format stays valid."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, Final

import pytest
import yaml
from conftest import Database
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from markup import assert_well_formed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from readers import CANARY, EXAMPLES

from exporter.config.read import parse_config
from exporter.dimensions import DIMENSIONS
from exporter.measure.collect import collect
from exporter.measure.supervise import initial_status, measure
from exporter.model.sql import quote
from exporter.plan.plan import compile_plan
from exporter.present.exposition import page as metrics_page
from exporter.present.page.view import page as html_page
from exporter.present.page.view import report_as
from exporter.present.report.links import NO_LINKS
from exporter.state.board import Latest

FEW: Final = 60
"""Databases in `make test`."""

MARK: Final = "zqz"
"""In every name and value: in no log, and on the page only as text."""

SIGNS: Final = [
    *('"', '""', "'", "''", "\\", "\\\\", "\\n", "\n", "\r\n", "\t", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028"),
    *("\u202e", "\u2066", "\u200b", "\ufeff", "e\u0301", "ä", "\U0001f600", "%", "%s", "%(x)s", "%%", "{}", "{0}"),
    *("$1", "$$", "$a$", ":x", "?", "--", "/*", "*/", ";", ";--", "(", ")", "[", ",", ".", "a.b", " ", "  ", "::text"),
    *(
        "</script><script>alert(1)</script>",
        "<b>",
        "&amp;",
        "&#0;",
        "]]>",
        "<!--",
        "`",
        "|",
        "**",
        "[x](y)",
        "# HELP x",
    ),
    *(
        "} 1",
        '"} 1\nx 1',
        "NaN",
        "null",
        "<other>",
        "<null>",
        "\\<null>",
        "select",
        "user",
        "ctid",
        "session",
        "${HOME}",
    ),
]
"""Signs that some parser gives a meaning to."""

_any = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
texts = st.lists(st.sampled_from(SIGNS) | _any, max_size=5).map(lambda parts: MARK + "".join(parts))


def _cut(text: str) -> str:
    """PostgreSQL cuts a name after 63 bytes, before a broken character."""
    return text.encode()[:63].decode(errors="ignore")


# Some of just 63 bytes; `$` with a brace is a variable of the config.
names = (texts | texts.map(lambda text: text + "x" * 63)).map(_cut).filter(lambda name: "${" not in name)


@dataclass(frozen=True)
class World:
    """A schema, two tables and their columns, and the statuses and versions in the tables."""

    schema: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    statuses: tuple[str, ...]
    versions: tuple[str, ...]
    current: str

    def script(self) -> str:
        """SQL that makes the world; the values are in hex, so that no literal of the test decides."""
        schema, (sessions, records) = quote(self.schema), map(quote, self.tables)
        key, status, started, completed, owner, version = map(quote, self.columns)
        times = "now() - interval '2 h', now() - interval '1 h'"
        rows = ", ".join(f"({n}, {_text(value)}, {times})" for n, value in enumerate(self.statuses))
        made = ", ".join(f"({n}, {_text(value)})" for n, value in enumerate(self.versions))
        return f"""
        drop schema if exists {schema} cascade; create schema {schema};
        create table {schema}.{sessions}
          ({key} int primary key, {status} text, {started} timestamptz, {completed} timestamptz);
        create table {schema}.{records} ({owner} int, {version} text);
        insert into {schema}.{sessions} values {rows};
        insert into {schema}.{records} values {made};
        """

    def config(self) -> str:
        """The config of the world."""
        schema, (sessions, records) = quote(self.schema), map(quote, self.tables)
        key, status, started, completed, owner, version = (name.replace("$", "$$") for name in self.columns)
        tree: dict[str, Any] = {
            "database": {"url": "${DATABASE_URL}", "allow_superuser": True},
            "collection": {"max_label_values": 1000},
            "pipelines": {
                "hostile": {
                    "window": {"since": "2020-01-01"},
                    "sessions": {
                        "table": f"{schema}.{sessions}".replace("$", "$$"),
                        "key": key,
                        "status": status,
                        "started_at": started,
                        "completed_at": completed,
                        "eligible": f"session.{quote(self.columns[1])} <> {_text(CANARY)}".replace("$", "$$"),
                    },
                    "records": {
                        "scores": {
                            "table": f"{schema}.{records}".replace("$", "$$"),
                            "session_key": owner,
                            "version": {"column": version, "current": self.current.replace("$", "$$")},
                        }
                    },
                    "limits": {"sessions_with_gap": {"critical": 0}},
                }
            },
        }
        return str(yaml.safe_dump(tree, sort_keys=False))  # signs beyond ASCII as escapes


def _text(value: str) -> str:
    return f"pg_catalog.convert_from('\\x{value.encode().hex()}', 'UTF8')"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world with at least one session; the current version is one of the versions, or none of them."""
    versions = draw(st.lists(texts, min_size=1, max_size=6))
    of_sessions, of_records, tables = (
        tuple(draw(st.lists(names, min_size=number, max_size=number, unique=True))) for number in (4, 2, 2)
    )
    return World(
        draw(names),
        tables,
        (*of_sessions, *of_records),
        tuple(draw(st.lists(texts, min_size=1, max_size=8))),
        tuple(versions),
        draw(st.sampled_from(versions) | texts),
    )


class Elements(HTMLParser):
    """Raises for an element or an attribute that the page never has; <b> is the page's own."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "img", "iframe", "object"}
        assert not [name for name, _ in attrs if name.startswith("on") or MARK in name]


def labels_of(families: Any, metric: str, label: str) -> Counter[str]:
    """The numbers of a metric by one label."""
    found: Counter[str] = Counter()
    for family in families:
        for sample in family.samples:
            if sample.name == f"session_health_{metric}" and sample.value:
                found[sample.labels[label]] += int(sample.value)
    return found


def shown(values: Sequence[str]) -> Counter[str]:
    """The labels that the docs promise for texts: the first 256 characters; no text here is a reserved label."""
    return Counter(value[:256] for value in values)


async def look(database: Database, world: World) -> None:
    """Measure a world, and compare every output with what is in the world."""
    await database.execute(world.script())
    config = parse_config(world.config(), {"DATABASE_URL": database.dsn})
    plan = compile_plan(config, config.pipelines["hostile"], DIMENSIONS)
    collection = await measure(plan, collect)
    assert collection.fault is None, collection.fault
    assert collection.snapshot is not None
    assert collection.snapshot.record_faults == {}
    numbers = collection.snapshot.readings.numbers
    sessions = range(len(world.statuses))
    with_record = {n for n, version in enumerate(world.versions) if version == world.current and n in sessions}
    assert numbers["eligible_sessions", "complete"] == len(with_record)
    assert numbers["eligible_sessions", "gap"] == len(world.statuses) - len(with_record)
    assert numbers["orphaned_records", "scores"] == max(0, len(world.versions) - len(world.statuses))

    board = Latest([initial_status(plan, 300).after(collection, time.monotonic())], now=time.time()).board
    text, openmetrics = (metrics_page(board, frozenset(), openmetrics=form).decode() for form in (False, True))
    for families in (list(parse_text(text)), list(parse_openmetrics(openmetrics))):  # type: ignore[no-untyped-call]
        assert labels_of(families, "sessions", "status") == shown(world.statuses)
        assert labels_of(families, "records", "version") == shown(world.versions)
    for html in (
        html_page(board, NO_LINKS, clock=time.monotonic(), now=time.time(), is_paused=True),
        report_as("html", board, frozenset(), NO_LINKS),
    ):
        assert_well_formed(html)
        Elements().feed(html)


async def test_any_names_and_values_are_measured_and_shown_as_they_are(
    empty: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    runner = asyncio.get_running_loop()

    @settings(
        max_examples=EXAMPLES or FEW,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(worlds())
    def attempt(world: World) -> None:
        asyncio.run_coroutine_threadsafe(look(empty, world), runner).result()

    # In a thread: hypothesis is synchronous, and the connection belongs to this loop.
    await asyncio.to_thread(attempt)

    assert MARK not in caplog.text
