"""The process that outlives the owner of a temporary server, and cleans up.

A program, not a module: `python -I -S watchdog.py`, standard library only. Only the owner has the
other end of standard input: end of file means the owner's end, also by SIGKILL. The owner sends one
JSON array a line:

    ["folder", path]     remove the folder at the end (sent before the folder is made)
    ["starting", path]   a process is about to start; `path` will have the process id (postmaster.pid)
    ["alive", pid]       the process has started, as the leader of a new process group
    ["ended", pid]       the process has ended; another process may get the id
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Wait for the owner's end, then end the owner's processes and remove the folders."""
    # A signal to the whole process group (from a terminal or systemd) must not end the watchdog first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folders: list[Path] = []
    groups: set[int] = set()
    starting = Path()
    for line in sys.stdin.buffer:
        match json.loads(line):
            case ["folder", str(path)]:
                folders.append(Path(path))
            case ["starting", str(path)]:
                starting = Path(path)
            case ["alive", int(group)]:
                groups.add(group)
                starting = Path()
            case ["ended", int(group)]:
                groups.discard(group)
    if starting.name:
        # The owner died between starting a process and sending the process id.
        _wait(lambda: _first_number(starting) is not None, seconds=0.5)
        groups.update(filter(None, [_first_number(starting)]))
    end(groups)
    _wait(lambda: _remove(folders), seconds=5)
    if starting.name:
        # `initdb` writes no id. Without a folder `initdb` fails, but may have made a file before.
        time.sleep(0.3)
        _wait(lambda: _remove(folders), seconds=5)


def end(groups: set[int]) -> None:
    """End process groups: PostgreSQL's fast shutdown, then immediate shutdown, then SIGKILL.

    https://www.postgresql.org/docs/current/server-shutdown.html
    """
    for number, seconds in ((signal.SIGINT, 1.0), (signal.SIGQUIT, 0.4), (signal.SIGKILL, 0.4)):
        for group in groups:
            _signal(group, number)
        if _wait(lambda: not any(_is_alive(group) for group in groups), seconds):
            return


def _signal(group: int, number: int) -> bool:
    """Send a signal; returns whether the process group still existed."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: not permitted to signal a zombie
        return False
    return True


def _is_alive(group: int) -> bool:
    """Whether a process of the group runs."""
    if not _signal(group, 0):
        return False
    # Zombies do not count: in a container, process 1 may collect dead processes late or never.
    stats = [_read(file) for file in Path("/proc").glob("[0-9]*/stat")]
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: "pid (name) state parent group"
    rows = [stat.rpartition(")")[2].split()[:3] for stat in stats if stat]
    return not rows or any(row[0] not in "ZX" and int(row[2]) == group for row in rows)


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # missing, or already removed
        return ""


def _first_number(file: Path) -> int | None:
    digits = _read(file).partition("\n")[0]
    return int(digits) if digits.isdigit() else None


def _remove(folders: list[Path]) -> bool:
    for folder in folders:
        # Incomplete if a dying process still makes a file.
        shutil.rmtree(folder, ignore_errors=True)
    return not any(folder.exists() for folder in folders)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


if __name__ == "__main__":
    main()
