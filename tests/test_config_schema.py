"""What editors are told of a config: they mark no config that the exporter reads, and most that it refuses."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from exporter.config.editor import config_schema
from exporter.config.read import ConfigError, parse_config
from exporter.config.whole import CONFIG, LIMITS, MODELS
from exporter.dimensions import DIMENSIONS
from exporter.model.sections import Section
from exporter.text.times import parse_duration

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "tests" / "configs"
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
SECTIONS: dict[type[Section], dict[str, Any]] = {
    model: SCHEMA if model is CONFIG else SCHEMA["$defs"][model.__name__] for model in MODELS
}

NO_YAML = {
    "anchors_and_aliases": "an alias without its anchor",
    "colon_in_text": "a syntax error",
    "control_character": "no text",
    "indent": "a syntax error",
    "keys_that_are_not_text": "a key that is a list",
    "nested_too_deeply": "endless",
    "quote_not_closed": "a syntax error",
    "tab": "a syntax error",
    "tags": "tags that nobody knows",
    "text_after_quote": "a syntax error",
    "two_documents": "two documents",
    "variable_in_brackets": "a syntax error",
}
"""Bad configs that come to no schema: an editor's YAML reader has refused them."""

ONLY_THE_EXPORTER_KNOWS = {
    "duplicate_keys": "the schema sees one of the two; an editor's YAML reader marks it",
    "limits": "what a limit needs is in another section, and two thresholds are compared",
    "max_age_default": "two durations are compared",
    "max_age_of_a_pipeline": "two durations are compared",
    "variables": "they are filled in when it runs",
}


class EditorLoader(yaml.SafeLoader):
    """Reads a file as an editor does: dates are text, and so is every key.

    Editors read YAML 1.2, where `on`, `yes` and 12:30:00 are text and 1e3 is a number; the exporter reads 1.1.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as yaml has it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def editors_view(text: str) -> Any:
    return yaml.load(text, EditorLoader)  # noqa: S506 - a SafeLoader


def marks(config: Any) -> list[ValidationError]:
    """What an editor marks."""
    return sorted(VALIDATOR.iter_errors(config), key=str)


def texts(folder: str) -> list[Any]:
    return [
        pytest.param(path.read_bytes().decode("utf-8-sig"), id=path.stem)
        for path in sorted((CONFIGS / folder).glob("*.yaml"))
    ]


def bad(name: str) -> str:
    return (CONFIGS / "bad" / f"{name}.yaml").read_bytes().decode()


def bad_names(*without: dict[str, str]) -> list[str]:
    known = {path.stem for path in (CONFIGS / "bad").glob("*.yaml")}
    assert all(names.keys() <= known for names in without)
    return sorted(known.difference(*without))


# The schema itself


def test_the_schema_is_valid_and_says_that_it_is_generated() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert "make generate" in SCHEMA["$comment"]
    assert config_schema() == SCHEMA


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_the_schema_has_every_key_of_the_models_and_no_other(model: type[Section]) -> None:
    section = SECTIONS[model]

    assert set(section["properties"]) - ({"database"} if model is CONFIG else set()) == (
        model.model_fields.keys() - {"name"} | model.renamed.keys()
    )
    assert section["type"] == "object"
    assert section["additionalProperties"] is False


def test_every_section_of_the_schema_is_one_of_the_models() -> None:
    assert SCHEMA["$defs"].keys() == {model.__name__ for model in SECTIONS if model is not CONFIG}


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_what_a_file_must_have_is_what_the_models_demand_and_nothing_else_gives(model: type[Section]) -> None:
    demanded = {name for name, field in model.model_fields.items() if field.is_required()}

    one_of_two = {key for way in SECTIONS[model].get("anyOf", ()) for key in way["required"]}
    given = {"name", "database", "databases", "interval"} | one_of_two
    assert set(SECTIONS[model].get("required", ())) == demanded - given


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_key_is_explained_in_one_line(model: type[Section]) -> None:
    for name, key in SECTIONS[model]["properties"].items():
        section = SCHEMA["$defs"][key["$ref"].rpartition("/")[2]] if "$ref" in key else {}
        text = key.get("description") or section["description"]
        assert text.endswith("."), name
        assert "\n" not in text, name
        assert len(text) <= 140, name


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_defaults_are_those_of_the_models_and_are_accepted(model: type[Section]) -> None:
    for name, key in SECTIONS[model]["properties"].items():
        if "default" not in key:
            continue
        meant = model.model_fields[name].get_default()
        shown = key["default"]
        assert (parse_duration(shown) if isinstance(meant, timedelta) else type(meant)(shown)) == meant
        assert marks_of_key(model, name, shown) == []
        assert not shown or f"Default: {shown}." in key["description"]


def marks_of_key(model: type[Section], name: str, value: object) -> list[ValidationError]:
    return list(VALIDATOR.evolve(schema=SECTIONS[model]["properties"][name]).iter_errors(value))


def test_every_default_of_the_models_is_in_the_schema_but_the_inherited() -> None:
    missing = [
        f"{model.__name__}.{name}"
        for model, section in SECTIONS.items()
        for name, field in model.model_fields.items()
        if field.default is not None and not field.is_required() and field.default_factory is None
        if "default" not in section["properties"][name]
    ]

    assert missing == ["Record.grace"]


# The corpus


@pytest.mark.parametrize("text", [*texts("good"), pytest.param((ROOT / "config.yaml").read_text(), id="the tour")])
def test_an_editor_marks_nothing_in_a_good_config(text: str) -> None:
    assert marks(editors_view(text)) == []


@pytest.mark.parametrize("name", bad_names(NO_YAML, ONLY_THE_EXPORTER_KNOWS))
def test_an_editor_marks_a_bad_config(name: str) -> None:
    assert marks(editors_view(bad(name))) != []


@pytest.mark.parametrize("name", bad_names(NO_YAML))
def test_an_editor_marks_nothing_that_the_exporter_does_not_complain_of(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(bad(name), {"DATABASE_URL": "postgresql://shop.example/shop"})
    complaints = [problem.path.replace('"', "") for problem in caught.value.problems]

    for mark in marks(editors_view(bad(name))):
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in mark.absolute_path)[1:]
        assert any(complaint.startswith(place) for complaint in complaints), mark.message


@pytest.mark.parametrize("name", NO_YAML)
def test_what_is_not_yaml_does_not_come_to_the_schema(name: str) -> None:
    with pytest.raises((yaml.YAMLError, RecursionError)):
        editors_view(bad(name))


@pytest.mark.parametrize("name", ONLY_THE_EXPORTER_KNOWS)
def test_what_only_the_exporter_knows_is_no_shape(name: str) -> None:
    assert marks(editors_view(bad(name))) == []


def test_the_tour_names_its_schema_for_editors() -> None:
    first, *_ = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()

    assert (ROOT / first.removeprefix("# yaml-language-server: $schema=")).samefile(ROOT / "docs/config.schema.json")


# Any config

KEYS = [key for dimension in DIMENSIONS for key in dimension.keys]
THRESHOLDS: dict[str, dict[str, Any]] = {
    "count": {"warning": 0, "critical": 10},
    "ratio": {"critical": 0.25, "min_sessions": 20},
    "seconds": {"warning": "15m", "critical": "1h"},
}
WHOLE: dict[str, Any] = {
    "databases": {
        "shop": {
            "url": "postgresql://reader@shop.example:5432/shop",
            "password_file": "/run/secrets/password",
            "connect_timeout": "5s",
            "statement_timeout": "30s",
            "lock_timeout": "1s",
            "max_replica_lag": "5m",
            "max_connections": 4,
            "busy_when": "pg_is_in_recovery()",
            "row_security": "strict",
            "search_path": ["app"],
            "allow_superuser": False,
        },
        "billing": {"url_file": "/run/secrets/url"},
    },
    "collection": {
        "interval": "30s",
        "max_age": "1h",
        "max_label_values": 50,
        "mode": "auto",
        "pause_file": "/run/pause",
        "duty": "5%",
        "state_dir": "/var/lib/x",
    },
    "pipelines": {
        "orders": {
            "database": "shop",
            "owner": "data",
            "labels": {"tier": "gold", "team_2": "blue"},
            "interval": "1m",
            "window": {"last": "90d"},
            "grace": "5m",
            "sessions": {
                "table": "public.orders",
                "key": "id",
                "status": "status",
                "started_at": "created_at",
                "completed_at": "paid_at",
                "due_at": "due_at",
                "timezone": "Europe/Berlin",
                "where": "status <> 'test'",
                "computed": {"began": "to_timestamp(epoch)", "Due Day": "(select 1)"},
                "eligible": "status = 'paid'",
                **{key.name: key.example for key in KEYS if key.section == "sessions"},
            },
            "records": {
                "invoices": {
                    "table": "invoices",
                    "session_key": "order_id",
                    "created_at": "created_at",
                    "timezone": "UTC",
                    **{key.name: key.example for key in KEYS if key.section == "record"},
                    "version": {"column": "v", "current": "v2", "accepted": ["v1"], "current_since": "2025-08-01"},
                    "accepted_values": {"kind": ["paper", ""]},
                    "valid": "amount > 0",
                    "where": "deleted_at is null",
                    "computed": {"number": "body ->> 'number'"},
                    "required_when": "amount > 0",
                    "satisfied_by": "any_version",
                    "rows": {"at_least": 2, "at_most": "expected"},
                    "grace": "1h",
                },
                "parcels": {
                    "table": "parcels",
                    "session_key": {"column": "order_id", "cast": "uuid"},
                    "rows": 3,
                    "unique": "order_id",
                },
                "settled": {"exists": "amount = 0", "required_when": "amount > 0", "grace": "1h"},
            },
            "cohort": {"window": "24h", "maturity": "1h"},
            "limits": {limit.name: THRESHOLDS[limit.unit] for limit in LIMITS},
        },
        "bills": {
            "database": "billing",
            "window": {"since": "2025-08-01"},
            "sessions": {
                "table": "bills",
                "key": ["tenant", "id"],
                "started_at": "created_at",
                "completed_at": "sent_at",
                "eligible": "true",
            },
            "records": {
                "payments": {
                    "table": "payments",
                    "session_key": ["tenant", {"column": "bill"}],
                    "rows": {"exactly": "payments"},
                }
            },
        },
    },
}
"""Every key that there is, in all its forms."""

FILLED = {
    "URL": "postgresql://x",
    "TIME": "5m",
    "DATE": "2025-08-01",
    "NUMBER": "7",
    "NAME": "orders",
    "ANY": "any_version",
    "STRICT": "strict",
}
VARIABLES = st.sampled_from([f"${{{name}}}" for name in FILLED] + ["${UNSET:-5m}", "${U:-2025}-08-01", "$$", "$${"])
WORDS = st.text(st.sampled_from("azé09\"'.;,()- _$\n\t:"), max_size=6)
DURATIONS = st.from_regex(r"\A([0-9]{1,3}(ms|s|m|h|d|w)){1,3}\Z")
MOMENTS = st.datetimes(timezones=st.sampled_from([None, UTC])).map(datetime.isoformat)
NUMBERS = st.one_of(st.integers(-5, 1005), st.integers(0, 1005).map(str), st.booleans(), st.floats(0, 9), st.none())
LEAVES = st.one_of(WORDS, st.text(max_size=4), VARIABLES, DURATIONS, MOMENTS, NUMBERS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["column", "cast", "since", "last", "kind", "url"]), inner, max_size=2),
    ),
    max_leaves=3,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(place: tuple[Any, ...], value: Any) -> Any:
    """The whole config with something else at one place."""
    config = json.loads(json.dumps(WHOLE))
    *path, last = place
    section = config
    for step in path:
        section = section[step]
    section[last] = value
    return config


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([place for place in places(WHOLE) if place]), VALUES)
@example(("collection", "duty"), "5%")
@example(("databases", "shop", "url"), "postgres://")
@example(("pipelines", "orders", "sessions", "table"), '"My Schema"."Or""ders"')
@example(("pipelines", "orders", "sessions", "table"), "größe.å$1")
@example(("pipelines", "orders", "sessions", "key"), '"')
@example(("pipelines", "orders", "sessions", "eligible"), "a; -- b")
@example(("pipelines", "orders", "records", "parcels", "session_key", "cast"), "numeric(10, 2)")
@example(("pipelines", "orders", "records", "parcels", "session_key", "cast"), '"My".type')
@example(("pipelines", "bills", "window", "since"), "20250801")
@example(("pipelines", "bills", "window", "since"), "2025-W31-5")
@example(("pipelines", "bills", "window", "since"), "2025-08-01 12:00")
def test_an_editor_marks_nothing_that_the_exporter_reads(place: tuple[Any, ...], value: Any) -> None:
    config = changed(place, value)
    text = json.dumps(config, ensure_ascii=False)
    try:
        parse_config(text, FILLED)
    except ConfigError:
        return

    assert marks(config) == []


def test_every_form_of_every_key_is_read_and_marked_nowhere() -> None:
    parse_config(json.dumps(WHOLE), {})

    assert marks(WHOLE) == []
    steps = {step for place in places(WHOLE) for step in place}
    keys = {key: made for section in SECTIONS.values() for key, made in section["properties"].items()}
    assert steps >= {key for key, made in keys.items() if not made.get("deprecated")}


@pytest.mark.parametrize(
    "place", [place for place in places(WHOLE) if place], ids=lambda place: ".".join(map(str, place))
)
def test_a_value_of_the_wrong_kind_is_marked_wherever_it_is(place: tuple[Any, ...]) -> None:
    assert marks(changed(place, None)) != []
    assert place[-1] == "allow_superuser" or marks(changed(place, True)) != []
    assert marks(changed(place, [[]])) != []


@pytest.mark.parametrize("since", ["2025-08-01", "2025-8-1 2:00:00", "2025-08-01T12:00:00Z", "2025-08-01 12:00:00 +2"])
def test_dates_are_marked_nowhere_in_the_forms_that_yaml_knows(since: str) -> None:
    text = json.dumps(WHOLE).replace('"2025-08-01"}, "sessions"', f'{since}}}, "sessions"')
    parse_config(text, {})

    assert editors_view(text)["pipelines"]["bills"]["window"]["since"] == since
    assert marks(editors_view(text)) == []


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("collection", "interval"), "0s"),
        (("collection", "interval"), "5min"),
        (("collection", "max_label_values"), 0),
        (("collection", "duty"), "ten"),
        (("databases", "shop", "url"), "shop.example:5432/shop"),
        (("databases", "shop", "row_security"), "off"),
        (("pipelines", "orders", "limits", "sessions_with_gap"), {}),
        (("pipelines", "orders", "limits", "gap_ratio"), {"warning": 2}),
        (("pipelines", "orders", "limits", "gap_age"), {"warning": 5}),
        (("pipelines", "orders", "sessions", "timezone"), "+02:00"),
        (("pipelines", "orders", "sessions", "timezone"), "UTC+2"),
        (("pipelines", "orders", "sessions", "timezone"), "Berlin10"),
        (("databases", "shop", "url_file"), "/run/secrets/url"),
        (("databases", "my db"), {}),
        (("pipelines", "orders", "window", "since"), "2025-08-01"),
        (("pipelines", "orders", "sessions", "table"), "a.b.c"),
        (("pipelines", "orders", "sessions", "key"), '"id"'),
        (("pipelines", "orders", "sessions", "key"), []),
        (("pipelines", "orders", "sessions", "eligible"), "true; "),
        (("pipelines", "orders", "records", "invoices", "satisfied_by"), "newest"),
        (("pipelines", "orders", "records", "invoices", "rows"), 0),
        (("pipelines", "orders", "records", "invoices", "rows"), '"expected"'),
        (("pipelines", "orders", "records", "invoices", "rows"), {}),
        (("pipelines", "orders", "records", "invoices", "rows"), {"exactly": 2, "at_most": 2}),
        (("pipelines", "orders", "records", "invoices", "name"), "invoices"),
        (("pipelines", "orders", "records", "invoices", "exists"), "true"),
        (("pipelines", "orders", "records", "settled", "table"), "settled"),
        (("pipelines", "orders", "records", "settled", "created_at"), "at"),
        (("pipelines", "orders", "records", "settled"), {"required_when": "true"}),
        (("pipelines", "bills", "window", "since"), "2025-13-01"),
        (("database",), {}),
    ],
)
def test_what_the_exporter_refuses_is_marked(place: tuple[Any, ...], wrong: Any) -> None:
    config = changed(place, wrong)
    with pytest.raises(ConfigError):
        parse_config(json.dumps(config), {})

    assert marks(config) != []


def test_two_databases_must_be_told_apart() -> None:
    config = changed(
        ("pipelines", "orders"), {k: v for k, v in WHOLE["pipelines"]["orders"].items() if k != "database"}
    )

    assert [mark.message for mark in marks(config)] == ["'database' is a required property"]
