"""The running program: a reload is all or nothing, and leaves alone what it does not change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import Database

from exporter.config import ConfigError, load_config
from exporter.serve import Watch

PIPELINE = """
  {name}:
    window: {{since: 2025-08-01}}
    sessions: {{table: assessment_sessions, key: id, status: status, started_at: created_at, completed_at: completed_at,
      eligible: "{eligible}"}}
    records:
      profiles: {{table: profiles, session_key: session_id}}
"""


def config(*pipelines: str, collection: str = "{interval: 50ms, rest_ratio: 0}") -> str:
    return 'database: {url: "${DATABASE_URL}"}\n' + f"collection: {collection}\npipelines:" + "".join(pipelines)


def pipeline(name: str, eligible: str = "status = 'completed'") -> str:
    return PIPELINE.format(name=name, eligible=eligible)


class File:
    """A config on disk that can be rewritten."""

    def __init__(self, path: Path, dsn: str) -> None:
        self.path, self.dsn = path, dsn

    def write(self, text: str) -> None:
        self.path.write_text(text)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Watch]:
        watch = Watch(lambda: load_config(self.path, {"DATABASE_URL": self.dsn}))
        async with asyncio.TaskGroup() as tasks:
            watch.begin(tasks)
            yield watch
            watch.end()


@pytest.fixture
def file(tmp_path: Path, healthy: Database) -> File:
    return File(tmp_path / "config.yaml", healthy.dsn)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of this test
            await asyncio.sleep(0.01)


def eligible(watch: Watch, name: str) -> float | None:
    snapshot = watch.latest.board.standings[name].snapshot
    if snapshot is None:
        return None
    return sum(sample.value for sample in snapshot.samples if sample.metric.name == "eligible_sessions")


async def test_a_changed_pipeline_begins_anew_and_the_others_go_on_undisturbed(file: File) -> None:
    file.write(config(pipeline("one"), pipeline("two")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        rounds = watch.latest.board.standings["one"].results["success"]
        file.write(config(pipeline("one"), pipeline("two", "completed_questions > 0 and status = 'completed'")))

        assert watch.reload() is None

        assert watch.latest.board.standings["one"].results["success"] >= rounds
        assert eligible(watch, "one") == 163
        assert eligible(watch, "two") is None
        await until(lambda: eligible(watch, "two") == 157)


async def test_pipelines_come_and_go(file: File) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        file.write(config(pipeline("two")))

        assert watch.reload() is None

        assert list(watch.latest.board.standings) == ["two"]
        await until(lambda: eligible(watch, "two") == 163)
        # The watch of the pipeline that is gone has ended: nothing publishes it again.
        await asyncio.sleep(0.2)
        assert list(watch.latest.board.standings) == ["two"]


async def test_a_bad_file_changes_nothing_and_says_so(file: File, caplog: pytest.LogCaptureFixture) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        before = watch.latest.board.reload.last_success
        file.write(config(pipeline("one"), pipeline("two").replace("table: profiles", "tabel: profiles")))

        mistake = watch.reload()

        assert isinstance(mistake, ConfigError)
        assert "did you mean table?" in str(mistake)
        assert not watch.latest.board.reload.succeeded
        assert watch.latest.board.reload.last_success == before
        assert "config.reload_failed" in caplog.messages
        assert eligible(watch, "one") == 163
        rounds = watch.latest.board.standings["one"].results["success"]
        await until(lambda: watch.latest.board.standings["one"].results["success"] > rounds)

        file.write(config(pipeline("one")))
        assert watch.reload() is None
        assert watch.latest.board.reload.succeeded


async def test_a_file_that_is_gone_changes_nothing(file: File) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        file.path.unlink()

        assert isinstance(watch.reload(), ConfigError)
        assert eligible(watch, "one") == 163


async def test_another_interval_or_age_is_in_force_at_once(file: File) -> None:
    file.write(config(pipeline("one"), collection="{interval: 1h, max_age: 2h}"))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        file.write(config(pipeline("one"), collection="{interval: 50ms, max_age: 7m, rest_ratio: 0}"))

        assert watch.reload() is None

        await until(lambda: watch.latest.board.standings["one"].results["success"] >= 3)
        assert watch.latest.board.standings["one"].max_age == 420


async def test_a_reload_while_ending_begins_nothing(file: File) -> None:
    slow = pipeline("one", "pg_sleep(3) is not null")
    file.write(config(slow))
    async with asyncio.timeout(5):
        async with file.watched() as watch:
            await asyncio.sleep(0.2)
            watch.end()
            file.write(config(pipeline("one"), pipeline("two")))

            watch.reload()


async def test_reloads_never_make_two_rounds_of_one_pipeline_run_at_once(file: File, healthy: Database) -> None:
    running = "select count(*) from pg_stat_activity where application_name = 'session-health-exporter'"
    most = 0
    file.write(config(pipeline("one", "pg_sleep(0.01) is not null")))
    async with file.watched() as watch:
        for n in range(20):
            file.write(config(pipeline("one", f"pg_sleep(0.01) is not null and {n} = {n}")))
            assert watch.reload() is None
            for _ in range(3):
                await asyncio.sleep(0.01)
                most = max(most, await healthy.connection.fetchval(running))

    assert most == 1


async def test_a_config_that_cannot_be_read_at_the_start_begins_nothing(file: File) -> None:
    file.write("pipelines: {}")

    with pytest.raises(ConfigError):
        async with file.watched():
            pytest.fail("it began")
