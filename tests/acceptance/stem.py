"""A process that has loaded the exporter, and forks for each command: the loading is half a second of each.

`python stem.py FD` reads orders from the socket FD until the socket closes: the arguments, the folder and the
environment, with the files for the output.  It answers with the process id, then with the exit code.
"""

import io
import json
import os
import pkgutil
import socket
import sys
import time
from importlib import import_module
from typing import TextIO

import exporter.commands
from exporter.cli import main

LIMIT = 1 << 20
"""Bytes of an order, most of them of the environment."""


def load() -> None:
    for module in pkgutil.iter_modules(exporter.commands.__path__):
        import_module(f"exporter.commands.{module.name}")


def wait_for_order(orders: socket.socket) -> bool:
    """Fork for every order; True in the child, False at the end."""
    while True:
        packet, files, _, _ = socket.recv_fds(orders, LIMIT, 2)
        if not packet:
            return False
        child = os.fork()
        if child == 0:
            orders.close()
            become(json.loads(packet), *files)
            return True
        for file in files:
            os.close(file)
        orders.send(str(child).encode())
        _, status = os.waitpid(child, 0)
        orders.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(order: dict[str, object], out: int, err: int) -> None:
    """What a new process would be: its arguments, its environment, its folder, its output."""
    arguments, environ, folder = order["arguments"], order["environ"], order["folder"]
    assert isinstance(arguments, list)
    assert isinstance(environ, dict)
    os.chdir(str(folder))
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file, number)
        os.close(file)
    sys.stdout = sys.__stdout__ = again(sys.stdout, 1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = again(sys.stderr, 2)  # type: ignore[misc]
    sys.argv = arguments


def again(stream: TextIO, number: int) -> io.TextIOWrapper:
    """A stream as the interpreter has made it, over what the number means now."""
    raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=number == 2)


if __name__ == "__main__":
    load()
    if wait_for_order(socket.socket(fileno=int(sys.argv[1]))):
        sys.exit(main())
