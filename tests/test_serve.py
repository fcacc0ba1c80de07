"""The running program: a reload is all or nothing, and leaves alone what it does not change."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import Database
from waiting import at_most

from exporter.config.read import ConfigError, Loaded, Problem, load_and_show
from exporter.dimensions.coverage import ELIGIBLE
from exporter.measure.controls import SeldomProof
from exporter.plan.plan import Plan
from exporter.serve.watch import Planned, Reader, Watch
from exporter.state.snapshot import Snapshot

PIPELINE = """
  {name}:
    window: {{since: 2025-08-01}}
    sessions: {{table: assessment_sessions, key: id, status: status, started_at: created_at, completed_at: completed_at,
      eligible: "{eligible}"}}
    records:
      profiles: {{table: profiles, session_key: session_id}}
"""


def config(*pipelines: str, collection: str = "{interval: 50ms, duty: 100%}") -> str:
    return (
        'database: {url: "${DATABASE_URL}", allow_superuser: true}\n'
        f"collection: {collection}\npipelines:" + "".join(pipelines)
    )


def pipeline(name: str, eligible: str = "status = 'completed'") -> str:
    return PIPELINE.format(name=name, eligible=eligible)


class File:
    """A config on disk that can be rewritten."""

    def __init__(self, path: Path, dsn: str) -> None:
        self.path, self.dsn = path, dsn

    def write(self, text: str) -> None:
        self.path.write_text(text)

    async def watch(self) -> Watch:
        reader = Reader(lambda: load_and_show(self.path, {"DATABASE_URL": self.dsn}))
        return Watch(reader, await reader.read())

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Watch]:
        watch = await self.watch()
        async with asyncio.TaskGroup() as tasks:
            watch.begin(tasks)
            yield watch
            watch.end()


@pytest.fixture
def file(tmp_path: Path, healthy: Database) -> File:
    return File(tmp_path / "config.yaml", healthy.dsn)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(at_most(10)):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of this test
            await asyncio.sleep(0.01)


def eligible(watch: Watch, name: str) -> float | None:
    snapshot = watch.latest.board.statuses[name].snapshot
    if snapshot is None:
        return None
    return snapshot.readings.total(ELIGIBLE)


async def test_a_changed_pipeline_begins_anew_and_the_others_go_on_undisturbed(file: File) -> None:
    file.write(config(pipeline("one"), pipeline("two")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        rounds = watch.latest.board.statuses["one"].results["success"]
        file.write(config(pipeline("one"), pipeline("two", "completed_questions > 0 and status = 'completed'")))

        assert await watch.reload() is None

        assert watch.latest.board.statuses["one"].results["success"] >= rounds
        assert eligible(watch, "one") == 163
        assert eligible(watch, "two") is None
        await until(lambda: eligible(watch, "two") == 157)


async def test_pipelines_come_and_go(file: File) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        file.write(config(pipeline("two")))

        assert await watch.reload() is None

        assert list(watch.latest.board.statuses) == ["two"]
        await until(lambda: eligible(watch, "two") == 163)
        # The watch of the pipeline that is gone has ended: nothing publishes it again.
        await asyncio.sleep(0.2)
        assert list(watch.latest.board.statuses) == ["two"]


async def test_a_bad_file_changes_nothing_and_says_so(file: File, caplog: pytest.LogCaptureFixture) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        before = watch.latest.board.reload.last_success
        file.write(config(pipeline("one"), pipeline("two").replace("table: profiles", "tabel: profiles")))

        mistake = await watch.reload()

        assert isinstance(mistake, ConfigError)
        assert "did you mean table?" in str(mistake)
        assert not watch.latest.board.reload.succeeded
        assert watch.latest.board.reload.last_success == before
        assert "config.reload_failed" in caplog.messages
        assert eligible(watch, "one") == 163
        rounds = watch.latest.board.statuses["one"].results["success"]
        await until(lambda: watch.latest.board.statuses["one"].results["success"] > rounds)

        file.write(config(pipeline("one")))
        assert await watch.reload() is None
        assert watch.latest.board.reload.succeeded


async def test_a_file_that_is_gone_changes_nothing(file: File) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        file.path.unlink()

        assert isinstance(await watch.reload(), ConfigError)
        assert eligible(watch, "one") == 163


async def test_another_interval_or_age_is_in_force_at_once(file: File) -> None:
    file.write(config(pipeline("one"), collection="{interval: 1h, max_age: 2h}"))
    async with file.watched() as watch:
        await until(lambda: watch.latest.board.is_ready)
        file.write(config(pipeline("one"), collection="{interval: 50ms, max_age: 7m, duty: 100%}"))

        assert await watch.reload() is None

        await until(lambda: watch.latest.board.statuses["one"].results["success"] >= 3)
        assert watch.latest.board.statuses["one"].max_age == 420


class SlowToLeave:
    """A collection that takes its time to clean up when it is cancelled, as behind a slow network."""

    def __init__(self) -> None:
        self.running = self.most = self.begun = 0

    async def collect(self, _plan: Plan, *, unattended: bool, proof: SeldomProof) -> Snapshot:
        assert (unattended, type(proof)) == (True, SeldomProof)
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            self.running -= 1
        pytest.fail("nobody waits for so long")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowToLeave:
    slow = SlowToLeave()
    monkeypatch.setattr("exporter.measure.rounds.collect", slow.collect)
    return slow


async def test_a_reload_while_ending_begins_nothing(file: File, slow: SlowToLeave) -> None:
    file.write(config(pipeline("one")))
    watch = await file.watch()
    async with asyncio.timeout(at_most(5)), asyncio.TaskGroup() as tasks:
        watch.begin(tasks)
        await until(lambda: slow.running == 1)
        watch.end()
        file.write(config(pipeline("one", "completed_questions > 0"), pipeline("two")))

        await watch.reload()

    assert (slow.begun, slow.running) == (1, 0)


async def test_a_config_that_answers_too_late_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, unhandled: list[object]
) -> None:
    monkeypatch.setattr("exporter.serve.watch.READ_SECONDS", 0.05)
    release = threading.Event()

    def late() -> Loaded:
        release.wait()
        raise ConfigError("config.yaml", (Problem("", "is empty"),))

    reader = Reader(late)
    with pytest.raises(ConfigError, match="no answer within"):
        await reader.read()
    release.set()
    with pytest.raises(ConfigError, match="is empty"):
        await reader.read()

    del reader
    gc.collect()
    await asyncio.sleep(0)
    assert unhandled == []


async def test_reloads_keep_nothing_of_earlier_configs(file: File) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        for n in range(20):
            file.write(config(pipeline("one", f"completed_questions > {n}")))
            assert await watch.reload() is None
            await asyncio.sleep(0.01)
        gc.collect()

        assert sum(isinstance(one, Planned) for one in gc.get_objects()) <= 3


async def test_reloads_never_make_two_rounds_of_one_pipeline_run_at_once(file: File, slow: SlowToLeave) -> None:
    file.write(config(pipeline("one")))
    async with file.watched() as watch:
        await until(lambda: slow.running == 1)
        for n in range(5):
            file.write(config(pipeline("one", f"completed_questions > {n}")))
            assert await watch.reload() is None
            await asyncio.sleep(0.02)
        await until(lambda: slow.begun >= 2 and slow.running == 1)

    assert slow.most == 1


async def test_a_config_that_cannot_be_read_at_the_start_begins_nothing(file: File) -> None:
    file.write("pipelines: {}")

    with pytest.raises(ConfigError):
        async with file.watched():
            pytest.fail("it began")
