"""Gaps -> a worklist for the backfill, and back: in batches, the oldest session first, with a digest.

JSON Lines (https://jsonlines.org): the header, a line for each batch, and the digest of all earlier lines.  Written
and read line by line, in constant memory.  The schema is docs/worklist.schema.json.  A new field needs no new `FORMAT`;
a field with a new meaning does.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from exporter import __version__
from exporter.mend.gaps import Gap
from exporter.mend.spool import SpoolError
from exporter.mend.whole import Listing
from exporter.model.elsewhere import another
from exporter.model.metric import is_folded
from exporter.model.sections import Pipeline, Record, SatisfiedBy
from exporter.model.states import GAP_REASONS, GapReason
from exporter.model.terms import changed_names, terms_of
from exporter.plan.fragments import SessionKey
from exporter.plan.gaps import GapFilter
from exporter.plan.plan import Plan
from exporter.present.report.document import Part, WindowPart
from exporter.text.exits import OutputError, UsageError
from exporter.text.files import MB
from exporter.text.names import known_names
from exporter.text.terminal import printable
from exporter.text.times import moment_text, parse_moment

FORMAT: Final = 2
UNBOUND: Final = 1
"""The format without the terms of the config: any config would have proved the worklist."""
BATCH_SIZE: Final = 1_000
"""Sessions in a batch, by default."""
LARGEST_BATCH: Final = 10_000
"""Sessions in a batch, at most: line-reading tools cannot take longer lines."""


LONGEST_LINE: Final = 16 * MB
"""Bytes of a line, at most: a line is read as a whole."""


_LONGEST_MESSAGE: Final = 2_000
"""Characters."""


class WorklistError(Exception):
    """A file is not a worklist, incomplete, or of another pipeline; the message has the fault and the remedy.

    The message may have names of the file: control characters are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…"))


# --- Lines


class Changes(Part):
    """The work of a backfill for one record: numbers of sessions."""

    create: int = Field(ge=0, description="Sessions without a row.")
    derive_anew: int = Field(ge=0, description="Sessions whose rows are outdated or invalid.")
    add: int = Field(default=0, ge=0, description="Sessions with too few good rows.")
    remove: int = Field(default=0, ge=0, description="Sessions with too many good rows.")


class RecordPart(Part):
    """A record of the worklist: the accepted versions, and the expected changes."""

    record: str
    database: str | None = Field(default=None, description="The database of the rows, null where the sessions are.")
    satisfied_by: SatisfiedBy
    current: str | None = Field(description="The current version, null for a record without versions.")
    accepted: tuple[str, ...] = Field(description="Other versions that satisfy the record.")
    at_least: int | str = Field(default=1, description="Good rows, at least; a text is a column of the sessions.")
    at_most: int | str | None = Field(default=None, description="Good rows, at most; null for any number.")
    changes: Changes


class FilterPart(Part):
    """The filters of the worklist; null is no filter."""

    record: str | None
    reason: GapReason | None
    segment: str | None = Field(default=None, description="The label of a segment, as on the metrics.")

    @field_validator("segment")
    @classmethod
    def _names_one(cls, segment: str | None) -> str | None:
        if segment is not None and is_folded(segment):
            raise ValueError("names several segments")
        return segment

    @property
    def wanted(self) -> GapFilter:
        """The gaps of the worklist."""
        return GapFilter((self.reason,) if self.reason else GAP_REASONS, self.segment)


class Header(Part):
    """The first line: origin and size of the worklist."""

    worklist: int = Field(description="The version of this format.")
    made_at: str = Field(description="The time of the snapshot, by the database's clock.")
    exporter: str = Field(description="The version of the exporter that wrote the worklist.")
    database: str
    identity: str | None = Field(description="A hash that identifies the database, null if unknown.")
    identities: dict[str, str] = Field(default_factory=dict, description="The same of other databases, by name.")
    pipeline: str
    window: WindowPart
    since: str | None = Field(
        default=None, description="The start of the window; a list of remaining gaps keeps the value of the first list."
    )
    key: tuple[str, ...] = Field(min_length=1, description="The columns of the key of a session.")
    terms: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]] = Field(
        description="For each key of the config that decides about gaps: the first 16 digits of a digest of the value. "
        "Keys with the default value are left out."
    )
    records: tuple[RecordPart, ...] = Field(min_length=1)
    filters: FilterPart
    sessions: int = Field(ge=0, description="The number of sessions in all batches.")
    unnamed: int = Field(ge=0, description="Sessions with a gap and NULL in the key: in no batch.")
    batch_size: int = Field(ge=1, le=LARGEST_BATCH)
    batches: int = Field(ge=0)

    @property
    def start(self) -> datetime:
        """The start of the window, also of a list without `since`; raises WorklistError."""
        try:
            if known := self.since or self.window.since:
                return parse_moment(known)
            return parse_moment(self.made_at) - timedelta(seconds=self.window.last_seconds or 0.0)
        except (ValueError, OverflowError):
            raise WorklistError(
                "has no time of its window: restore the original file, or make a new worklist"
            ) from None


class SessionPart(Part):
    """A session: the key (an object by column for several columns), and the reason for each record with a gap."""

    session: str | dict[str, str]
    reasons: dict[str, GapReason] = Field(min_length=1)
    segment: str | None = Field(default=None, description="Only with `sessions.segment`: the text of its columns.")


class Batch(Part):
    """A line for each batch: the number, from 1, and the sessions; only the last batch is smaller than `batch_size`."""

    batch: int
    size: int
    sessions: list[SessionPart] = Field(max_length=LARGEST_BATCH)


class End(Part):
    """The last line: `sha256:` and the SHA-256 of all bytes before the last line."""

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


# --- Writing


class Author:
    """Writes the batches of a worklist into `body`, then the whole worklist to the target; in constant memory."""

    def __init__(self, body: IO[bytes], plan: Plan, batch_size: int) -> None:
        self._body = body
        self._pipeline = plan.pipeline
        self._terms = terms_of(plan.pipeline, plan.sections)
        self._has_segments = plan.has_segments
        self._batch_size = batch_size
        self._waiting: list[str] = []
        self._batches = 0
        self._sessions = 0
        self._unnamed = 0
        self._reasons: Counter[tuple[str, GapReason]] = Counter()
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def take(self, gap: Gap) -> None:
        """Add a gap; a session with NULL in the key is only counted.  Raises SpoolError."""
        key = tuple(part for part in gap.session if part is not None)
        if len(key) < len(gap.session):
            self._unnamed += 1
        else:
            self.add(Listed(key, gap.reasons, gap.segment))

    def add(self, listed: "Listed") -> None:
        """Add a session; raises SpoolError."""
        key = listed.session
        named = key[0] if len(key) == 1 else dict(zip(self._pipeline.sessions.key, key, strict=True))
        segment = {"segment": listed.segment} if self._has_segments else {}
        self._waiting.append(self._encode({"session": named, "reasons": dict(listed.reasons), **segment}))
        self._sessions += 1
        self._reasons.update(listed.reasons.items())
        if len(self._waiting) == self._batch_size:
            self._write_batch()

    def _write_batch(self) -> None:
        if not self._waiting:
            return
        self._batches += 1
        head = f'{{"batch":{self._batches},"size":{len(self._waiting)},"sessions":['
        line = f"{head}{','.join(self._waiting)}]}}\n"
        self._waiting.clear()
        written = line.encode()
        if len(written) > LONGEST_LINE:
            raise UsageError(
                f"batch {self._batches} is larger than {LONGEST_LINE // MB} MB, because the keys are long: choose a "
                "smaller --batch-size"
            )
        try:
            self._body.write(written)
        except OSError as error:
            raise SpoolError(error.strerror) from None

    def publish(self, target: IO[bytes], made: Listing, filters: FilterPart, start: datetime | None = None) -> Header:
        """Write the whole worklist to `target`; raises SpoolError and OutputError.

        `start`: the start of the window of an earlier list.
        """
        self._write_batch()
        header = Header(
            worklist=FORMAT,
            made_at=moment_text(made.taken_at),
            exporter=__version__,
            database=self._pipeline.database,
            identity=made.identity,
            identities=dict(made.identities),
            pipeline=self._pipeline.name,
            window=WindowPart.of(self._pipeline.window),
            since=moment_text(start.timestamp() if start else self._pipeline.window.start(made.taken_at)),
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
            raise OutputError(
                f"the worklist could not be written ({error.strerror}), and no file was made: name a file on a "
                "disk with more space"
            ) from None
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

    def _record(self, name: str, record: Record) -> RecordPart:
        count = self._reasons
        return RecordPart(
            record=name,
            database=record.database,
            satisfied_by=record.satisfied_by,
            current=record.version.current if record.version else None,
            accepted=record.version.accepted if record.version else (),
            at_least=record.rows.least if record.rows else 1,
            at_most=record.rows.most if record.rows else None,
            changes=Changes(
                create=count[name, "missing"],
                derive_anew=count[name, "outdated"] + count[name, "invalid"],
                add=count[name, "too_few"],
                remove=count[name, "too_many"],
            ),
        )


# --- Reading


@dataclass(frozen=True, slots=True)
class Listed:
    """A session of a worklist: the key, the reason for each record with a gap, and the segment as in `Gap`."""

    session: SessionKey
    reasons: Mapping[str, GapReason]
    segment: str | None = None


_BATCH: Final = b'{"batch":'
_LONGEST_HEADER: Final = MB
L = TypeVar("L", bound=BaseModel)


class Worklist:
    """A complete worklist: the `header`, and the sessions, readable several times."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read the whole file once to find faults; raises WorklistError."""
        self._file = file
        try:
            file.seek(0)
        except OSError:
            raise WorklistError("cannot be read twice: name a file, not a pipe") from None
        self.header = self._read_header(file.readline(_LONGEST_HEADER))
        for _ in self.sessions():
            pass

    def sessions(self) -> Iterator[Listed]:
        """Every session, in order; raises WorklistError for an incomplete or changed file, at the latest at the end."""
        self._file.seek(0)
        line = self._line()
        digest, count, expected = hashlib.sha256(line), 0, 1
        known: dict[tuple[tuple[str, GapReason], ...], Mapping[str, GapReason]] = {}
        while (line := self._line()).startswith(_BATCH):
            digest.update(line)
            batch = self._parsed(Batch, line)
            if batch.batch != expected or batch.size != len(batch.sessions):
                raise self._changed()
            expected += 1
            count += batch.size
            for part in batch.sessions:
                reasons = known.setdefault(tuple(part.reasons.items()), part.reasons)
                yield Listed(self._key(part.session), reasons, part.segment)
        self._check_end(line, digest.hexdigest())
        if (count, expected - 1) != (self.header.sessions, self.header.batches):
            raise self._changed()

    def _line(self) -> bytes:
        line = self._file.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise self._changed()
        return line

    def _check_end(self, line: bytes, digest: str) -> None:
        if not line:
            raise WorklistError(
                "cut off: the last line, with the digest, is missing: copy the file again, or make a new worklist"
            )
        if self._parsed(End, line).digest != f"sha256:{digest}" or self._file.read(1):
            raise self._changed()

    def _read_header(self, line: bytes) -> Header:
        try:
            start = from_json(line)
        except ValueError:  # also beyond a bound of nested lists
            start = None
        if not isinstance(start, dict) or "worklist" not in start:
            raise WorklistError("not a worklist: name a file written by gaps --worklist")
        if start["worklist"] == UNBOUND:
            raise WorklistError(
                f"a worklist of format {UNBOUND} lacks the terms of the config and proves nothing: make a new worklist "
                "with gaps --worklist"
            )
        if start["worklist"] != FORMAT:
            raise WorklistError(
                f"a worklist of format {start['worklist']!r}, but this exporter reads format {FORMAT}: verify with the "
                "exporter version that wrote the worklist, or make a new worklist"
            )
        return self._parsed(Header, line)

    def _parsed(self, kind: type[L], line: bytes) -> L:
        try:
            return kind.model_validate_json(line)
        except ValidationError:
            raise self._changed() from None

    def _changed(self) -> WorklistError:
        return WorklistError("changed after the export: restore the original file, or make a new worklist")

    def _key(self, session: str | Mapping[str, str]) -> SessionKey:
        columns = self.header.key
        named = {columns[0]: session} if isinstance(session, str) else session
        if tuple(named) != columns:
            raise self._changed()
        return tuple(named.values())


# --- Comparing with the config


def pipeline_of(header: Header, pipelines: Mapping[str, Pipeline]) -> Pipeline:
    """The pipeline of a worklist; raises WorklistError if database, window, key or records of the pipeline changed."""
    name = header.pipeline
    pipeline = pipelines.get(name)
    again = "verify with the config of the worklist, or make a new worklist"
    if pipeline is None:
        raise WorklistError(f"the worklist has the pipeline {name}, not in the config{known_names(name, pipelines)}")
    if pipeline.database != header.database:
        raise WorklistError(
            f"the worklist was made with {name}.database = {header.database}; the config now has {pipeline.database}: "
            f"{again}"
        )
    if WindowPart.of(pipeline.window) != header.window:
        raise WorklistError(f"the worklist was made with another window of {name}: {again}")
    if pipeline.sessions.key != header.key:
        then, now = (", ".join(key) for key in (header.key, pipeline.sessions.key))
        raise WorklistError(f"the worklist was made with sessions.key = ({then}); the config now has ({now}): {again}")
    for part in header.records:
        if part.record not in pipeline.records:
            known = known_names(part.record, pipeline.records)
            raise WorklistError(f"the worklist has the record {part.record}, not in {name}{known}: {again}")
    return pipeline


def changed_keys(header: Header, plan: Plan) -> tuple[str, ...]:
    """The keys of the config that decide about gaps and have changed since the worklist was made.

    `plan` has only the records of the worklist.
    """
    return changed_names(header.terms, terms_of(plan.as_written, plan.sections))


def check_identity(header: Header, identity: str | None, others: Mapping[str, str]) -> None:
    """Raises WorklistError if identities of a database are known and differ; `others` by name."""
    own = {header.database: header.identity} if header.identity else {}
    is_now = {header.database: identity} if identity else {}
    if name := another({**header.identities, **own}, {**others, **is_now}):
        raise WorklistError(
            f"the worklist was made from another database than {name} now is: connect to the original "
            "database, or make a new worklist"
        )
