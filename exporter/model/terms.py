"""Config -> digests of the keys that affect numbers: the names of changed keys tell two configs apart.

A key counts unless `FREE` lists the key: a new key counts until listed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from exporter.model.sections import Database, Pipeline, Record, Section

FREE: Final[Mapping[type[Section], frozenset[str]]] = {
    # Names, times of measuring, limits, and labels of alerts.
    Pipeline: frozenset({"name", "database", "interval", "limits", "owner", "labels"}),
    Record: frozenset({"name"}),
    # The connection: the identity of the database is compared separately.
    Database: frozenset(
        {
            "url",
            "url_file",
            "password_file",
            "connect_timeout",
            "statement_timeout",
            "lock_timeout",
            "max_replica_lag",
            "max_connections",
            "busy_when",
        }
    ),
}
"""Keys that change no number, by section; `limits` with all keys below."""

INHERITED: Final = frozenset({"grace"})
"""Keys of a pipeline that records inherit."""

Terms = Mapping[str, str]
"""By name of a key, as in `records.invoices.valid`: the beginning of the digest of the value.

A key with the default value has no digest: a version with a new key leaves the digests of old configs unchanged.
"""

NO_DATABASES: Final[Mapping[str, Database]] = {}

_ENOUGH: Final = 16
"""Hexadecimal digits that tell two values apart; the text itself may be a secret, and is never stored."""


def terms_of(pipeline: Pipeline, databases: Mapping[str, Database] = NO_DATABASES) -> dict[str, str]:
    """The terms of a pipeline, and of the databases if given, by name."""
    return {name: digest_of(value)[:_ENOUGH] for name, value, default in _keys(pipeline, databases) if value != default}


def names_of(pipeline: Pipeline, databases: Mapping[str, Database] = NO_DATABASES) -> tuple[str, ...]:
    """The name of every key that counts, with a default value or not."""
    return tuple(name for name, _, _ in _keys(pipeline, databases))


def changed_names(then: Terms, now: Terms) -> tuple[str, ...]:
    """The names of the keys that differ, in order of the config."""
    return tuple(name for name in {**then, **now} if then.get(name) != now.get(name))


def digest_of(value: object) -> str:
    """The SHA-256 of a value as JSON with sorted keys, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    return value.model_dump(exclude_defaults=True) if isinstance(value, Section) else str(value)


def _keys(pipeline: Pipeline, databases: Mapping[str, Database]) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of every key that counts."""
    keys = [*_below(pipeline, ())]
    own = {path[-1]: value for path, value, _ in keys if len(path) == 1}
    for path, value, usual in keys:
        is_inherited = len(path) > 1 and path[-1] in INHERITED
        yield ".".join(path), value, own.get(path[-1]) if is_inherited else usual
    for name, database in databases.items():
        for path, value, usual in _below(database, ("databases", name)):
            yield ".".join(path), value, usual


def _below(value: object, path: tuple[str, ...], usual: object = None) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The same for a value at `path`: for each key of a section, and each section of a mapping."""
    if isinstance(value, Section):
        free = frozenset[str]().union(*(FREE.get(kind, ()) for kind in type(value).__mro__))
        for name, field in type(value).model_fields.items():
            if name not in free:
                default = field.get_default(call_default_factory=True)
                yield from _below(getattr(value, name), (*path, name), default)
    elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
        for name, item in value.items():
            yield from _below(item, (*path, name))
    else:
        yield path, value, usual
