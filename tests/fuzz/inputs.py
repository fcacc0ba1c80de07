"""Inputs for the readers: right ones, changed at random; and bombs."""

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml
from hypothesis import strategies as st
from readers import CANARY, TOUR

SMALL: Final = """
database: {url: "${DATABASE_URL}"}
pipelines:
  orders:
    window: {last: 90d}
    grace: 5m
    sessions: {table: public.orders, key: [id, "Or der"], status: state, started_at: created_at, completed_at: paid_at,
      eligible: "state = 'paid'", checks: {sane: {sql: "total >= 0", grace: 1h}}}
    records:
      invoices: {table: public.invoices, session_key: [order_id, o2], version: {column: v, current: "2"},
        unique: [a, b]}
    limits: {sessions_with_gap: {critical: 0, warning: 0}, gap_ratio: {warning: 1%, min_sessions: 10}}
"""

WORDS: Final = [
    *("", " ", "\t", "\n", "~", "null", "yes", "0x1F", "1e999", "-0", ".inf", ".nan", "1_000", "0o17", "12:30:45"),
    *("${CANARY}", "${CANARY:-x}", "${UNSET}", "${", "$${", "${CANARY}${CANARY}", "${UNSET:-${CANARY}}"),
    *(
        "&a x",
        "*a",
        "<<",
        "!!python/object/apply:os.system [id]",
        "!x",
        "? a",
        "- a",
        "| ",
        "> ",
        "%YAML 1.2",
        "---",
        "...",
    ),
    *("30s", "9" * 40 + "d", "-1s", "1h30m", "1.5h", "0", "90d", "5%", "101%", "-5%", "1e3%"),
    *("2025-08-01", "2025-13-01", "0001-01-01", "9999-12-31T23:59:59+14:00", "-2025", "since"),
    *("id", "ID", '"I D"', '"', '""', "a.b.c", "a.", ".b", '"a"."b"', 'public."x""y"', "session", "x" * 64, "ä" * 40),
    *("'", "''", "--", "/*", "*/", "$$", "$1", "%s", "%(x)s", "\\", ";", "(", ")", "(((", "E'\\'", "$a$", ":x", "?"),
    *("select 1", "true; drop table x", "session.id = 1", "(select 1)", "count(*)", "exists (select)", "a = all ($1)"),
    *("\x00", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ufffe", "\U0001f600", "e\u0301", "\ud800"),
    *(f"postgresql://u:{CANARY}@h/d", f"postgresql://u:{CANARY}@h:x/d?sslmode=no", f"u:{CANARY}@h"),
    *("x" * 5000, "a: b: c", "[", "{", "]", "}", ",", "#", "a #b", "'a", '"a', "@", "`"),
]
"""Texts that some reader gives a meaning to."""

VALUES: Final[list[Any]] = [
    *(None, True, False, 0, -1, 1, 2**63, -(2**63), 10**400, 1.5, 1e308, -1e308, math.inf, -math.inf, math.nan),
    *([], {}, [[]], [{}], {"": ""}, {"a": {"b": {"c": 1}}}, ["a", "a"], [None], list(range(50))),
]

DEEP: Final = [
    b"[" * 100_000,
    b"{" * 50_000,
    b'{"a":' * 30_000,
    b"[" * 5_000 + b"]" * 5_000,
    b'{"worklist":' + b"[" * 200_000,
    b'{"format":' * 2_000 + b"1" + b"}" * 2_000,
    "".join(f"{'  ' * level}a:\n" for level in range(400)).encode(),
    b"- " * 20_000 + b"a",
    b"? " * 5_000,
    b"a: {b: [" * 500,
]
LAUGHS: Final = [
    b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"b%d: &b%d [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" % (n, n) for n in range(9)),
    b"a: &a {b: *a}\n",
    b"<<: [{a: 1}, {a: 2}]\n",
]
LARGE: Final = [
    b"a" * 1_000_000,
    b"#" * 1_000_000,
    b"a: b\n" * 5_000,
    b"'" + b"x\n" * 20_000,
    b"pipelines:\n" + b"".join(b"  p%d: {windw: 1, sesions: 2, recrds: {a: {tabel: b}}}\n" % n for n in range(300)),
    b"database: {" + b",".join(b"k%d: 1" % n for n in range(3_000)) + b"}",
    b"\xff\xfe" + "a: b\n".encode("utf-16-le") * 1_000,
    b"\0" * 10_000,
    b"\xef\xbb\xbf" + TOUR.encode(),
    TOUR.encode().replace(b"\n", b"\r\n"),
    TOUR.encode().replace(b"\n", b"\r"),
    TOUR.encode() + b"\n---\n" + TOUR.encode(),
    TOUR.encode() * 3,
]
BOMBS: Final = [b"", b"\n", *DEEP, *LAUGHS, *LARGE]

words = st.sampled_from(WORDS) | st.text(max_size=40)
values = st.sampled_from(VALUES).map(copy.deepcopy) | words | st.integers() | st.floats()

Step = tuple[Any, Any]
"""A container, and a key or index in it."""


def places(tree: Any) -> Iterator[Step]:
    """Every place of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from places(value)


@st.composite
def changed_tree(draw: st.DrawFn, tree: Any, most: int = 4) -> Any:
    """A tree with some values replaced, removed, renamed, moved or repeated."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        found = list(places(tree))
        if not found:
            return tree
        holder, key = draw(st.sampled_from(found))
        match draw(st.sampled_from(("replace", "remove", "rename", "move", "wrap", "repeat"))):
            case "replace":
                holder[key] = draw(values)
            case "remove":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[draw(words | st.sampled_from([str(other) for _, other in found]))] = holder.pop(key)
            case "move":
                other, place = draw(st.sampled_from(found))
                other[place] = copy.deepcopy(holder[key])
            case "wrap":
                holder[key] = draw(st.sampled_from(([holder[key]], {"a": holder[key]})))
            case "repeat" if isinstance(holder, list):
                holder.extend([holder[key]] * draw(st.integers(1, 20)))
            case _:
                holder[key] = draw(values)
    return tree


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes, most: int = 6) -> bytes:
    """Bytes with some slices removed, repeated, swapped, overwritten, or words put between them."""
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 200)))
        piece = draw(words.map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=20))
        match draw(st.sampled_from(("insert", "remove", "overwrite", "repeat", "cut", "line"))):
            case "insert":
                data = data[:start] + piece + data[start:]
            case "remove":
                data = data[:start] + data[end:]
            case "overwrite":
                data = data[:start] + piece + data[start + len(piece) :]
            case "repeat":
                data = data[:end] + data[start:end] * draw(st.integers(1, 10)) + data[end:]
            case "cut":
                data = data[:start]
            case "line":
                lines = data.splitlines(keepends=True) or [b""]
                lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
                data = b"".join(lines)
    return data


def _as_yaml(tree: Any) -> bytes:
    return str(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)).encode(errors="surrogatepass")


_TREES: Final = [yaml.safe_load(text) for text in (TOUR, SMALL)]

configs = (
    st.sampled_from(_TREES).flatmap(changed_tree).map(_as_yaml)
    | st.sampled_from([TOUR.encode(), SMALL.encode()]).flatmap(changed_bytes)
    | st.binary(max_size=200)
)
"""Texts of a config."""


def signed(lines: Sequence[bytes]) -> bytes:
    """The lines of a worklist with the digest of them."""
    body = b"".join(lines)
    return body + json.dumps({"digest": "sha256:" + hashlib.sha256(body).hexdigest()}).encode() + b"\n"


@st.composite
def worklists(draw: st.DrawFn, right: bytes) -> bytes:
    """A worklist with changes of its bytes, or of its lines under a right digest."""
    if draw(st.booleans()):
        return draw(changed_bytes(right))
    lines = [json.loads(line) for line in right.splitlines()[:-1]]
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = draw(changed_tree(lines[number]))
    return signed([json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines])


def baselines(right: bytes) -> st.SearchStrategy[bytes]:
    """A report in JSON with changes of its bytes or values."""
    tree = json.loads(right)
    # Most of a report is not read as a baseline: half of the changes are of what is.
    read = changed_tree(tree["pipelines"][0]["numbers"]).map(
        lambda numbers: {**tree, "pipelines": [{**tree["pipelines"][0], "numbers": numbers}]}
    )
    return (
        (read | changed_tree(tree)).map(lambda changed: json.dumps(changed).encode())
        | changed_bytes(right)
        | st.binary()
    )


_hosts = st.sampled_from(["", "127.0.0.1", "[::1]", "[::]", "::", "localhost", "a.b", "a..b", "[", "]", "[]", "0", "*"])
addresses = st.one_of(
    st.tuples(_hosts | words | st.text(), st.sampled_from([":", "", "::"]), st.integers(-1, 70_000).map(str) | words)
    .map(lambda parts: "".join(parts).replace(CANARY, ""))
    .map(lambda text: text.encode(errors="surrogatepass")),
    st.binary(max_size=100),
)
"""Addresses to listen on."""

_URL: Final = (
    f"postgresql://reader:{CANARY}@db.example:5432,other:5433/shop?sslmode=verify-full&connect_timeout=5".encode()
)
urls = changed_bytes(_URL, 3).filter(lambda data: CANARY.encode() in data or b"@" in data) | st.binary(max_size=100)
"""URLs of a database."""
