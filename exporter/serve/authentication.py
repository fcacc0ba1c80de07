"""A request -> may it pass?  The passwords, the limit of requests and the headers of the web config.

As in https://github.com/prometheus/exporter-toolkit/blob/master/web/handler.go, but no check of a password delays
another request, and no answer tells whether a user exists.
"""

import asyncio
import base64
import binascii
import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from exporter.serve.web_config import RateLimit, WebConfig, cost_of

CHECKS_AT_ONCE: Final = 2
"""Checks of passwords at one moment, each on a thread: so many cores are busy under a flood of wrong passwords."""

WAITING_AT_MOST: Final = 16
"""Requests that wait for a check."""

WAIT_SECONDS: Final = 5.0
"""How long a request waits for a check: half a usual scrape timeout."""

REMEMBERED: Final = 100
"""Passwords that were right, and are not checked again."""

_LONGEST: Final = 72
"""Bytes: bcrypt reads no further, as Go's bcrypt and htpasswd."""

_CHALLENGE: Final = 'Basic realm="session-health-exporter", charset="UTF-8"'
"""https://www.rfc-editor.org/rfc/rfc7617#section-2"""


class BusyError(Exception):
    """Too many passwords are being checked."""


def matches(password_hash: str, password: bytes, cost: int) -> bool:
    """Whether the password has this hash.  A wrong password takes as long as one of a hash with `cost`.

    `cost` is at least the cost of the hash.  Runs for up to seconds, on a thread.
    """
    import bcrypt  # noqa: PLC0415 - only a server with passwords needs it

    password = password[:_LONGEST]
    if bcrypt.checkpw(password, password_hash.encode()):
        return True
    # 2^c + 2^c + 2^(c+1) + ... = 2^cost rounds.
    for step in range(cost_of(password_hash), cost):
        bcrypt.checkpw(password, _decoy(step).encode())
    return False


def _decoy(cost: int) -> str:
    """A hash that no password is known to have."""
    return f"$2b${cost:02}$" + "." * 53


class Passwords:
    """Checks passwords on threads, a few at once, and remembers the right ones by a keyed hash."""

    def __init__(self, check: Callable[[str, bytes, int], bool] = matches) -> None:
        self._check = check
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._free = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._waiting = 0

    async def are_right(self, users: Mapping[str, str], user: str, password: bytes) -> bool:
        """Whether the user has the password; raises BusyError.  `users` has the hashes, at least one."""
        highest = max(map(cost_of, users.values()))
        is_known = user in users
        password_hash = users[user] if is_known else _decoy(highest)
        mark = self._mark(user, password_hash, password)
        if is_known and mark in self._right:
            return True
        if not await self._checked(password_hash, password, highest) or not is_known:
            return False
        if len(self._right) >= REMEMBERED:
            del self._right[next(iter(self._right))]
        self._right[mark] = None
        return True

    async def _checked(self, password_hash: str, password: bytes, cost: int) -> bool:
        if self._waiting >= WAITING_AT_MOST:
            raise BusyError
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError from None
        finally:
            self._waiting -= 1
        checking = asyncio.get_running_loop().run_in_executor(None, self._check, password_hash, password, cost)
        # The thread goes on if the client leaves: its place is free only afterwards.
        checking.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(checking)

    def _mark(self, user: str, password_hash: str, password: bytes) -> bytes:
        """Stands for the password; a changed hash of the user makes another mark."""
        made = hashlib.blake2b(key=self._key)
        for part in (user.encode(errors="surrogateescape"), password_hash.encode(), password):
            made.update(len(part).to_bytes(8, "big") + part)
        return made.digest()


class Bucket:
    """A token bucket over all requests: full at the start and after each change of the limit.

    https://pkg.go.dev/golang.org/x/time/rate#Limiter
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit: RateLimit | None = None
        self._tokens = self._at = 0.0

    def take(self, limit: RateLimit | None) -> float:
        """Take a token: 0, or the seconds until the next token if there is none."""
        now = self._clock()
        if limit != self._limit:
            self._limit, self._tokens, self._at = limit, float(limit.burst if limit else 0), now
        if limit is None or not limit.interval:
            return 0.0
        interval = limit.interval.total_seconds()
        self._tokens = min(limit.burst, self._tokens + (now - self._at) / interval)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) * interval


def gate(current: Callable[[], WebConfig], passwords: Passwords, bucket: Bucket) -> Middleware:
    """The middleware that asks each request for what the config in force wants, and adds the headers."""

    @web.middleware
    async def pass_or_refuse(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        config = current()
        headers = config.http_server_config.sent
        try:
            response = await _refusal(request, config, passwords, bucket) or await handler(request)
        except web.HTTPException as error:
            error.headers.update(headers)
            raise
        response.headers.update(headers)
        return response

    return pass_or_refuse


async def _refusal(
    request: web.Request, config: WebConfig, passwords: Passwords, bucket: Bucket
) -> web.StreamResponse | None:
    """The answer to a request that does not pass; None for one that does."""
    seconds = bucket.take(config.rate_limit)
    if seconds:
        return _answer(429, "Too many requests.\n", {"Retry-After": str(math.ceil(seconds))})
    users = config.basic_auth_users
    if not users:
        return None
    login = credentials(request.headers.get("Authorization", ""))
    try:
        if login is not None and await passwords.are_right(users, *login):
            return None
    except BusyError:
        return _answer(503, "Too many passwords are being checked: try again later.\n", {"Retry-After": "1"})
    return _answer(401, "Unauthorized: user and password are needed.\n", {"WWW-Authenticate": _CHALLENGE})


def credentials(header: str) -> tuple[str, bytes] | None:
    """The user and the password of an Authorization header; None if the header has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user.decode(errors="surrogateescape"), password) if colon else None


def _answer(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        status=status, text=text, headers={**headers, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    )
