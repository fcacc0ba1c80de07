"""Commands that write files and streams, on a full disk; and files that no command can read."""

import os
import resource
from pathlib import Path

from conftest import TOUR, Database
from processes import begin, run
from waiting import START_SECONDS, at_most

CONFIG = ("--config.file", str(TOUR))
SMALL = 4096
"""Bytes of the largest file of a full disk: a longer write fails with EFBIG."""


def test_a_report_on_a_full_disk_leaves_the_earlier_report(backfill: Database, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    report = ("report", *CONFIG, "--format", "json", "--output", str(path))
    assert run(*report, DATABASE_URL=backfill.dsn).returncode == 0
    before = path.read_bytes()

    with begin(*report, DATABASE_URL=backfill.dsn) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SMALL, SMALL))
        _, told = process.communicate(timeout=at_most(START_SECONDS))

    assert process.returncode == 3
    assert f"{path} is not written (File too large), and no file has changed" in told.decode()
    assert "Traceback" not in told.decode()
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_a_report_to_standard_output_by_name_follows_what_is_there(backfill: Database, tmp_path: Path) -> None:
    """`--output /dev/stdout` writes to the file of the shell, and makes no file beside it."""
    path = tmp_path / "both"
    with path.open("wb") as file:
        process = begin("report", *CONFIG, "--output", "/dev/stdout", stdout=file.fileno(), DATABASE_URL=backfill.dsn)
        process.communicate(timeout=at_most(START_SECONDS))
        same = os.fstat(file.fileno()).st_ino == path.stat().st_ino

    assert (process.returncode, same) == (0, True)
    assert path.read_text(encoding="utf-8").startswith("# ❌")
    assert [*tmp_path.iterdir()] == [path]
