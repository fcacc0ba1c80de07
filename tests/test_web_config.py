"""The file of --web.config.file: what is accepted, what each mistake says, and which text is never shown."""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import bcrypt
import pytest
from certificates import new_authority, openssl

from exporter.config.read import MAX_DEPTH, ConfigError
from exporter.serve.secured import Secured
from exporter.serve.web_config import LARGEST, WebConfig

HASH = bcrypt.hashpw(b"correct horse", b"$2b$04$" + b"." * 22).decode()
Write = Callable[[str | bytes], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificates of an authority and a server, and other keys."""
    folder = tmp_path_factory.mktemp("made")
    authority = new_authority(folder, "ours")
    authority.sign("server", "exporter", "subjectAltName=IP:127.0.0.1")
    authority.sign("other", "other")
    openssl("pkey", "-in", folder / "server.key", "-aes256", "-passout", "pass:s3sam", "-out", folder / "locked.key")
    openssl("req", "-x509", "-newkey", "rsa:512", "-nodes", "-subj", "/CN=weak", "-keyout", folder / "weak.key",
            "-out", folder / "weak.crt")  # fmt: skip
    return folder


@pytest.fixture
def write(made: Path, tmp_path: Path) -> Write:
    """Writes a web config into a folder with the certificates."""

    def written(text: str | bytes) -> Path:
        for file in made.iterdir():
            link = tmp_path / file.name
            if not link.exists():
                link.symlink_to(file)
        path = tmp_path / "web.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def config_of(path: Path) -> WebConfig:
    return Secured(path).current.config


def mistakes(path: Path) -> list[str]:
    """The mistakes of a file, without the first line and the indent."""
    with pytest.raises(ConfigError) as refused:
        Secured(path)
    first, *others = str(refused.value).splitlines()
    assert first.startswith(f"{path}: ")
    return [line.strip() for line in others]


def test_every_key_of_the_format_is_read(write: Write) -> None:
    path = write(f"""
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256]
http_server_config:
  http2: true
  headers:
    Content-Security-Policy: default-src 'none'
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
    X-XSS-Protection: ""
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  alice: {HASH}
  "böb": {HASH.replace("$2b$", "$2y$")}
rate_limit:
  interval: 100ms
  burst: 20
""")

    secured = Secured(path)
    config = secured.current.config

    assert secured.current.context is not None
    assert list(config.basic_auth_users) == ["alice", "böb"]
    assert "X-XSS-Protection" not in config.http_server_config.sent
    assert config.rate_limit is not None
    assert (config.rate_limit.interval, config.rate_limit.burst) == (timedelta(milliseconds=100), 20)
    assert config.is_authenticated
    assert HASH not in repr(config)


def test_a_file_may_have_one_section_alone(write: Write) -> None:
    config = config_of(write("http_server_config: {http2: false}"))

    assert (config.tls_server_config, config.basic_auth_users, config.is_authenticated) == (None, {}, False)


@pytest.mark.parametrize(
    ("client_auth", "is_authenticated"), [("RequireAndVerifyClientCert", True), ("VerifyClientCertIfGiven", False)]
)
def test_only_a_required_certificate_authenticates(write: Write, client_auth: str, is_authenticated: bool) -> None:
    tls = f"cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, client_auth_type: {client_auth}"

    assert config_of(write(f"tls_server_config: {{{tls}}}")).is_authenticated is is_authenticated


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file(write: Write) -> None:
    path = write("""
tls_server_config:
  cert_fil: server.crt
  key_file: nothing.key
  client_auth_type: RequestClientCert
http_server_config:
  headers: {X-Frame-Option: deny}
basic_auth_users:
  alice: hunter2
rate_limt: {}
""")

    assert [re.sub(r"( \(known: .*\)|: write .*|, which .*)$", "", line) for line in mistakes(path)] == [
        "line 3: tls_server_config.cert_fil: unknown key; did you mean cert_file?",
        "line 4: tls_server_config.key_file: cannot be read (No such file or directory): correct the path",
        "line 5: tls_server_config.client_auth_type: asks for a certificate without checking it",
        (
            "line 7: http_server_config.headers.X-Frame-Option: is not a header that can be set; "
            "did you mean X-Frame-Options?"
        ),
        "line 9: basic_auth_users.alice: is not a bcrypt hash",
        "line 10: rate_limt: unknown key; did you mean rate_limit?",
    ]


TLS = "cert_file: server.crt, key_file: server.key"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("tls_server_config: {}", "cert_file: is required: add it"),
        (f"tls_server_config: {{{TLS}, min_version: TLS11}}", "TLS 1.0 and 1.1 are insecure"),
        (f"tls_server_config: {{{TLS}, min_version: TLS1.2}}", "must be TLS12 or TLS13"),
        (f"tls_server_config: {{{TLS}, min_version: TLS13, max_version: TLS12}}", "is older than min_version"),
        (f"tls_server_config: {{{TLS}, client_auth_type: RequireAnyClientCert}}", "write RequireAndVerifyClientCert"),
        (f"tls_server_config: {{{TLS}, client_auth_type: RequireAndVerifyClientCert}}", "needs client_ca_file"),
        (f"tls_server_config: {{{TLS}, client_ca_file: ca.crt}}", "has no effect: add client_auth_type"),
        (f"tls_server_config: {{{TLS}, client_allowed_sans: [x]}}", "does not bind a client without a certificate"),
        (f"tls_server_config: {{{TLS}, client_allowed_sans: []}}", "must name at least one"),
        (f"tls_server_config: {{{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}", "has no suite of TLS 1.2"),
        (f"tls_server_config: {{{TLS}, cipher_suites: [RC4]}}", "is not a known suite"),
        (f"tls_server_config: {{{TLS}, cipher_suites: [{{a: b}}]}}", "must be text"),
        (f"tls_server_config: {{{TLS}, curve_preferences: [CurveP256, X25519]}}", "takes one curve"),
        (f"tls_server_config: {{{TLS}, curve_preferences: [P-256]}}", "must have one of CurveP256"),
        ("tls_server_config: {cert_file: server.crt, key_file: other.key}", "key_file: is not the key of the cert"),
        ("tls_server_config: {cert_file: server.crt, key_file: locked.key}", "key_file: has a passphrase"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.crt}", "key_file: is not a private key in PEM"),
        ("tls_server_config: {cert_file: server.key, key_file: server.key}", "cert_file: is not a certificate in PEM"),
        ("tls_server_config: {cert_file: weak.crt, key_file: weak.key}", "cert_file: is too weak for OpenSSL"),
        ("tls_server_config: {cert_file: ., key_file: server.key}", "cert_file: cannot be read"),
        (f"tls_server_config: {{{TLS}, client_ca_file: server.key, client_auth_type: VerifyClientCertIfGiven}}",
         "client_ca_file: is not a list of certificates"),
        ("tls_server_config: {cert: x, key: y, client_ca: z}", "cert: is not read from this file"),
        ("tls_server_config: [a]", "must be a section with the keys"),
        ("http_server_config: {headers: {X-Frame-Options: never}}", "must be deny or sameorigin"),
        ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "must be nosniff"),
        ('http_server_config: {headers: {X-XSS-Protection: "0\\r\\nSet-Cookie: a=b"}}', "must be one line of ASCII"),
        ("http_server_config: {headers: {Server: mine}}", "is not a header that can be set"),
        ("http_server_config: {http2: 1}", "must be true or false"),
        (f'basic_auth_users: {{"a:b": {HASH}}}', "a user with a colon cannot log in"),
        ("basic_auth_users: {alice: $2y$31$" + "." * 53 + "}", "has a cost outside 4 to 16"),
        ("basic_auth_users: {alice: $2y$03$" + "." * 53 + "}", "has a cost outside 4 to 16"),
        ("basic_auth_users: [alice]", "must be a mapping"),
        ("rate_limit: {burst: 5}", "interval: is required"),
        ("rate_limit: {interval: 1s, burst: 0}", "must be at least 1"),
        ("rate_limit: {interval: 1}", "needs a unit"),
        ("- tls_server_config", "must be a mapping with the keys basic_auth_users"),
        ("# nothing\n", "is empty: write at least one of basic_auth_users, http_server_config"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_remedy(write: Write, text: str, mistake: str) -> None:
    assert any(mistake in line for line in mistakes(write(text)))


# --- A hostile file


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "anchors (&) and aliases (*) are not supported"),
        ("a: " + "[" * 5000 + "]" * 5000, f"more than {MAX_DEPTH} levels"),
        ("rate_limit: {interval: 1s}\nrate_limit: {interval: 2s}", "is written twice, first in line 1"),
        (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}", "is written twice, first in line 2"),
        ("x: !!python/object/apply:os.system [id]", "tags (!) are not supported"),
        (b"a: \xff\xfe", "is not UTF-8 at byte 3"),
        ("a: \x07", "the control character U+0007"),
        ("a" * (LARGEST + 1), "is larger than 1 MB"),
        ("a: " + "b" * 2_000_000, "is larger than 1 MB"),
    ],
    ids=["aliases", "deep", "twice", "user twice", "tag", "bytes", "control", "large", "2 MB"],
)
def test_a_hostile_file_is_refused(write: Write, text: str | bytes, mistake: str) -> None:
    assert any(mistake in line for line in mistakes(write(text)))


@pytest.mark.parametrize("name", ["web.yml", "key"])
def test_a_pipe_is_refused_and_not_waited_for(write: Write, name: str) -> None:
    path = write("tls_server_config: {cert_file: server.crt, key_file: key}")
    pipe = path.with_name(name)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)

    [mistake] = mistakes(path)

    assert mistake.endswith("is not a regular file: name another file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "web.yml") == ["cannot be read (No such file or directory): correct the path"]


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"basic_auth_users: {{alice: {SECRET}}}",
        f"basic_auth_users: {{alice: [{SECRET}]}}",
        f"basic_auth_users: {{alice: {{{SECRET}: x}}}}",
        f"basic_auth_users: {SECRET}",
        f"basic_auth_users: {{alice: !x {SECRET}}}",
        f"basic_auth_users: {{alice: &{SECRET} x}}",
        f"basic_auth_users: {{alice: {SECRET}: x}}",
        f"tls_server_config: {{key: {SECRET}}}",
        f"tls_server_config: {{key: [{SECRET}]}}",
        f"tls_server_config: {{client_auth_type: {SECRET}, cipher_suites: [{SECRET}], curve_preferences: [{SECRET}]}}",
        f"http_server_config: {{headers: {{Strict-Transport-Security: {SECRET}\t, X-Frame-Options: {SECRET}}}}}",
        f"rate_limit: {{interval: {SECRET}, burst: {SECRET}}}",
    ],
)
def test_no_value_of_the_file_is_shown(write: Write, text: str) -> None:
    assert SECRET not in "\n".join(mistakes(write(text)))


@pytest.mark.parametrize("password", ["12345", "2025-01-01", "yes", "3.14", "~"])
def test_a_password_that_yaml_reads_as_another_kind_is_not_shown(write: Write, password: str) -> None:
    [mistake] = mistakes(write(f"basic_auth_users: {{alice: {password}}}"))

    assert password not in mistake.removeprefix("line 1: ")


def test_a_hash_in_place_of_a_user_is_not_shown(write: Write) -> None:
    [mistake] = mistakes(write(f"basic_auth_users: {{{HASH}: alice}}"))

    assert mistake.startswith("line 1: basic_auth_users.<a hash>: is not a bcrypt hash: ")


def test_a_dollar_is_a_dollar(write: Write) -> None:
    """The format has no variables."""
    path = write("http_server_config: {headers: {Content-Security-Policy: '${HOME} $$'}}")

    assert config_of(path).http_server_config.sent == {"Content-Security-Policy": "${HOME} $$"}
