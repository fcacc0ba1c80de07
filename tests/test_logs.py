"""The log of a process that stays: written in the background, and lines are lost only with a word."""

import fcntl
import logging
import os
import re
import subprocess
import sys

import pytest

from exporter.commands.output import say
from exporter.text import logs

FLOOD = """
import logging, sys
from exporter.commands.output import say
from exporter.text import logs

logs.configure("info", "logfmt")
with logs.in_background():
    for number in range(5000):
        logging.info("line.%d", number)
    print("written", flush=True)
    sys.stdin.readline()
    logging.getLogger().handlers[0].queue.join()
    logging.info("last")
"""


def test_lines_in_the_background_arrive_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers
    logs.configure("info", "logfmt")
    try:
        with logs.in_background():
            for number in range(100):
                logging.getLogger("exporter").info("line.%d", number, extra={"pipeline": "größe"})
    finally:
        logging.getLogger().handlers = before

    lines = capfd.readouterr().err.splitlines()
    assert [line.split("msg=")[1] for line in lines] == [f"line.{n} pipeline=größe" for n in range(100)]


def test_lines_that_no_program_reads_are_counted() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with (
        subprocess.Popen(
            [sys.executable, "-c", FLOOD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing
        ) as process,
        os.fdopen(reading, "rb") as log,
    ):
        os.close(writing)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.stdin.write(b"\n")
        process.stdin.close()
        lines = log.read().decode().splitlines()
        assert process.wait() == 0

    kept = [int(found[1]) for line in lines if (found := re.search(r"msg=line\.(\d+)", line))]
    dropped = [int(found[1]) for line in lines if (found := re.search(r"msg=log\.dropped lines=(\d+)", line))]
    # While the pipe takes some more lines, later ones find room again.
    assert kept == sorted(set(kept))
    assert kept[: logs.WAITING_LINES] == list(range(logs.WAITING_LINES))
    assert sum(dropped) == 5000 - len(kept) > 0
    assert lines[-1].endswith("msg=last")


def test_a_remark_of_a_command_comes_after_the_lines_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers
    logs.configure("info", "logfmt")
    try:
        with logs.in_background():
            for number in range(200):
                logging.getLogger("exporter").info("line.%d", number)
            say("the remark")
    finally:
        logging.getLogger().handlers = before

    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 201
    assert lines[-1] == "the remark"
