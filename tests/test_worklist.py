"""The file that a backfill works by: ordered, in batches, whole or not there, and known from one that was changed."""

import hashlib
import io
import json
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Beginning, Database, plan_of
from test_gaps import CLOCK, COMPOSITE, CONFIG, DONE, HOSTILE, TABLES, config, plan_for

import exporter
from exporter.mend import worklist
from exporter.mend.gaps import Gap, list_gaps
from exporter.mend.spool import temporary_file
from exporter.mend.verify import verify
from exporter.mend.whole import Listing
from exporter.mend.worklist import (
    BATCH_SIZE,
    Author,
    FilterPart,
    Header,
    Worklist,
    WorklistError,
    pipeline_of,
    worklist_schema,
)
from exporter.model.states import GapReason
from exporter.model.terms import terms_of
from exporter.plan.plan import Plan
from exporter.text.exits import OutputError, UsageError
from exporter.text.files import new_file

MADE = Listing(0, (), 1_748_779_200.0, "5f")
"""Of a list that nobody measured: when, and in which database."""

ALL_OF_IT = FilterPart(record=None, reason=None)


async def write(
    path: Path,
    database: Database,
    text: str,
    batch_size: int = BATCH_SIZE,
    record: str | None = None,
    reason: GapReason | None = None,
    segment: str | None = None,
) -> Header:
    """As `gaps --worklist` does."""
    filters = FilterPart(record=record, reason=reason, segment=segment)
    plan = plan_for(database, text, record)
    with new_file(path) as target, temporary_file() as body:
        author = Author(body, plan, batch_size)
        listing = await list_gaps(plan, author.take, filters.wanted)
        return author.publish(target, listing, filters)


def written(path: Path, gaps: Sequence[Gap], batch_size: int = BATCH_SIZE, plan: Plan | None = None) -> Header:
    """The same without a database."""
    with new_file(path) as target, temporary_file() as body:
        author = Author(body, plan or plan_of(config(), "postgresql://nowhere"), batch_size)
        for gap in gaps:
            author.take(gap)
        return author.publish(target, MADE, ALL_OF_IT)


def gap(*session: str | None, **reasons: GapReason) -> Gap:
    return Gap(session, reasons or {"notes": "missing"}, None)


def lines(path: Path) -> list[Any]:
    """As a program would read it, by nothing of ours."""
    text = path.read_bytes().decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def read(path: Path) -> list[tuple[tuple[str, ...], dict[str, GapReason]]]:
    with path.open("rb") as file:
        worklist = Worklist(file)
        found = [(listed.session, dict(listed.reasons)) for listed in worklist.sessions()]
        assert found == [(listed.session, dict(listed.reasons)) for listed in worklist.sessions()]
        return found


BEGINNING = Beginning(TABLES, clock=CLOCK)


# --- What it says


async def test_it_lists_every_gap_with_its_reasons_in_batches_and_the_oldest_first(
    visits: Database, tmp_path: Path
) -> None:
    await visits.execute(
        f"""
        insert into visits select n, 'done', {DONE} from generate_series(1, 6) n;
        update visits set completed_at = '2025-04-01' where id = 5;
        insert into scores values (1, 'v3', 1), (2, 'v0', 1), (3, 'v3', 0);
        insert into notes values (1), (2), (5);
        """
    )
    path = tmp_path / "list.jsonl"

    header = await write(path, visits, config(), batch_size=2)

    first, *batches, end = lines(path)
    assert first == json.loads(header.model_dump_json())
    assert batches == [
        {
            "batch": 1,
            "size": 2,
            "sessions": [
                {"session": "5", "reasons": {"scores": "missing"}},
                {"session": "2", "reasons": {"scores": "outdated"}},
            ],
        },
        {
            "batch": 2,
            "size": 2,
            "sessions": [
                {"session": "3", "reasons": {"scores": "invalid", "notes": "missing"}},
                {"session": "4", "reasons": {"scores": "missing", "notes": "missing"}},
            ],
        },
        {"batch": 3, "size": 1, "sessions": [{"session": "6", "reasons": {"scores": "missing", "notes": "missing"}}]},
    ]
    assert end.keys() == {"digest"}


async def test_its_header_says_of_what_it_is_and_what_is_to_change(visits: Database, tmp_path: Path) -> None:
    await visits.execute(
        f"""
        insert into visits select n, 'done', {DONE} from generate_series(1, 4) n;
        insert into scores values (1, 'v0', 1), (2, 'v3', 0);
        """
    )
    text = config().replace("table: ", "table: public.")
    numbers = await visits.measure(text)
    plan, path = plan_for(visits, text), tmp_path / "list.jsonl"

    await write(path, visits, text)

    assert numbers("gap_sessions", "scores", "missing") == 2
    assert lines(path)[0] == {
        "worklist": 2,
        "made_at": "2025-06-01T12:00:00Z",
        "exporter": exporter.__version__,
        "database": "main",
        "identity": numbers.snapshot.identity,
        "identities": {},
        "pipeline": "care",
        "window": {"since": "2025-01-01T00:00:00Z", "last_seconds": None},
        "since": "2025-01-01T00:00:00Z",
        "key": ["id"],
        "terms": terms_of(plan.pipeline, plan.sections),
        "records": [
            {
                "record": "scores",
                "database": None,
                "satisfied_by": "current_version",
                "current": "v3",
                "accepted": ["v2"],
                "at_least": 1,
                "at_most": None,
                "changes": {"create": 2, "derive_anew": 2, "add": 0, "remove": 0},
            },
            {
                "record": "notes",
                "database": None,
                "satisfied_by": "current_version",
                "current": None,
                "accepted": [],
                "at_least": 1,
                "at_most": None,
                "changes": {"create": 4, "derive_anew": 0, "add": 0, "remove": 0},
            },
        ],
        "filters": {"record": None, "reason": None, "segment": None},
        "sessions": 4,
        "unnamed": 0,
        "batch_size": 1000,
        "batches": 1,
    }


async def test_a_narrowed_list_says_so_and_is_about_that_record_alone(visits: Database, tmp_path: Path) -> None:
    await visits.execute(
        f"insert into visits select n, 'done', {DONE} from generate_series(1, 2) n; insert into scores values (1, 'v0')"
    )
    path = tmp_path / "list.jsonl"

    header = await write(path, visits, config(), record="scores", reason="outdated")

    assert header.filters == FilterPart(record="scores", reason="outdated")
    assert [part.record for part in header.records] == ["scores"]
    assert read(path) == [(("1",), {"scores": "outdated"})]


async def test_no_gap_is_a_whole_list_without_a_batch(visits: Database, tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"

    header = await write(path, visits, config())

    assert (header.sessions, header.batches, len(lines(path))) == (0, 0, 2)
    assert read(path) == []


@pytest.mark.parametrize(("number", "sizes"), [(3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_all_batches_but_the_last_are_of_one_size(number: int, sizes: list[int], tmp_path: Path) -> None:
    header = written(tmp_path / "l", [gap(str(n)) for n in range(number)], batch_size=3)

    _, *batches, _ = lines(tmp_path / "l")
    assert [batch["size"] for batch in batches] == [len(batch["sessions"]) for batch in batches] == sizes
    assert [batch["batch"] for batch in batches] == [*range(1, header.batches + 1)]


async def test_every_key_comes_back_as_it_is(empty: Database, tmp_path: Path) -> None:
    await empty.execute(
        """
        create table visits (id text unique, status text, started_at date, completed_at date, done boolean);
        create table scores (visit_id text, version text, blocks int); create table notes (visit_id text);
        """
    )
    await empty.execute(
        "insert into visits select id, '', '2025-05-01', '2025-05-01', true from unnest($1::text[]) id", HOSTILE
    )

    await write(tmp_path / "l", empty, config())

    assert sorted(session for [session], _ in read(tmp_path / "l")) == sorted(HOSTILE)
    _, batch, _ = lines(tmp_path / "l")
    assert sorted(part["session"] for part in batch["sessions"]) == sorted(HOSTILE)


async def test_a_key_of_several_columns_is_an_object_and_one_with_a_null_is_counted_only(
    empty: Database, tmp_path: Path
) -> None:
    await empty.execute(COMPOSITE)
    text = (
        config().replace("key: id", "key: [the part, id]").replace("session_key: visit_id", "session_key: [part, id]")
    )
    text = text.replace("[part, id]}\n", "[part, visit_id]}\n")

    header = await write(tmp_path / "l", empty, text, record="notes")

    _, batch, _ = lines(tmp_path / "l")
    assert sorted((part["session"]["the part"], part["session"]["id"]) for part in batch["sessions"]) == [
        ('a,"b"\n', "10"),
        ("ä", "9"),
    ]
    assert sorted(session for session, _ in read(tmp_path / "l")) == [('a,"b"\n', "10"), ("ä", "9")]
    assert (header.sessions, header.unnamed, header.records[0].changes.create) == (2, 1, 2)


def test_every_line_is_of_the_published_schema(tmp_path: Path) -> None:
    published = json.loads((Path(__file__).parent.parent / "docs" / "worklist.schema.json").read_text())
    composite = plan_of(config().replace("key: id", "key: [a, b]").replace(": visit_id", ": [a, b]"), "postgresql://x")
    written(tmp_path / "one", [gap("1"), gap("2", scores="invalid", notes="missing")])
    written(tmp_path / "two", [gap("1", "2")], plan=composite)

    assert published == worklist_schema()
    validator = jsonschema.Draft202012Validator(published)
    for line in [*lines(tmp_path / "one"), *lines(tmp_path / "two")]:
        validator.validate(line)
    for wrong in ({"batch": 1}, {"digest": "sha256:0"}, {}):
        assert not validator.is_valid(wrong)


def test_the_digest_is_that_of_everything_before_it(tmp_path: Path) -> None:
    written(tmp_path / "l", [gap("1"), gap("2")])
    *before, end = (tmp_path / "l").read_bytes().splitlines(keepends=True)

    assert json.loads(end)["digest"] == "sha256:" + hashlib.sha256(b"".join(before)).hexdigest()


# --- Where it is


def test_it_is_its_owners_alone_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    written(tmp_path / "l", [gap("1")])

    assert stat.S_IMODE((tmp_path / "l").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["l"]


def test_until_it_is_whole_nothing_has_its_name_and_what_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with new_file(path) as target:
        target.write(b"half")
        target.flush()
        assert not path.exists()
    path.unlink()

    with pytest.raises(KeyboardInterrupt), new_file(path):
        raise KeyboardInterrupt

    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("there", ["a file", "a link to nothing", "a folder"])
def test_what_is_there_already_is_not_replaced(tmp_path: Path, there: str) -> None:
    path = tmp_path / "l"
    make: dict[str, Callable[[], object]] = {
        "a file": lambda: path.write_text("mine"),
        "a link to nothing": lambda: path.symlink_to("nowhere"),
        "a folder": path.mkdir,
    }
    make[there]()

    with pytest.raises(UsageError, match="exists: name another file, or remove it"):
        written(path, [gap("1")])
    assert there != "a file" or path.read_text() == "mine"


def test_what_came_to_be_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with pytest.raises(UsageError), new_file(path):
        path.write_text("mine")

    assert path.read_text() == "mine"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_that_is_none_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"), new_file(tmp_path / "none" / "l"):
        pytest.fail("it went on")


def test_a_batch_that_verify_would_not_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "LONGEST_LINE", 16 * 1024)
    with pytest.raises(UsageError, match=r"batch 1 is larger than 0 MB, because the keys are long: choose a smaller"):
        written(tmp_path / "l", [gap("x" * 9000), gap("y" * 9000)])
    assert [*tmp_path.iterdir()] == []

    written(tmp_path / "l", [gap("x" * 9000), gap("y" * 9000)], 1)
    assert len(read(tmp_path / "l")) == 2


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "l", [gap("x" * 9000)])
    monkeypatch.setattr(worklist, "LONGEST_LINE", 8 * 1024)

    with pytest.raises(WorklistError, match="changed after the export: restore the original file"):
        read(tmp_path / "l")


def test_a_disk_that_is_full_is_said() -> None:
    with temporary_file() as body, Path("/dev/full").open("wb", buffering=0) as full:
        author = Author(body, plan_of(config(), "postgresql://nowhere"), 1)
        author.take(gap("1"))
        with pytest.raises(OutputError, match="No space left on device"):
            author.publish(full, MADE, ALL_OF_IT)


# --- Whether it is what was written


def digested(content: bytes) -> bytes:
    """The same with the digest that belongs to it."""
    *before, _ = content.splitlines(keepends=True)
    body = b"".join(before)
    return body + json.dumps({"digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}).encode() + b"\n"


CUT_OFF = "cut off: the last line, with the digest, is missing"
CHANGED = "changed after the export: restore the original file"
NO_WORKLIST = "not a worklist: name a file written by gaps --worklist"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another id": (lambda content: content.replace(b'"7"', b'"8"'), CHANGED),
    "another reason": (lambda content: content.replace(b"missing", b"invalid"), CHANGED),
    "another window": (lambda content: content.replace(b"2025-01-01", b"2025-01-02"), CHANGED),
    "no last session": (lambda content: re.sub(rb',\{"session":"9".*?\}\}', b"", content), CHANGED),
    "a line less": (
        lambda content: b"".join([*content.splitlines(keepends=True)[:1], *content.splitlines(True)[2:]]),
        CHANGED,
    ),
    "two lines swapped": (lambda content: b"".join(content.splitlines(True)[n] for n in (0, 2, 1, 3, 4)), CHANGED),
    "the ends of lines of another system": (lambda content: content.replace(b"\n", b"\r\n"), CHANGED),
    "something after its end": (lambda content: content + b"\n", CHANGED),
    "another list after its end": (lambda content: content * 2, CHANGED),
    "no digest": (lambda content: b"".join(content.splitlines(True)[:-1]), CUT_OFF),
    "no second half": (lambda content: b"".join(content.splitlines(True)[:2]), CUT_OFF),
    "a header alone": (lambda content: content.splitlines(True)[0], CUT_OFF),
    "cut in a batch": (lambda content: content[: content.index(b'"7"')], CHANGED),
    "cut in the digest": (lambda content: content[:-20], CHANGED),
    "cut in the header": (lambda content: content[:50], NO_WORKLIST),
    "nothing": (lambda _content: b"", NO_WORKLIST),
    "a list of gaps": (lambda _content: b'{"session":"1","record":"notes","reason":"missing"}\n', NO_WORKLIST),
    "a list": (lambda _content: b"[1]\n", NO_WORKLIST),
    "no text": (lambda _content: bytes(range(256)) * 5000, NO_WORKLIST),
    "another format": (
        lambda content: digested(content.replace(b'"worklist":2', b'"worklist":3')),
        "a worklist of format 3, but this exporter reads format 2: verify with the exporter version that wrote",
    ),
    "the format of before": (
        lambda content: digested(re.sub(rb'"terms":\{.*?\},', b"", content.replace(b'"worklist":2', b'"worklist":1'))),
        "a worklist of format 1 lacks the terms of the config and proves nothing: make a new worklist",
    ),
    "no terms": (lambda content: digested(re.sub(rb'"terms":\{.*?\},', b"", content)), CHANGED),
    "a term that is none": (lambda content: digested(re.sub(rb'("grace":)"\w+"', rb'\1"10m"', content)), CHANGED),
    "another count": (lambda content: digested(content.replace(b'"sessions":10', b'"sessions":11')), CHANGED),
    "a batch twice": (lambda content: digested(content.replace(b'"batch":2', b'"batch":1')), CHANGED),
    "another size": (lambda content: digested(content.replace(b'"size":4', b'"size":3')), CHANGED),
    "a reason that is none": (lambda content: digested(content.replace(b"missing", b"late")), CHANGED),
    "many segments": (
        lambda content: digested(content.replace(b'"segment":null', b'"segment":"<other>"')),
        CHANGED,
    ),
    "no reason": (lambda content: digested(content.replace(b'{"notes":"missing"}', b"{}")), CHANGED),
    "a key of another shape": (lambda content: digested(content.replace(b'"7"', b'{"nr":"7"}')), CHANGED),
    "a key that is none": (lambda content: digested(content.replace(b'"7"', b"null")), CHANGED),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_file_that_is_not_what_was_written_is_refused_and_why_is_said(how: str, tmp_path: Path) -> None:
    damage, why = DAMAGES[how]
    written(tmp_path / "l", [gap(str(n)) for n in range(10)], batch_size=4)
    content = (tmp_path / "l").read_bytes()
    assert damage(content) != content

    with pytest.raises(WorklistError) as error:
        Worklist(io.BytesIO(damage(content)))

    assert str(error.value).startswith(why)


def test_a_last_line_without_its_end_and_fields_of_later_versions_change_nothing(tmp_path: Path) -> None:
    written(tmp_path / "l", [gap("1")])
    content = (tmp_path / "l").read_bytes()
    later = digested(content.replace(b'{"worklist":2', b'{"worklist":2,"colour":"red"'))

    assert Worklist(io.BytesIO(content[:-1])).header == Worklist(io.BytesIO(later)).header


# --- Whether it is of what the config is about


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("  care: -> \n  cure:", "the worklist has the pipeline care, not in the config; did you mean cure?"),
        ("{since: 2025-01-01} -> {since: 2025-01-02}", "the worklist was made with another window of care"),
        ("{since: 2025-01-01} -> {last: 90d}", "the worklist was made with another window of care"),
        ("key: id -> key: nr", "the worklist was made with sessions.key = (id); the config now has (nr)"),
        ("notes: { -> note: {", "the worklist has the record notes, not in care; did you mean note?"),
        (
            'database: {url: "${DATABASE_URL}", lock_timeout: 200ms, DATABASE} -> databases: {shop: {url: "x://y"}}',
            "the worklist was made with care.database = main; the config now has shop",
        ),
    ],
)
def test_a_list_of_another_pipeline_window_key_record_or_database_is_refused(
    change: str, why: str, tmp_path: Path
) -> None:
    header = written(tmp_path / "l", [gap("1")])
    old, new = change.split(" -> ")
    own = plan_of(config(), "postgresql://nowhere").pipeline
    assert pipeline_of(header, {own.name: own}) is own
    assert old in CONFIG
    text = CONFIG.replace(old, new)
    if "shop" in new:
        text = text.replace("  care:\n", "  care:\n    database: shop\n").replace("x://y", "postgresql://nowhere")
    changed = plan_of(text.replace(", DATABASE", "").replace(", KEYS", ""), "postgresql://nowhere").pipeline

    with pytest.raises(WorklistError) as error:
        pipeline_of(header, {changed.name: changed})

    assert str(error.value).startswith(why)


async def test_a_list_is_of_the_tables_that_were_found(visits: Database, tmp_path: Path) -> None:
    """Where the role's search_path leads a bare name elsewhere by now, that is a change like another."""
    path = tmp_path / "list.jsonl"
    await write(path, visits, config())
    await visits.execute("create schema app; create table app.scores (like scores)")
    with path.open("rb") as file:
        before = await verify(visits.plan(config()), Worklist(file))
        await visits.set("search_path", "app, public")
        after = await verify(visits.plan(config()), Worklist(file))

    assert (before.changed, after.changed) == ((), ("records.scores.table",))


def test_a_file_to_which_nothing_was_written_is_not_there(tmp_path: Path) -> None:
    with new_file(tmp_path / "l"):
        pass

    assert list(tmp_path.iterdir()) == []
