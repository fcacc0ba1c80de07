"""What a url and the PG* variables say is understood as libpq understands it, or refused by name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.connection.parameters import KNOWN, READ, REFUSED, UNREAD, UrlError
from exporter.connection.target import DEFAULT_HOSTS, Place, password_in, target, unread
from exporter.connection.url import read_url

SECRET = "hunter2x"


def refusal(url: str, **environ: str) -> str:
    with pytest.raises(UrlError) as caught:
        target(url, environ)
    return "\n".join(map(str, caught.value.mistakes))


# --- A url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://", {}),
        ("postgres://db", {"host": "db"}),
        ("postgresql://db?", {"host": "db"}),
        (
            "postgresql://app:a+b%20c%C3%BC@db/shop",
            {"user": "app", "password": "a+b cü", "host": "db", "dbname": "shop"},
        ),
        ("postgresql://app:a#b!$:[c]@db", {"user": "app", "password": "a#b!$:[c]", "host": "db"}),
        ("postgresql://me%40there@db", {"user": "me@there", "host": "db"}),
        ("postgresql://a:1,b/", {"host": "a,b", "port": "1,"}),
        ("postgresql://:5433/x", {"port": "5433", "dbname": "x"}),
        ("postgresql://[::1]:5433,[fe80::1%25eth0]", {"host": "::1,fe80::1%eth0", "port": "5433,"}),
        ("postgresql://%2Frun%2Fpostgresql/x", {"host": "/run/postgresql", "dbname": "x"}),
        ("postgresql://localhost/x?host=/run/x", {"host": "/run/x", "dbname": "x"}),
        ("postgresql:///?host=/run/x&user=a@b", {"host": "/run/x", "user": "a@b"}),
        ("postgresql:///x?database=y", {"dbname": "y"}),
        ("postgresql://db?options=-c%20geqo%3Doff", {"host": "db", "options": "-c geqo=off"}),
    ],
)
def test_a_url_is_read_as_libpq_reads_it(url: str, said: dict[str, str]) -> None:

    assert read_url(url) == said


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("\ufeffpostgresql://db", "byte order mark"),
        ("'postgresql://db'", "quotes around it: remove the quotes"),
        ('"postgresql://db"', "quotes around it: remove the quotes"),
        ("postgresql://db\n", "a line break"),
        (" postgresql://db", "a space"),
        ("postgresql://app:a b@db", "%20"),
        ("psql postgresql://db", "has words before postgresql://: remove the words"),
        ("DATABASE_URL=postgresql://db", "has words before postgresql://: remove the words"),
        ("postgresql+asyncpg://db", "begins with postgresql+asyncpg, the form of another driver: write postgresql://"),
        ("postgresql+psycopg2://db", "begins with postgresql+psycopg2"),
        ("postgres+psycopg://db", "begins with postgres+psycopg"),
        ("jdbc:postgresql://db/x?user=app&password=hunter2x", "begins with jdbc:postgresql"),
        ("postgis://db", "begins with postgis"),
        ("POSTGRESQL://db", "begins with POSTGRESQL"),
        ("mysql://db", "with mysql://, like the url of another kind of service"),
        ("hunter2x://db", "another kind of service"),
        ("host=db password=hunter2x", "list of key=value: write postgresql://"),
        ("dbname = x", "list of key=value"),
        ("db:5432/x", "write postgresql://"),
        ("postgresql:db", "write postgresql://"),
        ("postgresql://app:a@b@db/x", "write %40"),
        ("postgresql://app:a/b@db/x", "%2F"),
        ("postgresql://app:a?b@db/x", "write %3F"),
        ("postgresql://app:1/b?hunter2x=c@db/x", "unknown parameter (number 1)"),
        ("postgresql://db/x#y", "write %23"),
        ("postgresql://db/x/", "second /"),
        ("postgresql://app:a%b%zz@db", "two hexadecimal digits"),
        ("postgresql://app:a%FF@db", "not UTF-8"),
        ("postgresql://app:a%00@db", "%00"),
        ("postgresql://a,,b", "empty part in the list of hosts"),
        ("postgresql://a,", "empty part in the list of hosts"),
        ("postgresql:///?host=a,,b", "empty part"),
        ("postgresql://db:x", "port outside 1 to 65535"),
        ("postgresql://db:0", "port outside 1 to 65535"),
        ("postgresql://db:65536", "port outside 1 to 65535"),
        ("postgresql://db:٣", "port outside 1 to 65535"),
        ("postgresql:///?port=5432,x", "port outside 1 to 65535"),
        ("postgresql://a,b,c?port=1,2", "has 2 ports for 3 hosts"),
        ("postgresql://::1", "in brackets, such as [::1]:5432"),
        ("postgresql://[db]", "not an IPv6 address"),
        ("postgresql://a..b", "neither a name nor an address"),
        ("postgresql:///?host=db:5433", "write the port as the parameter port"),
        ("postgresql:///?host=@abstract", "abstract socket"),
        ("postgresql://db?x", "without a name or a value"),
        ("postgresql://db?sslmode=", "parameter sslmode (number 1)"),
        ("postgresql://db?user=a&&dbname=b", "(number 2) without"),
        ("postgresql://db?sslmode=allow&sslmode=require", "sslmode twice"),
        ("postgresql://db?sslmod=require", "parameter sslmod; did you mean sslmode?"),
        ("postgresql://db?SSLMODE=require", "parameter SSLMODE; did you mean sslmode?"),
        ("postgresql://db?foo=1", "unknown parameter foo: remove it"),
        ("postgresql://db?sslmode=no-verify", "write sslmode=require"),
        ("postgresql://db?sslmode=verify_full", "did you mean verify-full?"),
        ("postgresql://db?channel_binding=require", "channel_binding"),
        ("postgresql://db?gssencmode=require", "gssencmode"),
        ("postgresql://db?connect_timeout=0", "whole seconds"),
        ("postgresql://db?connect_timeout=-1", "whole seconds"),
        ("postgresql://db?connect_timeout=86401", "86400"),
        ("postgresql://db?target_session_attrs=master", "known: any, read-write"),
        ("postgresql://db?currentSchema=x", "schema.table"),
        ("postgresql://db?sslmode=verify-full", "sslrootcert=system"),
        ("postgresql://db?sslmode=verify-ca", "needs sslrootcert"),
        ("postgresql://db?sslrootcert=system&sslmode=require", "needs sslmode=verify-full"),
        ("postgresql://db?sslnegotiation=direct", "needs sslmode=require"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_with_its_remedy(url: str, remedy: str) -> None:
    said = refusal(url)

    assert remedy in said
    assert "\n" not in said, "one mistake is said once"
    assert SECRET not in said


def test_every_mistake_of_a_url_is_said_at_once() -> None:
    said = refusal(f"postgresql://app:{SECRET}%@a,,b:x/y?ssl=true&sslmod=x&connect_timeout=soon")

    for part in ("password", "list of hosts", "port", "parameter ssl,", "did you mean sslmode", "connect_timeout"):
        assert part in said
    assert SECRET not in said


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_parameter_of_others_is_refused_by_its_name(name: str) -> None:
    assert f"the parameter {name}, which" in refusal(f"postgresql://db?{name}=1")


@pytest.mark.parametrize(
    "query",
    [
        *("channel_binding=prefer", "channel_binding=disable", "gssencmode=prefer", "gssencmode=disable"),
        *(
            "keepalives=1",
            "keepalives_idle=30",
            "tcp_user_timeout=9",
            "application_name=x",
            "client_encoding=SQL_ASCII",
        ),
        *("load_balance_hosts=disable", "sslsni=1", "sslcertmode=allow"),
    ],
)
def test_what_is_harmless_changes_nothing(query: str) -> None:
    assert target(f"postgresql://db?{query}", {}) == target("postgresql://db", {})


@given(st.text(st.sampled_from("ab:@/?#%&=,[]+ é1"), max_size=25))
def test_any_text_is_read_or_refused_without_a_word_of_it(text: str) -> None:
    said = ""
    try:
        read_url(f"postgresql://app:{SECRET}{text}@db/x")
    except UrlError as error:
        said = str(error)

    assert SECRET not in said


# --- The variables


def test_a_variable_decides_what_the_url_does_not_say() -> None:
    environ = {
        "PGHOST": "env",
        "PGPORT": "1",
        "PGUSER": "me",
        "PGDATABASE": "d",
        "PGCONNECT_TIMEOUT": "7",
        "PGSSLMODE": "",
    }
    of_url = target("postgresql://app@db:2/x?connect_timeout=3", environ)
    of_environment = target(None, environ)

    assert (of_url.places, of_url.user, of_url.database, of_url.timeout) == ((Place("db", 2),), "app", "x", 3)
    assert (of_environment.places, of_environment.user, of_environment.database) == ((Place("env", 1),), "me", "d")
    assert (of_environment.timeout, of_environment.tls.mode) == (7, "prefer")


def test_without_a_host_the_usual_places_of_this_machine_are_tried() -> None:
    assert [place.host for place in target("postgresql://:5433", {}).places] == [*DEFAULT_HOSTS]
    assert {place.port for place in target("postgresql://:5433", {}).places} == {5433}


@pytest.mark.parametrize("name", [name for name, parameter in READ.items() if parameter.variable and parameter.values])
def test_a_wrong_value_of_a_variable_is_said_by_its_name(name: str) -> None:
    variable = READ[name].variable or ""

    assert refusal("postgresql://db", **{variable: SECRET}).startswith(f"{variable} has a wrong value")


def test_a_root_of_the_system_means_full_verification() -> None:
    assert target("postgresql://db?sslrootcert=system", {}).tls.mode == "verify-full"
    assert target("postgresql://db", {"PGSSLROOTCERT": "system"}).tls.is_of_system


@pytest.mark.parametrize("variable", sorted(UNREAD))
def test_a_variable_that_is_not_read_is_named_with_its_remedy(variable: str) -> None:
    assert [*unread("postgresql://db", {variable: "x"})] == [variable]
    assert unread("postgresql://db", {variable: ""}) == {}


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("postgresql://app@db/x", {"PGSERVICE": "x", "PGSERVICEFILE": "x"}),
        ("postgresql://app@db/x?options=-cgeqo%3Doff", {"PGOPTIONS": "-c search_path=x"}),
        ("postgresql://db", {"PGCHANNELBINDING": "prefer", "PGGSSENCMODE": "disable", "PGCLIENTENCODING": "UTF8"}),
        ("postgresql://db", {"PGHOST": "x", "PGAPPNAME": "x", "PGTZ": "x", "PGDATA": "x"}),
    ],
)
def test_a_variable_that_could_decide_nothing_is_not_named(url: str, environ: dict[str, str]) -> None:
    assert unread(url, environ) == {}


def test_no_variable_is_both_read_and_not() -> None:
    assert not UNREAD.keys() & {parameter.variable for parameter in READ.values()}
    assert not REFUSED.keys() & KNOWN.keys()


def test_the_page_names_every_parameter_and_every_variable() -> None:
    page = (Path(__file__).parent.parent / "docs" / "connecting.md").read_text(encoding="utf-8")
    variables = {parameter.variable for parameter in READ.values() if parameter.variable}

    for name in (*KNOWN, *variables, *UNREAD):
        assert f"`{name}`" in page or f"`{name}=" in page, name


# --- A file of passwords


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("db:5432:shop:app:pw", "pw"),
        ("*:*:*:*:pw", "pw"),
        (r"db:5432:shop:app:a\:b\\c", r"a:b\c"),
        ("db:5432:shop:app:a:b", "a"),
        ("# db:5432:shop:app:pw", None),
        ("db:5433:shop:app:pw", None),
        ("db:5432:shop:app", None),
        ("other:5432:shop:app:no\ndb:5432:shop:app:pw\n*:*:*:*:late", "pw"),
    ],
)
def test_a_file_of_passwords_is_read_by_its_first_line_that_fits(line: str, password: str | None) -> None:
    assert password_in(line, Place("db", 5432), "shop", "app") == password


def test_a_socket_is_localhost_in_a_file_of_passwords() -> None:
    assert password_in("localhost:5432:*:*:pw", Place("/run/postgresql", 5432), "shop", "app") == "pw"
