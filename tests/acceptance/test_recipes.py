"""The recipes of the docs: each config on a small model of its tables, healthy, broken and mended."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Database
from processes import run

FOLDER = Path(__file__).parents[2] / "docs" / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

BROKEN = re.compile(r"^-- broken: (.*)\n", re.MULTILINE)
"""A limit that the next statements break: the pipeline, the limit, the record or the check, and the value."""
MENDED = "-- mended\n"


def run_on(dsn: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with a recipe; every database that a recipe names is this one."""
    return run(*words, DATABASE_URL=dsn, WAREHOUSE_URL=dsn)


def broken_limits(name: str, dsn: str) -> list[str]:
    """What `check` finds, in the words of a recipe."""
    done = run_on(dsn, "check", "--config.file", str(FOLDER / f"{name}.yaml"), "--format", "json")
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert not [fault for pipeline in document["pipelines"] for fault in pipeline["faults"]]
    found = [
        " ".join(filter(None, (pipeline["pipeline"], one["limit"], one["subject"], f"{one['value']:g}")))
        for pipeline in document["pipelines"]
        for one in pipeline["findings"]
        if one["outcome"] != "within"
    ]
    assert document["verdict"] == "healthy" or found
    return sorted(found)


def test_each_recipe_is_a_config_with_its_tables() -> None:
    assert RECIPES
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(
        f"{name}.{kind}" for name in RECIPES for kind in ("yaml", "sql")
    )


@pytest.mark.parametrize("name", RECIPES)
async def test_a_recipe_is_healthy_finds_what_is_broken_and_is_healthy_again(empty: Database, name: str) -> None:
    before, mark, mending = (FOLDER / f"{name}.sql").read_text(encoding="utf-8").partition(MENDED)
    making, breaking = before[: before.index("-- broken: ")], BROKEN.sub("", before[before.index("-- broken: ") :])
    assert mark

    await empty.execute(making)
    assert broken_limits(name, empty.dsn) == []

    await empty.execute(breaking)
    assert broken_limits(name, empty.dsn) == sorted(BROKEN.findall(before))

    await empty.execute(mending)
    assert broken_limits(name, empty.dsn) == []


@pytest.mark.parametrize("name", RECIPES)
async def test_a_recipe_passes_the_check_of_the_config(empty: Database, name: str) -> None:
    await empty.execute((FOLDER / f"{name}.sql").read_text(encoding="utf-8").partition("-- broken: ")[0])
    words = ("config", "check", "--connect", "--config.file", str(FOLDER / f"{name}.yaml"))

    done = run_on(empty.dsn, *words)

    assert done.returncode == 0, done.stdout
    assert "healthy" in done.stdout
