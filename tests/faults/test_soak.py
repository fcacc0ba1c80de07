"""Half a minute of `make soak`, beside the table of faults."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from processes import environment
from test_faults import ALL
from waiting import at_most

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("tests", "tests/acceptance", "tests/faults", "tests/replica", ".")
"""As the Makefile has them for `make soak`."""


@pytest.mark.skipif(not ALL, reason="only in `make test-faults`")
def test_a_short_soak_finds_nothing_broken() -> None:
    path = os.pathsep.join(str(ROOT / folder) for folder in FOLDERS)
    soak = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "soak.py"), "--seconds", "40", "--seed", "4"],
        env=environment(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=at_most(150),
        check=False,
    )

    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert "Verdict: holds." in soak.stdout
