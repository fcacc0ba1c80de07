"""The warning about other machines: which addresses are theirs, and what is missing."""

import ssl
from dataclasses import replace

import pytest

from exporter.serve.door import OPEN_DOOR, warn_if_public


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (["127.0.0.1", "::1"], None),
        (["127.0.0.1", "0.0.0.0"], "listens on every interface without TLS and authentication"),
        (["::"], "listens on every interface without TLS and authentication"),
        (["192.0.2.1", "127.0.0.1"], "listens on 192.0.2.1 without TLS and authentication"),
        (["fe80::1%eth0"], "listens on fe80::1%eth0 without TLS and authentication"),
    ],
)
def test_an_address_that_other_machines_reach_is_named(
    hosts: list[str], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_public(OPEN_DOOR, hosts)

    texts = [vars(record)["error"] for record in caplog.records]
    assert len(texts) == (said is not None)
    assert said is None or texts[0].startswith(f"{said}: write ")


def test_what_is_there_is_not_missing_and_sample_data_miss_nothing(caplog: pytest.LogCaptureFixture) -> None:
    encrypted = replace(OPEN_DOOR, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    warn_if_public(replace(encrypted, is_authenticated=True), ["::"])
    warn_if_public(replace(OPEN_DOOR, is_silent=True), ["::"])
    assert caplog.messages == []

    warn_if_public(encrypted, ["::"])
    warn_if_public(replace(OPEN_DOOR, is_authenticated=True), ["::"])

    assert [vars(record)["error"].split(":")[0] for record in caplog.records] == [
        "listens on every interface without authentication",
        "listens on every interface without TLS",
    ]
