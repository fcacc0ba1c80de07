"""docs/semantics.md is true: every trap has its row, every row its tests, and every test is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "semantics.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| easily got wrong |")
]
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")

TRAPS = """
NULL session key
`NOT IN` with a NULL
join fan-out
several versions per session
(`every_row`)
(`rows`)
number of rows in a column
invalid beside valid rows
NULL or empty version
NULL of `eligible`
NULL of `required_when`
NULL of `valid`
NULL of a check
`sessions.where`
(`exists`)
(`where`)
(`deleted`)
window edge in another time zone
window bound inclusive
timestamps without zone
`timezone:`
DST
date columns
future times
infinite and NULL times
undated sessions
completion NULL, infinite or far in the future
grace boundaries
pending hides no gap
empty table
empty window
no eligible session
ratio with zero denominator
`min_sessions`
cohort outside the window
cohort maturity half open
percentiles
negative and NULL delays
covered above completed above started
newest record
time-out in the middle
one broken record
one broken check
totals that need every record
server killed mid-collection
clock skew
replica lag
replica paused
replica conflict
rewrite before the lock
rewrite after the lock
only a sub-query, view or function reads
REFRESH of a materialized view
foreign tables
foreign tables behind a view
dropped and recreated table
no policy, some rows, `USING (true)`, a policy for others
FORCE
`security_invoker` view
view of a bound owner
owner's view
partitions
sub-query
hidden parent
hidden child
allow mode: never healthy
missing privilege
column-level grants
duplicate sessions key
uniqueness with NULLs
foreign key proof
cross-type keys
casts
hostile strings in labels
cap and `<other>`
version text order
gaps without limits
worst first
withdrawn after `max_age`
stale snapshot
before the first collection
""".strip().splitlines()


@cache
def known_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_its_row(trap: str) -> None:
    assert [row for row in ROWS if trap in row[0]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_says_what_is_done_and_names_tests_that_are_there(row: list[str]) -> None:
    _trap, done, held_by = row

    assert done.endswith(".")
    named = TEST.findall(held_by)
    assert named
    assert TEST.sub("", held_by).strip() == "", "something else beside the tests"
    assert [f"{path}::{name}" for path, name in named if name not in known_in(path)] == []


def test_no_trap_is_told_twice() -> None:
    traps = [row[0] for row in ROWS]

    assert len(traps) == len(set(traps))
