"""What binds a baseline and a worklist to a config: every key that a number may depend on, by its name."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from conftest import TOUR, whole_tour
from pydantic import Field, create_model

from exporter.config.read import parse_config
from exporter.config.whole import CONFIG, MODELS
from exporter.model.sections import Config, Database, Pipeline, Record, Section, Sessions
from exporter.model.terms import FREE, changed_names, digest_of, names_of, terms_of

TEXT = TOUR.read_text()


def config(text: str = TEXT) -> Config:
    return parse_config(text, {"DATABASE_URL": "postgresql://nowhere"})


def terms(config: Config) -> dict[str, str]:
    [pipeline], [database] = config.pipelines.values(), config.databases.values()
    return terms_of(pipeline, {"main": database})


def changed(*changes: tuple[str, str]) -> tuple[str, ...]:
    """The names that differ after changes to the text of the tour."""
    text = TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return changed_names(terms(config()), terms(config(text)))


# --- Every key of the model is bound or free


def places(section: Section, *path: str) -> Iterator[tuple[type[Section], tuple[str, ...], str]]:
    """Every key of a config, and of every section below it: its model, the keys that lead to it, and its name."""
    for name in type(section).model_fields:
        yield type(section), path, name
        value = getattr(section, name)
        inner = {"": value} if isinstance(value, Section) else value if isinstance(value, dict) else {}
        for key, item in inner.items():
            if isinstance(item, Section):
                yield from places(item, *path, name, *([key] if key else []))


def with_value(section: Section, path: tuple[str, ...], value: object) -> Any:
    """The section with another value at a path; nothing of it is checked."""
    name, *rest = path
    if not rest:
        return section.model_copy(update={name: value})
    inner: Any = getattr(section, name)
    if isinstance(inner, dict):
        key, *below = rest
        return section.model_copy(
            update={name: {**inner, key: with_value(inner[key], tuple(below), value) if below else value}}
        )
    return section.model_copy(update={name: with_value(inner, tuple(rest), value)})


def is_free(model: type[Section], path: tuple[str, ...], name: str) -> bool:
    """By what `FREE` says; `collection` has times of measuring alone."""
    return any(name in FREE.get(kind, ()) for kind in model.__mro__) or "limits" in path or "collection" in path


WHOLE = config(whole_tour().replace("        # rows: 2 ", "        rows: {at_least: 2}  # "))
PLACES = [place for place in places(WHOLE) if place[1]]
"""Without the three sections of the file themselves."""


def test_the_config_that_is_walked_has_every_section_of_the_model() -> None:
    walked = {model.__name__ for model, _, _ in PLACES}

    # The parts of a key are one value of it, and thresholds are below the limits.
    assert {model.__name__ for model in MODELS} - walked <= {"Config", "KeyPart"}


@pytest.mark.parametrize(("model", "path", "name"), PLACES, ids=str)
def test_a_key_with_another_value_is_told_by_its_name_unless_it_is_free(
    model: type[Section], path: tuple[str, ...], name: str
) -> None:
    found = changed_names(terms(WHOLE), terms(with_value(WHOLE, (*path, name), "another value")))

    if is_free(model, path, name):
        assert found == ()
        return

    shown = ".".join((*path, name)).removeprefix("pipelines.assessments.")
    assert any(key == shown or key.startswith(f"{shown}.") for key in found), found


def test_what_is_free_is_a_key_and_is_free_on_purpose() -> None:
    assert all(keys <= model.model_fields.keys() for model, keys in FREE.items())
    assert {model.__name__: sorted(keys) for model, keys in FREE.items()} == {
        "Pipeline": ["database", "interval", "labels", "limits", "name", "owner"],
        "Record": ["name"],
        "Database": [
            "busy_when",
            "connect_timeout",
            "lock_timeout",
            "max_connections",
            "max_replica_lag",
            "password_file",
            "statement_timeout",
            "url",
            "url_file",
        ],
    }


@pytest.mark.parametrize("kind", [Pipeline, Sessions, Record, Database])
def test_a_key_that_somebody_adds_is_bound(kind: type[Section]) -> None:
    whole = config()
    [pipeline], [database] = whole.pipelines.values(), whole.databases.values()
    [record, *others] = pipeline.records.values()
    of: dict[type[Section], Section] = {
        Pipeline: pipeline,
        Sessions: pipeline.sessions,
        Record: record,
        Database: database,
    }
    section = of[kind]
    model = create_model(kind.__name__, __base__=type(section), later=(str | None, Field(default=None)))

    def with_later(value: str | None) -> dict[str, str]:
        made: Any = model.model_construct(**dict(section), later=value)
        match kind.__name__:
            case "Pipeline":
                return terms_of(made, {"main": database})
            case "Sessions":
                return terms_of(pipeline.model_copy(update={"sessions": made}), {"main": database})
            case "Record":
                records = {record.name: made, **{other.name: other for other in others}}
                return terms_of(pipeline.model_copy(update={"records": records}), {"main": database})
            case _:
                return terms_of(pipeline, {"main": made})

    assert with_later(None) == terms_of(pipeline, {"main": database})
    [name] = changed_names(with_later(None), with_later("x"))
    assert name.endswith("later")
    assert changed_names(with_later("x"), with_later("y")) == (name,)


def test_sections_by_name_beside_other_values_are_all_told() -> None:
    """As a check that is a text, and one that has keys of its own."""

    class Check(Section):
        sql: str

    class Checked(Pipeline):
        checks: dict[str, str | Check] = Field(default_factory=dict)

    [pipeline] = config().pipelines.values()

    def with_checks(**checks: str | Check) -> dict[str, str]:
        return terms_of(Checked.model_construct(**dict(pipeline), checks=checks))

    before = with_checks(a="true", b=Check(sql="true"))
    assert changed_names(before, with_checks(a="false", b=Check(sql="true"))) == ("checks.a",)
    assert changed_names(before, with_checks(a="true", b=Check(sql="false"))) == ("checks.b.sql",)


# --- What is the same config


@pytest.mark.parametrize(
    "changes",
    [
        [("interval: 30s", "interval: 10s")],
        [("sessions_with_gap: {critical: 0}", "sessions_with_gap: {warning: 5, critical: 100}")],
        [("lock_timeout: 1s", "lock_timeout: 2s")],
        [("    window:", "    # another comment\n    window:")],
        [("satisfied_by: any_version", "satisfied_by: 'any_version'")],
        [("{since: 2025-08-01}", "{since: '2025-08-01T00:00:00Z'}")],
        [("grace: 5m", "grace: 300s")],
    ],
    ids=str,
)
def test_what_measures_the_same_is_the_same(changes: list[tuple[str, str]]) -> None:
    assert changed(*changes) == ()


def test_the_order_of_keys_is_nothing() -> None:
    whole = config()
    [pipeline] = whole.pipelines.values()
    turned = pipeline.model_copy(update={"records": dict(reversed(pipeline.records.items()))})

    assert terms_of(turned) == terms_of(pipeline)
    assert digest_of(terms_of(turned)) == digest_of(terms_of(pipeline))
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})


# --- A grace that is inherited


def test_a_grace_that_records_take_over_is_told_once_and_one_of_their_own_is_theirs() -> None:
    own = ("        created_at: created_at\n", "        created_at: created_at\n        grace: {}\n")

    def with_grace(grace: str) -> tuple[str, str]:
        return own[0], own[1].format(grace)

    assert changed(("grace: 5m", "grace: 30d")) == ("grace",)
    assert changed(with_grace("1h")) == ("records.profiles.grace",)
    assert changed(with_grace("0s")) == ("records.profiles.grace",)
    assert changed(with_grace("5m")) == ()


# --- Names


def test_every_key_has_a_name_whether_it_has_its_default_or_not() -> None:
    whole = config()
    [pipeline], [database] = whole.pipelines.values(), whole.databases.values()

    names = names_of(pipeline, {"main": database})

    assert len(set(names)) == len(names)
    assert terms_of(pipeline, {"main": database}).keys() <= set(names)
    assert {"grace", "sessions.deleted", "records.profiles.valid", "databases.main.row_security"} <= set(names)
    assert CONFIG.model_fields.keys().isdisjoint(names)
    assert pipeline.grace == timedelta(minutes=5)
