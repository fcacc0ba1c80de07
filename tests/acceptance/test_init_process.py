"""`init` on a terminal: a person is asked where the rows speak for several tables, and Ctrl-C ends the question."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Database
from processes import COMMAND, environment, read_terminal, run
from waiting import START_SECONDS, at_most

SCHEMA = (Path(__file__).parent.parent / "schemas" / "scheduler.sql").read_text()


@pytest.fixture
async def scheduler(empty: Database) -> Database:
    await empty.execute(SCHEMA + "insert into task_reschedule (ti_id) select id from task_instance")
    return empty


def on_terminal(database: Database) -> tuple[subprocess.Popen[bytes], int]:
    """`init` whose standard input and error are a terminal; the process, and our side of the terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "init"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(DATABASE_URL=database.dsn),
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, text: str) -> str:
    shown = b""
    while text.encode() not in shown:
        shown += os.read(terminal, 1 << 16)
    return shown.decode()


def test_the_answer_on_the_terminal_chooses_the_table(scheduler: Database) -> None:
    process, terminal = on_terminal(scheduler)
    shown = read_until(terminal, "Which one? 1 to 2 [1] ")
    os.write(terminal, b"3\n")
    read_until(terminal, "Which one? 1 to 2 [1] ")
    os.write(terminal, b"2\n")
    out, _ = process.communicate(timeout=at_most(START_SECONDS))
    os.close(terminal)

    assert process.returncode == 0
    assert "1  public.dag_run, with public.task_instance (378 of 378 eligible sessions have a row (100%))" in shown
    assert b"table: public.task_instance" in out


def test_the_first_is_chosen_without_an_answer_and_without_a_terminal(scheduler: Database) -> None:
    process, terminal = on_terminal(scheduler)
    read_until(terminal, "Which one? 1 to 2 [1] ")
    os.write(terminal, b"\n")
    out, _ = process.communicate(timeout=at_most(START_SECONDS))
    os.close(terminal)

    assert out.decode() == run("init", DATABASE_URL=scheduler.dsn).stdout
    assert b"table: public.dag_run" in out


def test_ctrl_c_ends_the_question(scheduler: Database) -> None:
    process, terminal = on_terminal(scheduler)
    read_until(terminal, "Which one? 1 to 2 [1] ")
    process.send_signal(signal.SIGINT)

    assert process.wait(at_most(5)) == -signal.SIGINT
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    read_terminal(terminal)


def test_without_a_url_it_tells_what_it_looked_for() -> None:
    ended = run("init", PGHOST="127.0.0.1", PGPORT="1")

    assert ended.returncode == 3
    assert "no --database.url and no DATABASE_URL: connecting by the PG* variables (PGHOST, PGPORT)" in ended.stderr
