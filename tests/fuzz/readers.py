"""Everything that reads text of others, as functions of bytes, with what holds for any bytes.

A reader takes the bytes, or refuses them by its documented exception.  A refusal names the place, is short and
printable, and has no secret.  Reading takes bounded time and memory.
"""

import io
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from waiting import at_most

from exporter.baseline.document import BaselineError, baselines_of_document
from exporter.config.read import ConfigError, load_config, parse_config
from exporter.connection.parameters import UrlError
from exporter.connection.target import target
from exporter.dimensions import DIMENSIONS
from exporter.measure.queries import script
from exporter.mend.worklist import Worklist, WorklistError, changed_keys, pipeline_of
from exporter.plan.plan import compile_plans
from exporter.present.report.account import report_on
from exporter.present.report.document import DocumentError, read_document
from exporter.present.report.formats import FORMATS
from exporter.serve.listen import parse_address
from exporter.state.board import PipelineStatus

EXAMPLES: Final = int(os.environ.get("SESSION_HEALTH_FUZZ_EXAMPLES", "0"))
"""Inputs for each reader; 0 for the usual few, the same each time."""

CANARY: Final = "kanari5ecret"
"""A secret of the environment: in no message."""

ENVIRON: Final = {"DATABASE_URL": f"postgresql://reader:{CANARY}@db.example/shop", "CANARY": CANARY}
TOUR: Final = (Path(__file__).parents[2] / "config.yaml").read_text(encoding="utf-8")
CONFIG: Final = parse_config(TOUR, ENVIRON)

SECONDS: Final = 2.0
"""CPU seconds for one input, at most; of a bomb of 1 MB, ten times as long."""

MEMORY: Final = 300 << 20
"""Bytes by which all inputs of a test may raise the peak of the process."""

LONGEST: Final = 100_000
"""Characters of a message, at most: the file is as long, and a line of the message tells one mistake."""

Reader = Callable[[bytes], None]


class BrokenPropertyError(AssertionError):
    """A reader did what no input may make it do."""


def require(holds: object, what: str) -> None:
    """Raises BrokenPropertyError; unlike `assert` outside of pytest's modules, with a message."""
    if not holds:
        raise BrokenPropertyError(what)


def check_refusal(message: str, place: str) -> None:
    """What holds for every refusal."""
    require(CANARY not in message, f"a secret is in the message: {message!r}")
    require(place in message, f"no place in the message: {message!r}")
    require(message.strip() and len(message) <= LONGEST, f"a message of {len(message)} characters")
    odd = {sign for sign in message.replace("\n", "") if not sign.isprintable()}
    require(not odd, f"the message has {odd!r}: {message!r}")


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """The CPU time of a thread is what a busy machine changes least."""
    began = time.thread_time()
    yield
    took = time.thread_time() - began
    require(took <= at_most(seconds), f"took {took:.1f} CPU s")


@contextmanager
def bounded_memory(most: int = MEMORY) -> Iterator[None]:
    """The growth of the peak of this process."""
    before = _peak()
    yield
    require(_peak() - before <= most, f"the peak grew by {(_peak() - before) >> 20} MB")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reads_config(folder: Path) -> Reader:
    """The config file, and the SQL of a config without mistakes."""
    path = folder / "config.yaml"

    def read(data: bytes) -> None:
        """For a whole file."""
        path.write_bytes(data)
        with bounded(SECONDS if len(data) < 100_000 else 10 * SECONDS):
            try:
                config = load_config(path, ENVIRON)
            except ConfigError as refusal:
                check_refusal(refusal.said, str(path))
                for problem in refusal.problems:
                    require(problem.message, "a problem without a message")
                return
            printed = script(compile_plans(config, DIMENSIONS).values())
        # A variable in an expression is the author's own choice.
        is_of_url_alone = b"CANARY" not in data and data.count(b"DATABASE_URL") == 1
        require(CANARY not in printed or not is_of_url_alone, "a secret is in the SQL")

    return read


def read_worklist(data: bytes) -> None:
    """A worklist, as `verify` reads it before it connects; the sessions twice."""
    with bounded():
        try:
            worklist = Worklist(io.BytesIO(data))
            header = worklist.header
            pipeline = pipeline_of(header, CONFIG.pipelines)
            changed_keys(header, compile_plans(CONFIG, DIMENSIONS)[pipeline.name])
            count = sum(1 for _ in worklist.sessions())
        except WorklistError as refusal:
            check_refusal(f"list: {refusal}", "list: ")
            return
    require(count == header.sessions, "the sessions of a worklist differ from the header")


def reads_baseline(statuses: Sequence[PipelineStatus]) -> Reader:
    """An earlier report, and the report that compares with it, in every format."""

    def read(data: bytes) -> None:
        with bounded():
            try:
                pasts = baselines_of_document(read_document(data), "before.json", statuses, DIMENSIONS)
            except (DocumentError, BaselineError) as refusal:
                check_refusal(f"before.json: {refusal}", "before.json")
                return
            report = report_on(statuses, DIMENSIONS, time.time(), pasts)
            for form in FORMATS.values():
                form.render(report)

    return read


def read_address(data: bytes) -> None:
    """An address to listen on, as the command line gives it."""
    text = data.decode(errors="surrogateescape")
    with bounded():
        try:
            address = parse_address(text)
        except ValueError as refusal:
            check_refusal(f"--web.listen-address: {refusal}", "write" if "write" in str(refusal) else "a host name")
            return
        require(parse_address(str(address)) == address, f"{address} is read as another address")
        with suppress(socket.gaierror):
            socket.getaddrinfo(address.host, address.port, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE)


def read_url(data: bytes) -> None:
    """The URL of a database, as the environment gives it; its password is the canary."""
    text = data.decode(errors="surrogateescape").replace("\0", "")
    with bounded():
        try:
            target(text, {})
        except UrlError as refusal:
            check_refusal(f"url: {refusal}", "url: ")


READERS: Final[Mapping[str, Reader]] = {"worklist": read_worklist, "address": read_address, "url": read_url}
"""The readers that need nothing beside the bytes."""
