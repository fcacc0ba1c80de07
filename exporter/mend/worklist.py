"""Gaps -> a file for whoever runs the backfill, and back: in batches, the oldest first, and known to be whole.

JSON Lines (https://jsonlines.org): the header, a line for each batch, and the digest of all that is before it.  Written
and read line by line, so that its length is no matter of memory.  Its schema is docs/worklist.schema.json; a field that
is added changes nothing for a reader, one that changes its meaning gets another `FORMAT`.
"""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import models_json_schema

from exporter import __version__
from exporter.mend.gaps import Gap, Listing
from exporter.mend.spool import SpoolError
from exporter.model.sections import Pipeline, Record
from exporter.model.states import GapReason
from exporter.model.terms import changed_names, terms_of
from exporter.plan.fragments import SessionKey
from exporter.plan.plan import Plan
from exporter.present.report.document import Part, WindowPart
from exporter.text.exits import OutputError, UsageError
from exporter.text.names import known_names
from exporter.text.times import moment_text

FORMAT: Final = 2
UNBOUND: Final = 1
"""The format that did not say what the config measured, so that any config would have proved a list of it."""
BATCH_SIZE: Final = 1_000
"""Sessions of a batch, where nobody says otherwise."""
LARGEST_BATCH: Final = 10_000
"""More in one line is more than line-reading tools are made for."""


class WorklistError(Exception):
    """A file is no worklist, not a whole one, or one of something else; the message says why, and what to do."""


class WorklistFileError(UsageError):
    """A worklist cannot be where it should be; the message says why, and what to do."""


# --- What its lines say


class Changes(Part):
    """What a backfill of the list has to do to a record: how many rows are to be made, how many derived anew."""

    create: int = Field(ge=0, description="Sessions without a row.")
    derive_anew: int = Field(ge=0, description="Sessions whose rows are outdated or invalid.")


class RecordPart(Part):
    """A record that the list is about, what satisfies it, and what is expected to change."""

    record: str
    satisfied_by: Literal["any_version", "current_version"]
    current: str | None = Field(description="The current version, null for a record without versions.")
    accepted: tuple[str, ...] = Field(description="The other versions that satisfy.")
    changes: Changes


class FilterPart(Part):
    """What the list was narrowed to: null is not at all."""

    record: str | None
    reason: GapReason | None


class Header(Part):
    """The first line: of what the list is, and how much of it there is."""

    worklist: int = Field(description="The version of this format.")
    made_at: str = Field(description="The moment of the snapshot, by the database's clock.")
    exporter: str = Field(description="The version of the exporter that wrote it.")
    database: str
    identity: str | None = Field(description="Tells the database from others, null where it does not tell.")
    pipeline: str
    window: WindowPart
    key: tuple[str, ...] = Field(min_length=1, description="The columns of the key of a session.")
    terms: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]] = Field(
        description="By the name of each key of the config that decides what is a gap: the beginning of a digest of "
        "its value.  A key with its default is left out."
    )
    records: tuple[RecordPart, ...] = Field(min_length=1)
    filters: FilterPart
    sessions: int = Field(ge=0, description="How many sessions all batches have.")
    unnamed: int = Field(ge=0, description="Sessions that are a gap and in no batch, for their key has a NULL.")
    batch_size: int = Field(ge=1, le=LARGEST_BATCH)
    batches: int = Field(ge=0)


class SessionPart(Part):
    """A session: its key, an object by column where it has several, and for each record that it lacks, why."""

    session: str | dict[str, str]
    reasons: dict[str, GapReason] = Field(min_length=1)


class Batch(Part):
    """A line for each batch: its number, from 1 on, and its sessions; all are of `batch_size` but the last."""

    batch: int
    size: int
    sessions: list[SessionPart]


class End(Part):
    """The last line: `sha256:` and the SHA-256 of all bytes before this line."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


def worklist_schema() -> dict[str, Any]:
    """The JSON Schema of a line."""
    lines: list[type[BaseModel]] = [Header, Batch, End]
    _, schema = models_json_schema([(line, "serialization") for line in lines])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of a worklist of format {FORMAT}",
        "description": "The first is a Header, then a Batch for each batch, the last an End.",
        "oneOf": [{"$ref": f"#/$defs/{line.__name__}"} for line in lines],
        "$defs": schema["$defs"],
    }


# --- Writing it


class Author:
    """Writes the batches of a worklist into `body`, and then all of it to where it belongs; flat in memory."""

    def __init__(self, body: IO[bytes], plan: Plan, batch_size: int) -> None:
        self._body = body
        self._pipeline = plan.pipeline
        self._terms = terms_of(plan.pipeline, plan.database)
        self._batch_size = batch_size
        self._waiting: list[str] = []
        self._batches = 0
        self._sessions = 0
        self._unnamed = 0
        self._reasons: Counter[tuple[str, GapReason]] = Counter()
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def take(self, gap: Gap) -> None:
        """Put a session on the list; one whose key has a NULL cannot be named, and is counted only."""
        key = tuple(part for part in gap.session if part is not None)
        if len(key) < len(gap.session):
            self._unnamed += 1
        else:
            self.add(key, gap.reasons)

    def add(self, session: SessionKey, reasons: Mapping[str, GapReason]) -> None:
        """The same with its key and reasons; raises SpoolError."""
        named = session[0] if len(session) == 1 else dict(zip(self._pipeline.sessions.key, session, strict=True))
        self._waiting.append(self._encode({"session": named, "reasons": dict(reasons)}))
        self._sessions += 1
        self._reasons.update(reasons.items())
        if len(self._waiting) == self._batch_size:
            self._write_batch()

    def _write_batch(self) -> None:
        if not self._waiting:
            return
        self._batches += 1
        head = f'{{"batch":{self._batches},"size":{len(self._waiting)},"sessions":['
        line = f"{head}{','.join(self._waiting)}]}}\n"
        self._waiting.clear()
        try:
            self._body.write(line.encode())
        except OSError as error:
            raise SpoolError(error.strerror) from None

    def publish(self, target: IO[bytes], made: Listing, filters: FilterPart) -> Header:
        """Write the whole list to `target`; raises SpoolError and OutputError."""
        self._write_batch()
        header = Header(
            worklist=FORMAT,
            made_at=moment_text(made.taken_at),
            exporter=__version__,
            database=self._pipeline.database,
            identity=made.identity,
            pipeline=self._pipeline.name,
            window=WindowPart.of(self._pipeline.window),
            key=self._pipeline.sessions.key,
            terms=dict(made.terms) or self._terms,
            records=tuple(self._record(name, record) for name, record in self._pipeline.records.items()),
            filters=filters,
            sessions=self._sessions,
            unnamed=self._unnamed,
            batch_size=self._batch_size,
            batches=self._batches,
        )
        try:
            self._write_whole(target, header.model_dump_json().encode() + b"\n")
        except OSError as error:
            raise OutputError(f"the list could not be written ({error.strerror}), and is not there") from None
        return header

    def _write_whole(self, target: IO[bytes], header: bytes) -> None:
        digest = hashlib.sha256(header)
        target.write(header)
        self._body.seek(0)
        while piece := self._body.read(1 << 20):
            digest.update(piece)
            target.write(piece)
        target.write(End(digest=f"sha256:{digest.hexdigest()}").model_dump_json().encode() + b"\n")
        target.flush()
        os.fsync(target.fileno())

    def _record(self, name: str, record: Record) -> RecordPart:
        count = self._reasons
        return RecordPart(
            record=name,
            satisfied_by=record.satisfied_by,
            current=record.version.current if record.version else None,
            accepted=record.version.accepted if record.version else (),
            changes=Changes(
                create=count[name, "missing"], derive_anew=count[name, "outdated"] + count[name, "invalid"]
            ),
        )


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path`, for its owner's eyes alone, that takes its name if all goes well.

    It is gone if not, and where nothing was written to it.

    Raises WorklistFileError, before anything else is done, where the file cannot be made or exists: a list that a
    backfill may be using is not replaced.
    """
    _refuse_existing(path)
    try:
        # It opens to the owner alone.
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise WorklistFileError(f"{path} cannot be written ({error.strerror}): name another file") from None
    beside = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            is_written = file.tell() > 0
        _refuse_existing(path)
        if is_written:
            beside.rename(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise WorklistFileError(f"{path} exists: name another file, or remove it")


# --- Reading it


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as it stands on a list: its key, and for each record that it lacked, why."""

    session: SessionKey
    reasons: Mapping[str, GapReason]


_BATCH: Final = b'{"batch":'
_LONGEST_HEADER: Final = 1 << 20
L = TypeVar("L", bound=BaseModel)


class Worklist:
    """A file that is a whole worklist: its `header`, and its sessions as often as they are asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read all of it once, for what can be wrong with it; raises WorklistError."""
        self._file = file
        try:
            file.seek(0)
        except OSError:
            raise WorklistError("it is no file that can be read twice: name a file, not a pipe") from None
        self.header = self._read_header(file.readline(_LONGEST_HEADER))
        for _ in self.sessions():
            pass

    def sessions(self) -> Iterator[Listed]:
        """Every session, in order; raises WorklistError where the file is not whole, at the latest at its end."""
        self._file.seek(0)
        line = self._file.readline()
        digest, count, expected = hashlib.sha256(line), 0, 1
        known: dict[tuple[tuple[str, GapReason], ...], Mapping[str, GapReason]] = {}
        while (line := self._file.readline()).startswith(_BATCH):
            digest.update(line)
            batch = self._parsed(Batch, line)
            if batch.batch != expected or batch.size != len(batch.sessions):
                raise self._changed()
            expected += 1
            count += batch.size
            for part in batch.sessions:
                reasons = known.setdefault(tuple(part.reasons.items()), part.reasons)
                yield Listed(self._key(part.session), reasons)
        self._check_end(line, digest.hexdigest())
        if (count, expected - 1) != (self.header.sessions, self.header.batches):
            raise self._changed()

    def _check_end(self, line: bytes, digest: str) -> None:
        if not line:
            raise WorklistError(
                "it is cut off, for its last line, the digest, is missing: copy it again, or make a new one"
            )
        if self._parsed(End, line).digest != f"sha256:{digest}" or self._file.read(1):
            raise self._changed()

    def _read_header(self, line: bytes) -> Header:
        try:
            start = json.loads(line)
        except ValueError:
            start = None
        if not isinstance(start, dict) or "worklist" not in start:
            raise WorklistError("it is no worklist: name a file that `gaps --worklist` wrote")
        if start["worklist"] == UNBOUND:
            raise WorklistError(
                f"it is a worklist of format {UNBOUND}, which does not say what the config measured, and so proves "
                "nothing: make a new one with `gaps --worklist`"
            )
        if start["worklist"] != FORMAT:
            raise WorklistError(
                f"it is a worklist of format {start['worklist']!r}, and this is an exporter that knows "
                f"format {FORMAT}: verify it with the version that wrote it, or make a new one"
            )
        return self._parsed(Header, line)

    def _parsed(self, kind: type[L], line: bytes) -> L:
        try:
            return kind.model_validate_json(line)
        except ValidationError:
            raise self._changed() from None

    def _changed(self) -> WorklistError:
        return WorklistError("it was changed after it was written: verify the file as it was, or make a new one")

    def _key(self, session: str | Mapping[str, str]) -> SessionKey:
        columns = self.header.key
        named = {columns[0]: session} if isinstance(session, str) else session
        if tuple(named) != columns:
            raise self._changed()
        return tuple(named.values())


# --- Whether it is of what the config is about


def pipeline_of(header: Header, pipelines: Mapping[str, Pipeline]) -> Pipeline:
    """The pipeline that a list is of; raises WorklistError unless the config has it as it was then."""
    name = header.pipeline
    pipeline = pipelines.get(name)
    again = "verify it with the config that it was made with, or make a new list"
    if pipeline is None:
        raise WorklistError(f"it is of the pipeline {name}, which is not in the config{known_names(name, pipelines)}")
    if pipeline.database != header.database:
        raise WorklistError(f"it is of the database {header.database}, and {name} is of {pipeline.database}: {again}")
    if WindowPart.of(pipeline.window) != header.window:
        raise WorklistError(f"its window is not that of {name} now: {again}")
    if pipeline.sessions.key != header.key:
        then, now = (", ".join(key) for key in (header.key, pipeline.sessions.key))
        raise WorklistError(f"its sessions are told apart by ({then}), those of {name} now by ({now}): {again}")
    for part in header.records:
        if part.record not in pipeline.records:
            known = known_names(part.record, pipeline.records)
            raise WorklistError(f"it is of the record {part.record}, which {name} has no more{known}: {again}")
    return pipeline


def changed_keys(header: Header, plan: Plan) -> tuple[str, ...]:
    """The names of those keys that decide what is a gap and have another value now than when a list was made.

    `plan` is of the records of the list alone.
    """
    return changed_names(header.terms, terms_of(plan.pipeline, plan.database))


def check_identity(header: Header, identity: str | None) -> None:
    """Raises WorklistError where it is certain that a database is another than that of the list."""
    if header.identity and identity and header.identity != identity:
        raise WorklistError(
            f"it is of another database than {header.database} is now, by their identities: connect to the one that "
            "it was made from, or make a new list"
        )
