"""The SQL that is printed runs as it is printed, and does what it is printed for."""

import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Database
from processes import ANY_PORT, START_SECONDS, Exporter, environment, open_folder, run, soon

TABLES = """
create schema "Sh op"; create schema two; create domain two.key_text as varchar(20);
create table "Sh op"."Or`ders" (
  "Id" char(8), part int, state text, at timestamptz default now() - interval '2 days', "record" boolean,
  gone boolean default false, primary key ("Id", part)
);
create table two."Or`ders" (
  "order Id" two.key_text, part bigint, "ver" text, made timestamptz default now(), kept boolean default true
);
insert into "Sh op"."Or`ders" ("Id", part, state, "record", gone) values
  ('a', 1, 'it''s', true, false), ('b', 1, 'it''s', false, false), ('c', 1, 'it''s', true, true);
insert into two."Or`ders" ("order Id", part, ver, kept) values
  ('a', 1, 'v2', true), ('a', 1, 'v2', true), ('b', 1, 'v1', true), ('c', 1, 'v2', true), ('nobody', 1, 'v2', true),
  (null, 1, 'v2', true), ('outside', 1, 'v2', false);
"""
MENDED = """
delete from two."Or`ders" where "order Id" is null or "order Id" = 'outside';
delete from two."Or`ders" t where exists (
  select from two."Or`ders" o where o."order Id" = t."order Id" and o.ctid < t.ctid
)
"""

CONFIG = """
database: {url: "${DATABASE_URL}", allow_superuser: true}
pipelines:
  shop:
    window: {last: 30d}
    sessions:
      table: '"Sh op"."Or`ders"'
      key: [Id, part]
      status: state
      started_at: at
      completed_at: at
      eligible: state = 'it''s' -- always
      deleted: session.gone /* softly */
      checks:
        flagged: |-
          "record" -- of the session
          is not false
    records:
      scores:
        table: 'two."Or`ders"'
        session_key: ["order Id", part]
        created_at: made
        WHERE
        version: {column: ver, current: v2, current_since: 2020-01-01}
        unique: ["order Id", part]
    limits:
      gap_sessions: {warning: 0}
      orphaned_records: {warning: 0}
      unlinked_records: {warning: 0}
      duplicate_records: {warning: 0}
      detached_records: {warning: 0}
      drifted_records: {warning: 0}
      failed_checks: {warning: 0}
"""
WHERE = ("", """where: |-\n          record.kept -- and not\n          and "Or`ders".kept""")
SPANS = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)")
BEGINS = ("select ", "alter ", "create ")


def in_markdown(text: str) -> list[str]:
    """What is in code spans, as CommonMark has them."""
    return [code[1:-1] if code[0] == code[-1] == " " else code for _, code in SPANS.findall(text)]


def in_html(text: str) -> list[str]:
    return [html.unescape(code) for code in re.findall(r"<code>([^<]+)</code>", text)]


def in_json(text: str) -> list[str]:
    actions = [action for pipeline in json.loads(text)["pipelines"] for action in pipeline["actions"]]
    return [code for action in actions for step in action["steps"] for code in in_markdown(step)]


READ = {"markdown": in_markdown, "html": in_html, "json": in_json}
Printed = Callable[[Path, str], dict[str, str]]


def of_reports(path: Path, dsn: str) -> dict[str, str]:
    arguments = ("report", "--config.file", str(path), "--format")
    return {form: run(*arguments, form, DATABASE_URL=dsn).stdout for form in READ}


def of_the_page(path: Path, dsn: str) -> dict[str, str]:
    arguments = ("serve", *ANY_PORT, "--config.file", str(path))
    with Exporter(*arguments, environ=environment(DATABASE_URL=dsn)) as exporter:
        assert soon(lambda: exporter.get("/-/ready").status == 200, START_SECONDS)
        return {"html": exporter.get("/").text}


@contextmanager
def file_of(text: str) -> Iterator[Path]:
    with open_folder() as folder:
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        yield folder / "config.yaml"


@pytest.mark.parametrize(
    ("printed", "where", "is_bare"),
    [(of_reports, WHERE[0], True), (of_reports, WHERE[1], False), (of_the_page, WHERE[0], False)],
)
async def test_what_mends_a_broken_limit_is_printed_with_the_names_of_the_config(
    empty: Database, printed: Printed, where: str, *, is_bare: bool
) -> None:
    await empty.execute(TABLES)
    text = CONFIG.replace("WHERE", where)
    if is_bare:
        await empty.set("search_path", 'nowhere, "Sh op"')
        text = text.replace("""'"Sh op"."Or`ders"'""", """'"Or`ders"'""")
    with file_of(text) as path:
        documents = printed(path, empty.dsn)
    await empty.execute("set search_path = pg_catalog")
    changes: list[str] = []

    for form, document in documents.items():
        sql = [code for code in READ[form](document) if code.startswith(BEGINS)]
        queries = [code for code in sql if code.startswith("select ")]
        found = {query: [tuple(row) for row in await empty.connection.fetch(query)] for query in queries}

        assert len(queries) == 6, sql
        assert all(found.values()), found
        assert not [row for rows in found.values() for row in rows if "outside" in row and "kept" in where]
        changes += [code for code in sql if code not in queries]
        assert len(changes) == (0 if where else 2 * (1 + [*documents].index(form)))
    await empty.execute(MENDED)
    for change in changes:
        await empty.execute(change)


@pytest.mark.parametrize("where", WHERE)
async def test_what_is_printed_to_list_them_lists_as_many_as_are_counted(empty: Database, where: str) -> None:
    await empty.execute(TABLES)
    with file_of(CONFIG.replace("WHERE", where)) as path:
        document = json.loads(of_reports(path, empty.dsn)["json"])
    [pipeline] = document["pipelines"]
    listed = {}
    for action in pipeline["actions"]:
        for code in in_json(json.dumps({"pipelines": [{"actions": [action]}]})):
            if code.startswith("select "):
                listed[action["what"].partition(":")[0]] = await empty.connection.fetch(code)

    orphans = 1 + ("kept" not in where)
    assert sum(row["count"] for row in listed["Rows whose session does not exist (scores)"]) == orphans
    assert len(listed["Rows whose session key is NULL (scores)"]) == 1
    assert [row["count"] for row in listed["Rows in excess of one for each unique key (scores)"]] == [2]
    assert len(listed["Rows whose session was deleted softly (scores)"]) == 1
    assert [row["Id"].strip() for row in listed["Sessions that fail a check (flagged)"]] == ["b"]
