"""Who may pass: passwords, the limit of requests and the headers, through the web server."""

import asyncio
import base64
import statistics
import threading
import time
from typing import Any

import bcrypt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from test_web import SUCCESS, a_latest
from waiting import at_most, eventually

from exporter.serve import authentication
from exporter.serve.authentication import (
    CHECKS_AT_ONCE,
    REMEMBERED,
    WAITING_AT_MOST,
    Bucket,
    Passwords,
    credentials,
    gate,
    matches,
)
from exporter.serve.web import application
from exporter.serve.web_config import WebConfig, cost_of


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


ALICE = hashed("right")
USERS = {"basic_auth_users": {"alice": ALICE}}


def login(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Counted:
    """Checks of passwords that are counted, and wait for `go` if it is set to wait."""

    def __init__(self) -> None:
        self.costs: list[int] = []
        self.running = self.most = 0
        self.go = threading.Event()
        self.go.set()
        self._lock = threading.Lock()

    def __call__(self, password_hash: str, password: bytes, cost: int) -> bool:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.costs.append(cost)
        assert self.go.wait(at_most(20))
        with self._lock:
            self.running -= 1
        return matches(password_hash, password, cost)


class Gate:
    """The server behind a gate, with a web config that can be replaced."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = WebConfig.model_validate(config)
        self.check = Counted()
        self.now = 0.0
        middleware = gate(lambda: self.config, Passwords(self.check), Bucket(lambda: self.now))
        app = application(a_latest(SUCCESS), middlewares=[middleware])
        self.client: TestClient = TestClient(TestServer(app))  # type: ignore[type-arg]

    async def status(self, path: str = "/-/healthy", headers: dict[str, str] | None = None) -> int:
        async with self.client.get(path, headers=headers) as response:
            return response.status


PATHS = ["/", "/metrics", "/report.json", "/-/healthy", "/-/ready", "/favicon.ico", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_asks_for_the_password(path: str) -> None:
    it = Gate(USERS)
    async with it.client:
        assert await it.status(path) == 401
        assert await it.status(path, login("alice", "right")) == (404 if path == "/nothing" else 200)


async def test_a_reload_asks_for_the_password() -> None:
    it = Gate(USERS)
    async with it.client as client:
        assert (await client.post("/-/reload")).status == 401
        assert (await client.post("/-/reload", headers=login("alice", "right"))).status == 403


async def test_without_users_no_password_is_asked_for() -> None:
    it = Gate({"http_server_config": {"headers": {"X-Frame-Options": "deny"}}})
    async with it.client:
        assert await it.status() == 200
        assert await it.status(headers=login("alice", "wrong")) == 200
        assert it.check.costs == []


async def refused(it: Gate, headers: dict[str, str] | None) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of an answer but its date."""
    async with it.client.get("/metrics", headers=headers) as response:
        own = sorted((name, value) for name, value in response.headers.items() if name != "Date")
        return response.status, await response.read(), own


async def test_an_answer_does_not_tell_whether_a_user_exists() -> None:
    it = Gate(USERS)
    async with it.client:
        wrong = await refused(it, login("alice", "wrong"))

        assert wrong[0] == 401
        assert ("WWW-Authenticate", 'Basic realm="session-health-exporter", charset="UTF-8"') in wrong[2]
        for headers in (None, login("bob", "right"), login("", ""), {"Authorization": "Bearer x"}):
            assert await refused(it, headers) == wrong


async def test_an_unknown_user_costs_as_much_as_the_dearest_known() -> None:
    it = Gate({"basic_auth_users": {"alice": ALICE, "dear": hashed("right", 6)}})
    async with it.client:
        for user in ("alice", "dear", "bob"):
            assert await it.status(headers=login(user, "wrong")) == 401

    assert it.check.costs == [6, 6, 6]


@pytest.mark.parametrize("cost", [4, 5, 7])
def test_a_wrong_password_is_as_many_rounds_for_every_user(cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    real = bcrypt.checkpw

    def counted(password: bytes, password_hash: bytes) -> bool:
        rounds.append(2 ** cost_of(password_hash.decode()))
        return real(password, password_hash)

    monkeypatch.setattr(bcrypt, "checkpw", counted)

    assert not matches(hashed("right", cost), b"wrong", 7)
    assert sum(rounds) == 2**7


def test_wrong_passwords_of_known_and_unknown_users_take_the_same_time() -> None:
    """Of two costs, within a factor; a check that is left out would be a factor of a thousand."""
    cheap, dear = hashed("right", 6), hashed("right", 9)

    def seconds(password_hash: str) -> float:
        times = []
        for _ in range(7):
            before = time.perf_counter()
            matches(password_hash, b"wrong", 9)
            times.append(time.perf_counter() - before)
        return statistics.median(times)

    taken = [seconds(one) for one in (cheap, dear, authentication._decoy(9))]

    assert max(taken) <= 3 * min(taken)


async def test_a_right_password_is_checked_once_and_forgotten_with_its_hash() -> None:
    it = Gate(USERS)
    async with it.client:
        for _ in range(3):
            assert await it.status(headers=login("alice", "right")) == 200
        assert len(it.check.costs) == 1

        it.config = WebConfig.model_validate({"basic_auth_users": {"alice": hashed("another")}})

        assert await it.status(headers=login("alice", "right")) == 401
        assert await it.status(headers=login("alice", "another")) == 200

        it.config = WebConfig.model_validate({"basic_auth_users": {"bob": ALICE}})

        assert await it.status(headers=login("alice", "right")) == 401


async def test_few_right_passwords_are_remembered_and_none_as_text() -> None:
    """Beyond 72 bytes bcrypt reads nothing: many passwords are right."""
    passwords, check = Passwords(), "x" * 72
    users = {"alice": hashed(check)}
    for n in range(REMEMBERED + 5):
        assert await passwords.are_right(users, "alice", f"{check}{n}".encode())

    assert len(passwords._right) == REMEMBERED
    assert check.encode() not in b"".join(passwords._right)


async def test_wrong_passwords_do_not_hold_up_who_is_known() -> None:
    it = Gate(USERS)
    async with it.client:
        assert await it.status(headers=login("alice", "right")) == 200
        it.check.go.clear()
        flood = [asyncio.create_task(it.status(headers=login("alice", f"wrong{n}"))) for n in range(40)]
        full = CHECKS_AT_ONCE + WAITING_AT_MOST
        assert await eventually(lambda: sum(task.done() for task in flood) == 40 - full)

        before = time.perf_counter()
        assert await it.status("/metrics", login("alice", "right")) == 200
        assert time.perf_counter() - before <= at_most(1)

        it.check.go.set()
        answers = await asyncio.gather(*flood)
    assert sorted(answers) == [401] * full + [503] * (40 - full)
    assert it.check.most == CHECKS_AT_ONCE


async def test_bcrypt_itself_does_not_hold_up_who_is_known() -> None:
    """Twelve wrong passwords at a cost of 11 are some 2 s of work."""
    it = Gate({"basic_auth_users": {"alice": hashed("right", 11)}})
    async with it.client:
        assert await it.status(headers=login("alice", "right")) == 200
        flood = [asyncio.create_task(it.status(headers=login(f"u{n}", "wrong"))) for n in range(12)]
        waits = []
        while not all(task.done() for task in flood):
            before = time.perf_counter()
            assert await it.status(headers=login("alice", "right")) == 200
            waits.append(time.perf_counter() - before)
            await asyncio.sleep(0.02)

    assert len(waits) > 3
    assert statistics.median(waits) <= at_most(0.1)


async def test_who_waits_too_long_is_asked_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "WAIT_SECONDS", 0.05)
    it = Gate(USERS)
    async with it.client as client:
        it.check.go.clear()
        running = [asyncio.create_task(it.status(headers=login("alice", "wrong"))) for _ in range(CHECKS_AT_ONCE)]
        assert await eventually(lambda: it.check.running == CHECKS_AT_ONCE)

        response = await client.get("/metrics", headers=login("alice", "right"))

        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        it.check.go.set()
        assert await asyncio.gather(*running) == [401] * CHECKS_AT_ONCE
        assert await it.status(headers=login("alice", "right")) == 200


async def test_a_check_whose_client_has_left_keeps_its_place_until_it_ends() -> None:
    check = Counted()
    check.go.clear()
    passwords = Passwords(check)
    users = {"alice": ALICE}
    left = [asyncio.create_task(passwords.are_right(users, "alice", b"wrong")) for _ in range(CHECKS_AT_ONCE)]
    assert await eventually(lambda: check.running == CHECKS_AT_ONCE)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

    waiting = asyncio.create_task(passwords.are_right(users, "alice", b"right"))
    await asyncio.sleep(0.1)
    assert (check.running, waiting.done()) == (CHECKS_AT_ONCE, False)

    check.go.set()
    assert await waiting


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic YWxpY2U6cjppZ2h0", ("alice", b"r:ight")),
        ("basic  YWxpY2U6", ("alice", b"")),
        ("Basic Og==", ("", b"")),
        ("Basic /zr+", ("\udcff", b"\xfe")),
        ("Basic YWxpY2U=", None),
        ("Basic YWxp!Y2U6", None),
        ("Basic é", None),
        ("Basic", None),
        ("Digest YWxpY2U6", None),
        ("", None),
    ],
)
def test_a_header_is_read_strictly(header: str, found: tuple[str, bytes] | None) -> None:
    assert credentials(header) == found


@pytest.mark.parametrize("user", ["bö", "\udcff"])
async def test_a_user_may_be_any_bytes(user: str) -> None:
    it = Gate({"basic_auth_users": {"bö": ALICE}})
    sent = base64.b64encode(user.encode(errors="surrogateescape") + b":right").decode()
    async with it.client:
        status = await it.status(headers={"Authorization": f"Basic {sent}"})

    assert status == (200 if user == "bö" else 401)


# --- Headers


@pytest.mark.parametrize("path", ["/metrics", "/nothing"])
async def test_headers_are_added_to_every_answer_in_place_of_the_exporters_own(path: str) -> None:
    headers = {"X-Frame-Options": "deny", "Content-Security-Policy": "default-src 'self'", "X-XSS-Protection": ""}
    it = Gate({**USERS, "http_server_config": {"headers": headers}})
    async with it.client as client:
        for own in (login("alice", "right"), {}):
            response = await client.get(path, headers=own)

            assert response.headers.getall("X-Frame-Options") == ["deny"]
            assert response.headers.getall("Content-Security-Policy") == ["default-src 'self'"]
            assert response.headers.getall("X-Content-Type-Options") == ["nosniff"]
            assert "X-XSS-Protection" not in response.headers


# --- The limit of requests


LIMIT = {"rate_limit": {"interval": "2s", "burst": 3}}


async def test_requests_beyond_the_burst_are_told_when_to_come_back() -> None:
    it = Gate(LIMIT)
    async with it.client as client:
        assert [await it.status() for _ in range(4)] == [200, 200, 200, 429]
        it.now += 0.5
        refusal = await client.get("/metrics")
        assert (refusal.status, refusal.headers["Retry-After"]) == (429, "2")
        it.now += 1.5
        assert [await it.status() for _ in range(2)] == [200, 429]
        it.now += 1000
        assert [await it.status() for _ in range(4)] == [200, 200, 200, 429]


async def test_another_limit_begins_with_a_full_bucket_and_an_unchanged_one_goes_on() -> None:
    it = Gate(LIMIT)
    async with it.client:
        assert [await it.status() for _ in range(4)] == [200, 200, 200, 429]
        it.config = WebConfig.model_validate({**USERS, **LIMIT})
        assert await it.status() == 429
        it.config = WebConfig.model_validate({"rate_limit": {"interval": "2s", "burst": 1}})
        assert [await it.status() for _ in range(2)] == [200, 429]
        for unlimited in ({"rate_limit": {"interval": 0}}, {}):
            it.config = WebConfig.model_validate(unlimited)
            assert [await it.status() for _ in range(9)] == [200] * 9


async def test_a_request_beyond_the_limit_costs_no_check() -> None:
    it = Gate({**USERS, "rate_limit": {"interval": "1h", "burst": 1}})
    async with it.client:
        assert [await it.status(headers=login("alice", "wrong")) for _ in range(3)] == [401, 429, 429]

    assert len(it.check.costs) == 1
