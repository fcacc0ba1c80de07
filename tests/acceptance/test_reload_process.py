"""Reading the config again while serving, by signal and over HTTP, as an operator does it."""

import signal
from pathlib import Path

from conftest import SERVED, Database
from processes import ANY_PORT, Exporter, environment

QUICK = SERVED.replace("interval: 30s", "interval: 150ms").replace("duty: 5%", "duty: 50%")


def serve(path: Path, dsn: str, *arguments: str) -> Exporter:
    return Exporter("serve", "--config.file", str(path), *ANY_PORT, *arguments, environ=environment(DATABASE_URL=dsn))


async def test_sighup_puts_a_good_file_in_force_and_a_bad_one_aside(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(QUICK)
    with serve(path, backfill.dsn) as it:
        first = await it.measured()
        assert first("config_last_reload_successful") == 1

        path.write_text(QUICK.replace("satisfied_by: current_version", "satisfied_by: any_verzion"))
        it.process.send_signal(signal.SIGHUP)
        refused = await it.when(lambda page: page("config_last_reload_successful") == 0)

        assert refused("eligible_sessions", state="gap") == 39
        key = "config_last_reload_success_timestamp_seconds"
        assert refused(key) == first(key)
        assert (
            len(it.events("config.reload_failed", "satisfied_by: must be any_version, current_version or every_row"))
            == 1
        )

        # With any version good enough, the 11 sessions with old scores are no gaps.
        path.write_text(QUICK.replace("satisfied_by: current_version", "satisfied_by: any_version"))
        it.process.send_signal(signal.SIGHUP)
        page = await it.when(lambda page: page("eligible_sessions", state="gap") == 28)

        assert page("config_last_reload_successful") == 1
        assert (page(key) or 0) > (first(key) or 0)
        assert it.end(signal.SIGTERM, 2) == 0


async def test_over_http_only_where_that_is_enabled(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(QUICK)
    with serve(path, backfill.dsn) as it:
        await it.measured()
        assert it.get("/-/reload", method="POST").status == 403

    with serve(path, backfill.dsn, "--web.enable-lifecycle") as it:
        await it.measured()
        assert it.get("/-/reload", method="POST").status == 200
        path.write_text("pipelines: nonsense")

        refused = it.get("/-/reload", method="POST")

        assert refused.status == 500
        assert refused.text == "The config was not reloaded: see the exporter's log.\n"
        assert it.events("config.reload_failed", "pipelines: must be a mapping")
        assert it.page()("config_last_reload_successful") == 0
