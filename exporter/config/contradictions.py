"""Contradictions between keys of a config."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from exporter.model.sections import SEVERITIES, CollectionSettings, Key
from exporter.model.values import NAME, KeyPath
from exporter.text.names import known_names
from exporter.text.times import parse_duration

_INTERVAL: Final[timedelta] = CollectionSettings.model_fields["interval"].default
_MAX_AGE: Final[timedelta] = CollectionSettings.model_fields["max_age"].default

Needs = Mapping[str, tuple[tuple[str, ...], ...]]


def contradictions(config: object, needs: Needs, keys: Sequence[Key[Any]] = ()) -> Iterator[tuple[KeyPath, str]]:
    """The contradictions between keys: path and message, also if other values are invalid.

    `config` is the input of the validation, so that one run reports every mistake.  `needs` has for a limit the paths
    of keys in the pipeline without which the limit would judge nothing.  `keys` are those of the dimensions.
    """
    for path, database in _mappings(config, "databases", "*"):
        if {"url", "url_file"} <= database.keys():
            yield (*path, "url_file"), "excludes url: remove one of the two"
    max_age = _MAX_AGE
    for path, collection in _mappings(config, "collection"):
        max_age = _duration(collection.get("max_age", max_age), timedelta.max)
        if max_age <= _duration(collection.get("interval", _INTERVAL), timedelta(0)):
            key = "max_age" if "max_age" in collection else "interval"
            yield (*path, key), _WITHDRAWN
            max_age = timedelta.max
    databases = dict(_mappings(config, "databases")).get(("databases",), {})
    for path, pipeline in _mappings(config, "pipelines", "*"):
        wanted = pipeline.get("database")
        if databases and isinstance(wanted, str) and wanted not in databases:
            yield (
                (*path, "database"),
                f"is not a database of this file{known_names(wanted, filter(NAME.fullmatch, databases))}",
            )
        if _duration(pipeline.get("interval"), timedelta(0)) >= max_age:
            yield (*path, "interval"), f"collection.{_WITHDRAWN}"
        for place, window in _mappings(pipeline, "window"):
            if ("since" in window) == ("last" in window):
                yield (
                    (*path, *place),
                    "must have exactly one of since (a date) and last (a duration): write one of the two",
                )
        width = _width(pipeline.get("sessions"), "key")
        yield from _session_contradictions(pipeline, path, keys)
        for place, record in _mappings(pipeline, "records", "*"):
            yield from _database_contradictions(record, (*path, *place), pipeline, databases)
            found = _width(record, "session_key")
            if width and found and width != found:
                yield (
                    (*path, *place, "session_key"),
                    f"has {_columns(found)}, sessions.key has {_columns(width)}: name {_columns(width)} in order",
                )
            yield from _version_contradictions(record, (*path, *place))
            yield from _condition_contradictions(record, (*path, *place))
        for place, limits in _mappings(pipeline, "limits"):
            yield from _limit_contradictions(pipeline, limits, (*path, *place), needs)


def _database_contradictions(
    record: Mapping[str, Any], path: KeyPath, pipeline: Mapping[str, Any], databases: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    wanted = record.get("database")
    if not isinstance(wanted, str) or not databases:
        return
    own = pipeline.get("database")
    if wanted not in databases:
        known = known_names(wanted, filter(NAME.fullmatch, (name for name in databases if name != own)))
        yield (*path, "database"), f"is not a database of this file{known}"
    elif wanted == own:
        yield (*path, "database"), "is the database of the pipeline: remove the key"


def _session_contradictions(
    pipeline: Mapping[str, Any], path: KeyPath, keys: Sequence[Key[Any]]
) -> Iterator[tuple[KeyPath, str]]:
    for key in keys:
        for place, sessions in _mappings(pipeline, "sessions") if key.section == "sessions" else ():
            for below, needed, remedy in key.needs:
                for inside, section in _mappings(sessions, key.name):
                    if below in section and needed not in sessions:
                        yield (*path, *place, *inside, below), f"needs sessions.{needed}: {remedy}"


def _limit_contradictions(
    pipeline: Mapping[str, Any], limits: Mapping[str, Any], path: KeyPath, needs: Needs
) -> Iterator[tuple[KeyPath, str]]:
    for name, thresholds in limits.items():
        if not isinstance(thresholds, dict):
            continue
        if thresholds.keys().isdisjoint(SEVERITIES):
            yield (*path, name), "needs a threshold: give warning, critical or both"
        for keys in needs.get(name, ()):
            if not any(keys[-1] in section for _, section in _mappings(pipeline, *keys[:-1])):
                shown = ".".join("NAME" if key == "*" else key for key in keys)
                yield (*path, name), f"would judge nothing: add {shown} to this pipeline, or remove the limit"


WITH_ROWS: Final = frozenset(
    {
        "created_at",
        "database",
        "timezone",
        "version",
        "accepted_values",
        "valid",
        "where",
        "satisfied_by",
        "rows",
        "unique",
        "computed",
    }
)
"""Keys of a record that are about rows of its table."""


_NO_ROWS: Final = (
    "is about rows of a table, and exists is a condition of the session: remove the key, or replace exists by table "
    "and session_key"
)


def _condition_contradictions(record: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if "exists" not in record:
        return
    for key in record:
        if key in ("table", "session_key"):
            yield (*path, key), "excludes exists: keep either table and session_key, or exists"
        elif key in WITH_ROWS:
            yield (*path, key), _NO_ROWS


def _version_contradictions(record: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for place, version in _mappings(record, "version"):
        accepted = version.get("accepted")
        if isinstance(accepted, list) and version.get("current") and version["current"] in accepted:
            yield (*path, *place, "accepted"), "has the current version: remove it, the current version always counts"
        if "current_since" in version and "created_at" not in record:
            yield (
                (*path, *place, "current_since"),
                "needs created_at beside version: name the column with the time of the write",
            )


_WITHDRAWN: Final = (
    f"max_age (default {_MAX_AGE.total_seconds():.0f}s) must be longer than interval: "
    "otherwise the values are withdrawn between two collections"
)


def _mappings(value: object, *keys: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Every mapping at `keys` (`*`: at any key), with its path; `Config` reports values that are not mappings."""
    if not isinstance(value, dict):
        return
    if not keys:
        yield (), value
        return
    for key in value if keys[0] == "*" else keys[:1]:
        for path, found in _mappings(value.get(key), *keys[1:]):
            yield (key, *path), found


def _duration(value: object, unreadable: timedelta) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError:
        return unreadable


def _width(section: object, key: str) -> int:
    """The number of columns of a key; 0 if unknown."""
    value = section.get(key) if isinstance(section, dict) else None
    if isinstance(value, list):
        return len(value)
    return 0 if value is None else 1


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"
