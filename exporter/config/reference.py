"""The JSON Schema of a config -> the reference page: every key of every section, for people."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_TOP: Final = {
    "database": "How to connect, for a config with one database.",
    "databases": "A name of your choice for each database, then how to connect.",
    "collection": "When to collect, and how many values to keep.",
    "pipelines": "A name of your choice for each pipeline, then its sessions and records.",
}
_SECTIONS: Final = {
    "Database": "`database`, `databases.NAME`",
    "CollectionSettings": "`collection`",
    "Pipeline": "`pipelines.NAME`",
    "Window": "`pipelines.NAME.window`",
    "Sessions": "`pipelines.NAME.sessions`",
    "Check": "`pipelines.NAME.sessions.checks.NAME`",
    "Segment": "`pipelines.NAME.sessions.segment`",
    "Stuck": "`pipelines.NAME.sessions.stuck`",
    "Record": "`pipelines.NAME.records.NAME`",
    "KeyPart": "`pipelines.NAME.records.NAME.session_key`",
    "RowCount": "`pipelines.NAME.records.NAME.rows`",
    "Version": "`pipelines.NAME.records.NAME.version`",
    "Cohort": "`pipelines.NAME.cohort`",
    "Limits": "`pipelines.NAME.limits`",
    "CountThresholds": "`pipelines.NAME.limits.NAME`, a limit on a count",
    "RatioThresholds": "`pipelines.NAME.limits.NAME`, a limit on a share",
    "AgeThresholds": "`pipelines.NAME.limits.NAME`, a limit on a duration",
}
"""Every section of the schema and its place in a file, from the top of the file down."""

_INTRODUCTION: Final = """
Every key of the config.  The commented example is [config.yaml](../config.yaml); an editor completes and checks
keys with [config.schema.json](config.schema.json).  `config check` lists every mistake of a file at once, and
`config check --connect` asks the databases too.

- A duration is a number with a unit: `30s`, `5m`, `1h30m`, `90d`.
- SQL is an expression over the table of the section.  The row is called `session` (`record` in `valid` and `where` of
  a record).
- `${NAME}` takes the value of a variable of the environment, `${NAME:-default}` with a default.
- Quote a text if YAML reads the text as a number: `current: "3"`.

## Add a record table

A table `invoices` with a text column `order_id`, for sessions with a uuid as key, and with 3 as the current version:

```yaml
      invoices:
        table: public.invoices
        session_key: {column: order_id, cast: uuid}
        version: {column: schema_version, current: "3"}
        created_at: created_at
```

1. Grant `select` on the table to the role of the exporter.
2. Run `config check --connect --config.file FILE`: the command names missing columns, key types that do not compare,
   and a failed cast.
3. Run `gaps --record invoices --count --config.file FILE`: every eligible session without a row is a gap from the
   first collection on.  Backfill first, or select the sessions with `required_when`.
4. Reload the exporter (SIGHUP).  Rules and dashboards need no change.

## Add a condition in place of a table

Where no column points at the session, a condition over the sessions table says which sessions have the record:

```yaml
      scored:         # the session points at its record
        exists: exists (select 1 from public.scores s where s.id = session.score_id)
      settled:        # one of two tables
        exists: >-
          exists (select 1 from public.payments p where p.order_id = session.id)
          or exists (select 1 from public.vouchers v where v.order_id = session.id)
      undisputed:     # what must not be there
        exists: not exists (select 1 from public.disputes d where d.order_id = session.id)
      balanced:       # sums that agree
        exists: (select sum(p.amount) from public.payments p where p.order_id = session.id) = session.total
        grace: 1h
```

- A session without the record is `missing`: a gap after `grace`, in `gaps`, worklists, limits and alerts as any gap.
- `required_when` and `grace` apply.  Keys about rows (`created_at`, `version`, `valid`, `where`, `unique` …) do not,
  and the metrics and lines about rows are absent: there is no row to count.  For delays and versions, name a table.
- NULL is false: `sum(…)` of no row is NULL.
- The server computes the condition for each session of the window: give the sub-query an index (`payments (order_id)`).

## Read a record from another database

Sessions in one PostgreSQL, records in another: `database` of a record names a section of `databases`.

```yaml
databases:
  shop: {url: "${SHOP_URL}"}
  warehouse: {url: "${WAREHOUSE_URL}"}
pipelines:
  orders:
    database: shop
    records:
      parcels: {database: warehouse, table: stock.parcels, session_key: order_id}
```

- The exporter reads the rows of the record first, in a snapshot of the other database, and hands the named columns to
  the server of the sessions, which compares the keys.  Nothing is written to either database.
- The grace period of the record grows by the time between the two snapshots (and by the lag of the other database, if
  a replica), so that a row is not missing if session and row complete in between.  The report names the time, and marks
  each line.  Two changes in between are wrong for one round: a session that appears with an older completion together
  with its row is a gap, and a row whose session is deleted after the row is an orphan.  Alerts wait longer than a
  round; for `check`, set a threshold above 0 where such changes are common.
- Each database has its own role: `GRANT SELECT` on the sessions in one, on the record in the other.
- SQL of the record (`where`, `valid`, `computed`) runs in the other database; SQL of the sessions (also
  `required_when`) and `cast` run in the first.  With `cast: uuid`, one text that is no uuid stops the record;
  `cast: text` compares texts, and the row counts as orphaned.
- At most 2 million rows, about 65 bytes of the exporter's memory for each: let `where` leave out rows older than the
  window.  A pipeline with such a record is always measured in full, never in slices.
- A column of an enum, or of a type without equality (json), is compared as text.  A type of an extension (citext) needs
  a `computed` text.
- If the sessions come from a replica, a row can be newer than the replica: orphaned rows may be counted for its lag.
- A fault of the other database is a fault of the record: other records are measured.  A collection has a place among
  `max_connections` of each database, also while it waits for the other: give both databases one place more.
- The columns that keys of the record name are values of parameters on the server of the sessions: a server that logs
  parameters (`log_min_duration_statement` and `log_parameter_max_length`) may log them.
"""


_COMPUTED: Final = """
## Compute columns

Some tables have times as numbers, keys in JSON, or no column for the due time.  `computed` gives such values a name,
without a change of the database; other keys, and other SQL of the section, use the name as a column of the table:

```yaml
    sessions:
      table: public.uploads
      computed:
        id: (body ->> 'id')::bigint                 # a key in JSON
        started: to_timestamp(began_ms / 1000.0)    # a time as a number
        state: case code when 1 then 'done' when 2 then 'failed' end    # names for numbers
        due: (select min(h.opens) from public.opening_hours h where h.opens >= session.ended_at)
      key: id
      started_at: started
      due_at: due
      status: state
```

- The SQL is over the columns of the table, not over other computed columns.  The SQL decides the type: cast where
  needed.
- The server may compute the SQL of a column several times for a row.  For expensive SQL, prefer a generated column or
  a view.
- With a computed key or start, a collection cannot go in slices: a table that is too large for one statement needs the
  columns.
- `config check --connect` plans each column, and refuses a name that the table already has.
"""


def reference_page(schema: Mapping[str, Any]) -> str:
    """The page, in Markdown.  Raises KeyError for a section without a place."""
    lines = [
        "<!-- Generated from exporter/model and exporter/dimensions by `make generate`: change it there. -->",
        "# Config reference",
        _INTRODUCTION + _COMPUTED,
        "## Top level",
        "",
        "| key | meaning |",
        "|---|---|",
        *(f"| `{key}` | {text} |" for key, text in _TOP.items()),
    ]
    missing = schema["$defs"].keys() - _SECTIONS.keys()
    if missing:
        raise KeyError(f"say in exporter/config/reference.py where {', '.join(sorted(missing))} stands in a file")
    for name, place in _SECTIONS.items():
        lines += ["", f"## {place}", "", *_section(schema["$defs"][name])]
    return "\n".join(lines) + "\n"


def _section(section: Mapping[str, Any]) -> Iterator[str]:
    yield from (section["description"], "", "| key | | meaning |", "|---|---|---|")
    required = section.get("required", ())
    for key, made in section["properties"].items():
        if not made.get("deprecated"):
            text = made["description"].replace("|", "\\|").replace("<", "\\<")
            yield f"| `{key}` | {'required' if key in required else ''} | {text} |"
