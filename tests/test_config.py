"""A config is read whole or refused whole, with every mistake named in its place and no secret in any message.

`configs/good` must be read.  Each `configs/bad/NAME.yaml` must be refused with the very text of `NAME.txt`.
"""

import errno
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from exporter.config.read import MAX_DEPTH, ConfigError, Problem, load_config, parse_config
from exporter.config.whole import MODELS
from exporter.model.sections import CollectionSettings, Config, KeyPart
from exporter.model.sql import TableName
from exporter.text.times import parse_duration, parse_moment

CONFIGS = Path(__file__).with_name("configs")
TOUR = Path(__file__).parents[1] / "config.yaml"
PASSWORD = "hunter2"
ENVIRON = {
    "DATABASE_URL": "postgresql://reader@shop.example:5432/shop",
    "EMPTY": "",
    "STATUS": "paid",
    "URL_WITH_LINE_BREAK": "postgresql://reader@shop.example/shop\n",
}
PIPELINE = """
pipelines:
  orders:
    window: {last: 90d}
    sessions:
      table: orders
      key: id
      status: status
      started_at: created_at
      completed_at: paid_at
      eligible: status = 'paid'
    records:
      invoices:
        table: invoices
        session_key: order_id
"""


def good(name: str) -> Config:
    return load_config(CONFIGS / "good" / f"{name}.yaml", ENVIRON)


def refusal(text: str, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, ENVIRON if environ is None else environ)
    return caught.value


def read(text: str) -> Config:
    return parse_config(text, ENVIRON)


def named(folder: str, suffix: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / folder).glob(f"*{suffix}"))


# The corpus


@pytest.mark.parametrize("name", named("good", ".yaml"))
def test_a_good_config_is_read(name: str) -> None:
    assert good(name).pipelines


@pytest.mark.parametrize("name", named("bad", ".yaml"))
def test_a_bad_config_is_refused_with_this_very_text(name: str) -> None:
    source = f"{name}.yaml"
    text = (CONFIGS / "bad" / source).read_bytes().decode()

    with pytest.raises(ConfigError) as caught:
        parse_config(text, ENVIRON, source)

    # Which keys a section has is the dimensions' business; that they are named is held below.
    shown = re.sub(r"\(known: (?!main\)).*?\)", "(known: …)", f"{caught.value}\n")
    assert shown == (CONFIGS / "bad" / f"{name}.txt").read_text(encoding="utf-8")


def test_an_unknown_key_is_answered_with_those_that_are_known() -> None:
    error = refusal("database: {}" + PIPELINE.replace("last: 90d", "last: 90d, sicne: 2025-01-01"))

    assert [problem.message for problem in error.problems] == ["unknown key; did you mean since? (known: last, since)"]


def test_every_bad_config_has_its_text_and_every_text_its_config() -> None:
    assert named("bad", ".yaml") == named("bad", ".txt")
    assert len(named("bad", ".yaml")) >= 25


def test_problems_come_in_the_order_of_the_file() -> None:
    lines = [problem.line or 0 for problem in refusal((CONFIGS / "bad" / "many_mistakes.yaml").read_text()).problems]

    assert lines == sorted(lines)
    assert len(lines) > 20


def test_mistakes_in_one_line_come_in_its_order() -> None:
    error = refusal("database: {lock_timeout: 0s, urll: x, connect_timeout: 0s}" + PIPELINE)

    assert [problem.path for problem in error.problems] == [
        "database.lock_timeout",
        "database.urll",
        "database.connect_timeout",
    ]


# The tour that operators copy


def test_the_tour_is_read() -> None:
    config = load_config(TOUR, ENVIRON)

    assert config.databases["main"].url == ENVIRON["DATABASE_URL"]
    assert set(config.pipelines["assessments"].records) == {"profiles", "fc_scores"}


def test_the_tour_shows_every_key() -> None:
    text = TOUR.read_text(encoding="utf-8")
    keys = {key for model in MODELS for key in model.model_fields} - {"name"}

    assert [key for key in sorted(keys) if not re.search(rf"\b{key}:", text)] == []


# What is read


def test_shorthand_and_defaults() -> None:
    config = good("minimal")
    pipeline = config.pipelines["orders"]

    assert list(config.databases) == ["main"]
    assert config.collection == CollectionSettings()
    assert (pipeline.name, pipeline.database, pipeline.interval) == ("orders", "main", timedelta(seconds=30))
    assert pipeline.sessions.key == ("id",)
    assert pipeline.records["invoices"].name == "invoices"
    assert pipeline.records["invoices"].session_key == (KeyPart(column="order_id"),)
    assert pipeline.records["invoices"].grace == timedelta(0)


def test_without_a_url_the_variables_of_postgresql_decide() -> None:
    assert good("pg_variables_only").databases["main"].url is None


def test_each_pipeline_has_its_database_and_its_interval() -> None:
    config = good("several_databases")

    assert config.databases["shop"].connect_timeout == timedelta(milliseconds=500)
    assert config.pipelines["orders"].database == "shop"
    assert config.pipelines["orders"].interval == timedelta(minutes=1)
    assert config.pipelines["invoices"].interval == timedelta(minutes=5)
    assert "-- the rest is a draft\nand not test" in config.pipelines["invoices"].sessions.eligible


def test_names_are_read_as_sql_reads_them() -> None:
    pipeline = good("quoted_names_and_keys").pipelines["orders"]
    record = pipeline.records["invoices"]

    assert pipeline.sessions.table == TableName("My Schema", 'Or"ders')
    assert record.table == TableName("public", "invoices")
    assert pipeline.sessions.key == ("tenant", "Order No.")
    assert record.session_key == (KeyPart(column="tenant", cast="uuid"), KeyPart(column="order_no"))
    assert pipeline.window.since == datetime(2025, 8, 1, tzinfo=UTC)


def test_variables_are_filled_in_and_two_dollars_are_one() -> None:
    config = good("environment")
    pipeline = config.pipelines["orders"]

    assert pipeline.window.last == timedelta(days=30)
    assert pipeline.sessions.eligible == "status = 'paid' and price = '$5' and note ~ '^a$'"
    assert pipeline.records["invoices"].where == "note <> '${DATABASE_URL}' and kind <> ''"
    assert config.collection.max_label_values == 7


@pytest.mark.parametrize("value", ["a: 1", "[x]", "*x", "!x", "x # y", "x\n    y: z", "${STATUS}", "$"])
def test_a_variable_fills_in_text_and_never_structure(value: str) -> None:
    text = "database: {}" + PIPELINE.replace("status = 'paid'", "${V}")

    assert parse_config(text, {"V": value}).pipelines["orders"].sessions.eligible == value


def test_a_record_has_the_grace_of_its_pipeline_unless_it_has_its_own() -> None:
    records = good("inherited_grace").pipelines["orders"].records

    assert {name: record.grace for name, record in records.items()} == {
        "invoices": timedelta(minutes=5),
        "parcels": timedelta(days=2),
    }


def test_versions_stay_as_they_are_written() -> None:
    version = good("versions_as_text").pipelines["orders"].records["invoices"].version

    assert version is not None
    assert (version.current, *version.accepted) == ("1.10", "true", "null", "2025-08-01", "1e3", "v1", "1.9")


def test_the_empty_text_can_be_an_accepted_value() -> None:
    assert good("unversioned_record").pipelines["orders"].records["invoices"].accepted_values == {
        "kind": ("paper", "", "1.10")
    }


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(good("minimal").collection, "max_label_values", 5)  # noqa: B010 - mypy knows that it is frozen


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1ms", timedelta(milliseconds=1)),
        ("30s", timedelta(seconds=30)),
        ("1h30m", timedelta(minutes=90)),
        ("2w1d", timedelta(days=15)),
        ("0s", timedelta(0)),
        ("36500d", timedelta(days=36500)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "value",
    ["", "5", "-5m", "5 m", "5min", "5M", "1.5h", "٣s", "5m ", "9" * 5000 + "s", "9" * 400 + "ms", 5, True, None],
)
def test_what_is_no_duration_is_refused_in_our_words(value: object) -> None:
    with pytest.raises(ValueError, match=r"^(is not a duration|needs a unit|is too long)"):
        parse_duration(value)


@pytest.mark.parametrize(
    "value", ["2025-08-01", "2025-08-01 00:00", "2025-08-01T02:00:00+02:00", datetime(2025, 8, 1, tzinfo=UTC).date()]
)
def test_moments_are_in_utc(value: object) -> None:
    assert parse_moment(value) == datetime(2025, 8, 1, tzinfo=UTC)


# What is refused


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Etc/GMT-2", "EST5EDT", "GMT0", "GB-Eire", "NZ-CHAT", "W-SU", "UTC"])
def test_the_name_of_a_time_zone_is_read(zone: str) -> None:
    config = read("database: {}" + PIPELINE.replace("key: id", f"key: id\n      timezone: {zone}"))

    assert config.pipelines["orders"].sessions.timezone == zone


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        *(
            (zone, "is an abbreviation")
            for zone in ("IST", "CST", "CET", "EET", "MET", "EST", "mst", "Pst", "BST", "AEST")
        ),
        *(
            (zone, "is an offset")
            for zone in ("UTC+2", "Europe/Berlin3", "America/Lima5", "GMT+14x9", "EST5", "Etc/GMT-123")
        ),
        *((zone, "is not the name") for zone in ("+02:00", "Europe Berlin", "<+02>-2")),
    ],
)
def test_a_zone_is_a_name_of_the_zone_database(zone: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read("database: {}" + PIPELINE.replace("key: id", f"key: id\n      timezone: '{zone}'"))


def test_an_unset_variable_is_reported_once_however_often_it_is_used() -> None:
    text = "database: {url: '${NO_URL}', url_file: '${NO_URL}'}" + PIPELINE.replace("90d", "'${NO_URL}'")

    assert str(refusal(text)).count("NO_URL is not set") == 1


def test_an_inherited_mistake_is_reported_once_where_it_is_written() -> None:
    text = "database: {}\ncollection: {interval: soon}" + PIPELINE.replace("    window", "    grace: 5\n    window")

    assert [problem.path for problem in refusal(text).problems] == ["collection.interval", "pipelines.orders.grace"]


def test_max_age_must_be_longer_than_interval_even_by_default() -> None:
    assert "must be longer than interval" in str(refusal("database: {}\ncollection: {max_age: 30s}" + PIPELINE))
    assert read("database: {}\ncollection: {max_age: 31s}" + PIPELINE).collection.max_age == timedelta(seconds=31)


def test_what_cannot_be_read_contradicts_nothing() -> None:
    text = "database: {}\ncollection: {max_age: soon}" + PIPELINE.replace("    window", "    interval: 1h\n    window")
    text += "        version: {column: version, current: '${NO_A}', accepted: ['${NO_B}']}"

    assert [problem.path.rpartition(".")[2] for problem in refusal(text).problems] == [
        "max_age",
        "current",
        "accepted[0]",
    ]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{a: [", "!!x [", "&a ["])
def test_a_file_of_any_depth_is_refused_and_breaks_nothing(opening: str) -> None:
    assert f"more than {MAX_DEPTH} levels: remove levels" in str(refusal(opening * 20_000))


def test_a_config_is_far_from_the_greatest_depth() -> None:
    def depth(value: Any) -> int:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return 1 + max(map(depth, children), default=0)

    assert depth(yaml.safe_load(TOUR.read_text(encoding="utf-8"))) <= MAX_DEPTH // 2


@pytest.mark.parametrize(
    "text", ["&a [*a]", "a: &a {b: *a}", "a: *b", "*a : b", "? *a\n: b", "&a a: &a b", "a: &a [x]\nb: &b [*a, *a]"]
)
def test_aliases_cannot_make_a_file_larger_or_endless(text: str) -> None:
    assert "anchors (&) and aliases (*) are not supported" in str(refusal(text))


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\x85\x9b", "\ud800", "\ufffe"])
def test_characters_that_are_no_text_are_refused_with_their_line(character: str) -> None:
    (problem,) = refusal(f"database: {{}}\n# {character}").problems

    assert problem.line == 2
    assert re.search(r"U\+[0-9A-F]{4}", problem.message)


def test_a_key_from_the_file_cannot_forge_a_line_of_the_message() -> None:
    error = refusal('"a\\nline 1: all is well\\e[2J": 1\n')

    assert len(str(error).splitlines()) == 1 + len(error.problems)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("environ", [{}, {"V": ""}, {"V": "a"}])
@pytest.mark.parametrize(
    "text", ["${V}", "${V", "${", "$", "${V:-", "${V:-}", "${}", "$${V}", "${V:-a}b}", "${1}", "${V:=a}"]
)
def test_any_dollar_is_read_or_refused(text: str, environ: dict[str, str]) -> None:
    config = "database: {}" + PIPELINE.replace("status = 'paid'", f'"{text}"')
    try:
        assert parse_config(config, environ).pipelines["orders"].sessions.eligible
    except ConfigError as error:
        assert [problem.path for problem in error.problems] == ["pipelines.orders.sessions.eligible"]  # noqa: PT017


# No secret is shown


@pytest.mark.parametrize(
    "url",
    [
        f"shop:{PASSWORD}@shop.example/shop",
        f'"postgresql://shop:{PASSWORD}@shop.example/shop\\n"',
        f"postgresql://shop:{PASSWORD}${{NO_SUCH}}@shop.example/shop",
        f"postgresql://shop:${{{PASSWORD}-}}@shop.example/shop",
        f"'postgresql://shop:{PASSWORD}${{'",
        f"postgresql://shop:{PASSWORD}: @shop.example/shop",
        f"!{PASSWORD}",
        f"!{PASSWORD}!x y",
        f"&{PASSWORD} x",
        f"*{PASSWORD}",
        f"'{PASSWORD}",
        f'"\\{PASSWORD}"',
        f"[{PASSWORD}]",
        f"{{postgresql://shop:x,{PASSWORD}@shop.example/shop}}",
        f"{{? [{PASSWORD}] : 1}}",
        f"\n      postgresql://shop:{PASSWORD}@shop.example/shop: 1",
        "0x68756e746572",
        "2025-08-01",
    ],
)
def test_no_message_shows_a_part_of_a_url(url: str) -> None:
    error = refusal(f"databases:\n  main:\n    lock_timeout: 0s\n    url: {url}\n" + PIPELINE)

    assert not re.search(f"{PASSWORD}|unter2|0x687|2025-08-01", str(error))
    assert error.__cause__ is None


def test_no_message_shows_a_url_that_stands_where_a_key_should() -> None:
    assert PASSWORD not in str(refusal(f"database: {{postgresql://shop:{PASSWORD}@shop.example/shop}}" + PIPELINE))
    text = f"databases: {{? 'postgresql://{PASSWORD}@shop.example/shop' : {{}}, b: {{}}}}{PIPELINE}    database: c"
    assert PASSWORD not in str(refusal(text))


LEAVES = """
databases:
  a: {url: V, url_file: V, password_file: V, row_security: V, x: V}
  c: {connect_timeout: V, statement_timeout: V, lock_timeout: V}
  b: V
collection: {interval: V, max_age: V, max_label_values: V, duty: V, x: V}
pipelines:
  a:
    database: V
    interval: V
    window: {since: V, last: V, x: V}
    grace: V
    sessions: {table: V, key: V, status: V, started_at: V, completed_at: V, where: V, eligible: V, checks: V, x: V}
    records:
      a:
        table: V
        session_key: {column: V, cast: V, x: V}
        created_at: V
        version: {column: V, current: V, accepted: [V], current_since: V, x: V}
        accepted_values: {a: [V], b: V}
        valid: V
        where: V
        required_when: V
        satisfied_by: V
        rows: {exactly: V, at_least: V, at_most: V, x: V}
        grace: V
        unique: V
      d: {exists: V, required_when: V, table: V}
      b: {table: V, session_key: [V, V], version: {current: V, accepted: V}, accepted_values: V}
      c: V
    limits: V
  b: V
"""


@pytest.mark.parametrize(
    "value", [f"x '{PASSWORD}\n;", f"{PASSWORD}.a.b", f'"{PASSWORD}"', f"\0{PASSWORD}", f"\udce4{PASSWORD}"]
)
def test_no_message_shows_what_the_environment_fills_in_wherever_it_is_used(value: str) -> None:
    error = refusal(re.sub(r"\bV\b", '"${SECRET}"', LEAVES), {"SECRET": value})

    assert len(error.problems) > 30
    assert PASSWORD not in str(error)


def test_a_config_does_not_show_its_urls() -> None:
    config = read(f"database: {{url: 'postgresql://shop:{PASSWORD}@shop.example/shop'}}" + PIPELINE)

    assert config.databases["main"].url is not None
    assert PASSWORD not in repr(config)


# The file itself


def test_a_missing_file_names_the_flag() -> None:
    with pytest.raises(ConfigError, match=r"^no\.yaml: 1 problem\n  cannot be read .*--config\.file"):
        load_config(Path("no.yaml"), {})


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})


def test_a_file_that_may_not_be_read_names_the_permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match=r"Permission denied.*check its permissions"):
        load_config(TOUR, {})


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("# Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 4"):
        load_config(path, {})


def test_a_problem_of_the_whole_file_has_no_place() -> None:
    assert refusal("").problems == (Problem("", "is empty: start from the commented example config.yaml"),)


def test_a_former_name_of_a_key_counts_for_one_release_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    new = TOUR.read_text()
    old = new.replace("sessions_with_gap:", "gap_sessions:")
    assert new != old

    assert parse_config(old, ENVIRON) == parse_config(new, ENVIRON)

    [said] = caplog.records
    assert said.message == "config.deprecated"
    assert vars(said)["key"] == "pipelines.assessments.limits.gap_sessions"
    assert vars(said)["error"].startswith("gap_sessions is now sessions_with_gap: rename the key")


@pytest.mark.parametrize("key", ["postgresql://u:hunter2@h/d", "u:hunter2@h", "u:hunter2@"])
def test_a_key_like_a_url_is_hidden(key: str) -> None:
    message = str(refusal(f"database: {{}}\n'{key}': 1\n"))

    assert "<a url>: unknown key" in message
    assert "hunter2" not in message


def test_a_message_has_at_most_a_hundred_problems_and_no_long_key() -> None:
    many = str(refusal("".join(f"k{n}: 1\n" for n in range(150))))
    long = str(refusal(f"{'x' * 5000}: 1\n"))

    assert len(many.splitlines()) == 102
    assert many.endswith(" more: correct the first 100 problems")
    assert len(long) < 1000


@pytest.mark.parametrize(
    ("written", "share"), [("5%", 0.05), ("0.7%", 0.007), ("100 %", 1.0), ("0%", 0.0), ("1", 1.0), ('"0.2"', 0.2)]
)
def test_a_ratio_is_a_share_or_a_percentage(written: str, share: float) -> None:
    text = re.sub(r"(?<= {6}gap_ratio: \{)warning: [^,]+", f"warning: {written}", TOUR.read_text())

    thresholds = parse_config(text, {"DATABASE_URL": "postgresql://x"}).pipelines["assessments"].limits.of("gap_ratio")

    assert thresholds is not None
    assert thresholds.warning == share


@pytest.mark.parametrize("pattern", [r"(?m)^  duty: [^ \n]+", r"(?<= {6}gap_ratio: \{)warning: [^,]+"])
def test_a_number_beyond_every_float_is_refused(pattern: str) -> None:
    text, count = re.subn(pattern, lambda match: f"{match[0].partition(':')[0]}: {'9' * 400}", TOUR.read_text())

    assert count == 1
    assert "is too large: write a share, such as 5% or 0.05" in str(refusal(text))
