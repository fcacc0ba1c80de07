"""The SQL that is printed runs as it is printed, and does what it is printed for."""

import html
import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Database
from processes import ANY_PORT, Exporter, environment, open_folder, run
from waiting import START_SECONDS, soon

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
      stuck:
        where: |-
          not "record" -- of the session
        after: 1s
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
      sessions_with_gap: {warning: 0}
      orphaned_records: {warning: 0}
      unlinked_records: {warning: 0}
      duplicate_records: {warning: 0}
      detached_records: {warning: 0}
      drifted_records: {warning: 0}
      failed_checks: {warning: 0}
      stuck_sessions: {warning: 0}
"""
WHERE = ("", """where: |-\n          record.kept -- and not\n          and "Or`ders".kept""")
SPANS = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)")
BEGINS = ("alter ", "create ")


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
async def test_what_forbids_the_rows_is_printed_with_the_names_of_the_config(
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
        changes += [code for code in READ[form](document) if code.startswith(BEGINS)]
        assert len(changes) == (0 if where else 2 * (1 + [*documents].index(form)))
    await empty.execute(MENDED)
    for change in changes:
        await empty.execute(change)


@pytest.mark.parametrize("where", WHERE)
async def test_the_printed_command_of_a_count_lists_what_is_counted(empty: Database, where: str) -> None:
    await empty.execute(TABLES)
    with file_of(CONFIG.replace("WHERE", where)) as path:
        document = json.loads(of_reports(path, empty.dsn)["json"])
        [pipeline] = document["pipelines"]
        commands = {shlex.split(action["command"])[2]: action["command"] for action in pipeline["actions"]}
        listed = {
            name: [
                json.loads(line)
                for line in run(
                    *shlex.split(command)[1:], "--format", "ndjson", DATABASE_URL=empty.dsn
                ).stdout.splitlines()
            ]
            for name, command in commands.items()
            if shlex.split(command)[1] == "list"
        }

    assert {name: [row["session"]["Id"] for row in rows] for name, rows in listed.items()} == {
        "orphaned_records": ["nobody"] if where else ["nobody", "outside"],
        "unlinked_records": [None],
        "duplicate_records": ["a", "a"],
        "detached_records": ["c"],
        "drifted_records": ["b"],
        "failed_checks": ["b"],
        "stuck_sessions": ["b"],
    }


# --- What `config check --connect` says to type

VISITS = """
create table visits (id int primary key, status text, at timestamptz, done boolean);
create table scores (visit_id int, at timestamptz);
insert into visits select n, 'done', now() - interval '1 day', true from generate_series(1, 3) n;
insert into scores select n, now() from generate_series(1, 3) n;
"""
CHECKED = """
database: {url: "${DATABASE_URL}"}
pipelines:
  care:
    window: {last: 30d}
    sessions: {table: public.visits, key: id, status: status, started_at: at, completed_at: at, eligible: done}
    records: {scores: {table: public.scores, session_key: visit_id, created_at: at}}
    limits: {sessions_with_gap: {critical: 0}}
"""
ALL = "grant select on all tables in schema public to ROLE;"
HIDDEN = "alter table scores enable row level security;"
UNDER_A_VIEW = """
alter table scores rename to source; create role OTHER; grant usage, create on schema public to OTHER;
grant select on source to OTHER; set role OTHER; create view scores as select * from source; reset role;
"""
AN_EXPRESSION = ("eligible: done", "eligible: public.is_done(done)")
A_SUB_QUERY = ("eligible: done", "eligible: done and exists (select from public.flags)")
A_FUNCTION = "create function is_done(boolean) returns boolean language sql immutable as 'select $1';"


@dataclass(frozen=True)
class Case:
    """What is prepared; words of the one finding; which of the alternatives is typed; the config before and after."""

    prepare: str
    words: str
    alternative: int = 0
    config: tuple[tuple[str, str], ...] = ()
    then: tuple[tuple[str, str], ...] = ()


MORE = CHECKED.partition("pipelines:\n")[2].replace("care", "more")

CASES = {
    "a grant on a table": Case("grant select on visits to ROLE", 'the role may not read "public"."scores"'),
    "a grant on a schema": Case(
        ALL + 'create schema "Cl osed"; alter table scores set schema "Cl osed";',
        'the role may not read "Cl osed"."scores"',
        config=(("public.scores", """'"Cl osed".scores'"""),),
    ),
    "a grant on a schema that is searched": Case(
        ALL + "create schema closed; alter table scores set schema closed; alter role ROLE set search_path = public",
        "does not exist in the search path: write closed.scores",
        config=(("public.scores", "scores"),),
        then=(("scores: {table: scores", "scores: {table: closed.scores"),),
    ),
    "a grant to the owner of a view": Case(
        UNDER_A_VIEW + "revoke select on source from OTHER;" + ALL, "with the rights of a role that may not read it"
    ),
    "a grant on a function": Case(
        ALL + A_FUNCTION + "revoke execute on function is_done from public;",
        "permission denied for function is_done",
        config=(AN_EXPRESSION,),
    ),
    "a grant for a sub-query": Case(
        ALL + "create table flags ();", "permission denied for table flags", config=(A_SUB_QUERY,)
    ),
    "a policy on a sub-query": Case(
        "create table flags (); insert into flags default values; alter table flags enable row level security;" + ALL,
        "would be affected by row-level security",
        config=(A_SUB_QUERY,),
    ),
    "a policy on a sub-query, by a view": Case(
        "create table flags (); insert into flags default values; alter table flags enable row level security;" + ALL,
        "would be affected by row-level security",
        1,
        config=(A_SUB_QUERY,),
        then=(("public.flags", "public.every_flags"),),
    ),
    "a policy": Case(ALL + HIDDEN, "row-level security of"),
    "a policy, by a view": Case(
        ALL + HIDDEN, "row-level security of", 1, then=(("public.scores", "public.scores_for_health"),)
    ),
    "a policy under a view": Case(
        UNDER_A_VIEW + HIDDEN.replace("scores", "source") + ALL, "applies to the owner of the view"
    ),
    "a policy under a view, by its owner": Case(
        UNDER_A_VIEW + HIDDEN.replace("scores", "source") + ALL, "applies to the owner of the view", 1
    ),
    "a view that was never filled": Case(
        "alter table scores rename to source; create materialized view scores as select * from source with no data;"
        + ALL,
        "materialized view without data",
    ),
    "no unique index": Case(ALL + "alter table visits drop constraint visits_pkey;", "no unique index proves"),
    "no index for the window": Case(
        ALL + "insert into visits select n, 'old', '2001-01-01' from generate_series(4, 11000) n; analyze visits;",
        "no index begins with",
    ),
    "a path in which everybody may create": Case(
        ALL + "create schema open; grant usage, create on schema open to public;",
        "every role may CREATE in the schema open",
        config=(('DATABASE_URL}"', 'DATABASE_URL}", search_path: [open]'),),
    ),
    "a path in which a role may create": Case(
        ALL + "create role OTHER; create schema open; grant usage on schema open to ROLE; "
        "grant create on schema open to OTHER;",
        "may CREATE in the schema open",
        config=(('DATABASE_URL}"', 'DATABASE_URL}", search_path: [open]'),),
    ),
    "too few connections": Case(
        ALL + "alter role ROLE connection limit 1;",
        "raise the CONNECTION LIMIT",
        config=(("  care:", MORE + "  care:"),),
    ),
}


def findings_of(printed: str) -> dict[str, list[list[str]]]:
    """By finding the SQL below it, in alternatives that a comment begins."""
    found: dict[str, list[list[str]]] = {}
    below: list[list[str]] = [[]]
    for line in printed.splitlines():
        if re.match("  (error|note ) ", line):
            below = found.setdefault(line, [[]])
        elif line.startswith(" " * 9 + "--"):
            below.append([])
        elif line.startswith(" " * 9):
            below[-1].append(line.strip())
    return found


@pytest.mark.parametrize("name", CASES)
async def test_what_the_check_of_a_config_prints_ends_its_finding(empty: Database, name: str) -> None:
    case, number = CASES[name], await empty.connection.fetchval("select pg_backend_pid()")
    role, other = f'"Reader {number}"', f"other_{number}"
    await empty.execute(f"create role {role} login password 'pw'; {VISITS}")
    prepare = case.prepare.replace("ROLE", role).replace("OTHER", other)
    await empty.execute(prepare)
    user = empty.dsn.partition("//")[2].partition("@")[0]
    dsn = empty.dsn.replace(user, f"Reader%20{number}:pw", 1)
    text = CHECKED
    for old, new in case.config:
        assert old in text
        text = text.replace(old, new)

    def check(text: str) -> dict[str, list[list[str]]]:
        with file_of(text) as path:
            done = run("config", "check", "--connect", "--config.file", str(path), DATABASE_URL=dsn)
        assert done.stdout, done.stderr
        return findings_of(done.stdout)

    [(line, alternatives)] = [(line, sql) for line, sql in check(text).items() if case.words in line]
    for statement in alternatives[case.alternative]:
        await empty.execute(statement)
    for old, new in case.then:
        assert old in text
        text = text.replace(old, new)
    after = check(text)

    assert alternatives[case.alternative]
    assert "<role>" not in line
    assert not [told for told in after if case.words in told or told.startswith("  error")], after


WRITTEN = {
    "a key of another type": (
        "alter table visits alter id type char(10) using id::text",
        "session_key: visit_id",
        r"records\.scores\.session_key: .* write ({.*?})",
        "session_key: {}",
    ),
    "a function without its schema": (
        A_FUNCTION,
        "eligible: done",
        r"sessions\.eligible: .* write: (.*)",
        "eligible: '{}'",
    ),
    "a table of another schema": (
        "create schema other; alter table scores set schema other",
        "table: public.scores",
        r"records\.scores\.table: .* write (.*)",
        "table: {}",
    ),
    "a column of another name": (
        "alter table scores rename visit_id to visitid",
        "session_key: visit_id",
        r"session_key: .* did you mean (.*?)\?",
        "session_key: {}",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
async def test_what_it_says_to_write_ends_its_finding(empty: Database, name: str) -> None:
    change, key, pattern, as_written = WRITTEN[name]
    await empty.execute(f"{VISITS}; {change}")
    text = CHECKED.replace(key, "eligible: is_done(done)") if change == A_FUNCTION else CHECKED
    key = "eligible: is_done(done)" if change == A_FUNCTION else key

    def check(text: str) -> str:
        with file_of(text) as path:
            return run("config", "check", "--connect", "--config.file", str(path), DATABASE_URL=empty.dsn).stdout

    [said] = re.findall(pattern, check(text))
    after = check(text.replace(key, as_written.format(said)))

    assert not re.findall(pattern, after)
    assert "3 sessions analysed: 3 complete" in after, after
