"""Board -> HTTP.  Answers from the latest snapshot: no request waits for the database."""

import gzip
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from exporter import APPLICATION_NAME
from exporter.present.exposition import OPENMETRICS_TYPE, TEXT_TYPE, scraped
from exporter.present.html.render import ICON, STYLE_SOURCE
from exporter.present.page.view import page, refresh_seconds, report_as
from exporter.present.report.links import NO_LINKS, Links
from exporter.serve.clients import Clients
from exporter.serve.negotiation import accepts, wants_openmetrics
from exporter.serve.pages import Pages, TooManyWaitingError
from exporter.state.board import Board, Latest
from exporter.text.times import elapsed

KEEP_ALIVE_SECONDS: Final = 75
"""Seconds: longer than a usual scrape interval, and the limit for an incomplete request after the first."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {STYLE_SOURCE}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
"""The page loads and runs nothing; the style is allowed by hash.  https://www.w3.org/TR/CSP3/"""

_REPORTS: Final[Mapping[str, tuple[str, str]]] = {
    "md": ("markdown", "text/markdown"),
    "json": ("json", "application/json"),
    "html": ("html", "text/html"),
}
"""By the suffix of /report: the format and the media type."""

ReadConfigAgain = Callable[[], Awaitable[Exception | None]]
"""Reads the config again; returns the error of an invalid config, None after a reload."""

_LATEST: Final = web.AppKey("latest", Latest)
_RELOAD: Final[web.AppKey[ReadConfigAgain | None]] = web.AppKey("reload")
_SHOWN: Final[web.AppKey[Callable[[], str]]] = web.AppKey("shown")
_LINKS: Final = web.AppKey("links", Links)
_PAGES: Final = web.AppKey("pages", Pages)
_CLIENTS: Final[web.AppKey[Clients | None]] = web.AppKey("clients")


def application(
    latest: Latest,
    shown: Callable[[], str] = str,
    reload: ReadConfigAgain | None = None,
    links: Links | None = None,
    clients: Clients | None = None,
    middlewares: Sequence[Middleware] = (),
) -> web.Application:
    """The web application.

    `shown` returns the config in force, without secrets.  `reload` is None without the lifecycle API.  `clients` hears
    of each request.  `middlewares` are asked before each answer.
    """
    app = web.Application(middlewares=[_hear, *middlewares, _guard])
    app.on_response_prepare.append(_name_server)
    app[_LATEST] = latest
    app[_SHOWN] = shown
    app[_RELOAD] = reload
    app[_LINKS] = links or NO_LINKS
    app[_PAGES] = Pages()
    app[_CLIENTS] = clients
    app.router.add_get("/", _index)
    app.router.add_get("/favicon.ico", _icon)
    app.router.add_get("/metrics", _metrics)
    for suffix in _REPORTS:
        app.router.add_get(f"/report.{suffix}", partial(_report, suffix))
    app.router.add_get("/config", _config)
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    app.router.add_post("/-/reload", _reload)
    app.router.add_put("/-/reload", _reload)
    return app


async def _metrics(request: web.Request) -> web.Response:
    board = request.app[_LATEST].board
    openmetrics = wants_openmetrics(request.headers.get("Accept", ""))
    is_packed = accepts(request.headers.get("Accept-Encoding", ""), "gzip")
    body = scraped(board, board.withdrawn(elapsed()), openmetrics=openmetrics, is_packed=is_packed)
    response = web.Response(body=body, headers={"Content-Type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE})
    response.headers["Vary"] = "Accept, Accept-Encoding"
    if is_packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="session-health-exporter is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    if request.app[_LATEST].ready.is_set():
        return web.Response(text="session-health-exporter is ready.\n")
    return web.Response(status=503, text="The first collection has not ended yet: try again later.\n")


async def _reload(request: web.Request) -> web.Response:
    reload = request.app[_RELOAD]
    if reload is None:
        return web.Response(status=403, text="The lifecycle API is not enabled: start with --web.enable-lifecycle.\n")
    if not _is_own(request):
        return web.Response(status=403, text="A page of another site asked for the reload: use curl -X POST.\n")
    if await reload() is not None:
        # The mistakes name keys and the file: they are for the operator, not for each client.
        return web.Response(status=500, text="The config was not reloaded: see the exporter's log.\n")
    return web.Response(text="The config was reloaded.\n")


def _is_own(request: web.Request) -> bool:
    """Whether a request comes from a program, or from a page of this server.

    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
    """
    origin = request.headers.get("Origin")
    is_ours = origin is None or origin.partition("://")[2] == request.host
    return is_ours and request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")


async def _index(request: web.Request) -> web.Response:
    board, is_paused = request.app[_LATEST].board, "pause" in request.query
    clock = elapsed()

    def rendered() -> str:
        return page(board, request.app[_LINKS], clock=clock, now=time.time(), is_paused=is_paused)

    response = await _for_people(request, ("page", is_paused), board, rendered, "text/html")
    if not is_paused:
        # As a header, not in the page: a saved or printed copy does not reload.
        response.headers["Refresh"] = str(refresh_seconds(board))
    return response


async def _config(request: web.Request) -> web.Response:
    return web.Response(text=request.app[_SHOWN](), headers={"Cache-Control": "no-store"})


async def _icon(_request: web.Request) -> web.Response:
    # Browsers ask for the icon, and log an error without one.
    return web.Response(body=ICON, content_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


async def _report(suffix: str, request: web.Request) -> web.Response:
    form, content_type = _REPORTS[suffix]
    board = request.app[_LATEST].board

    def rendered() -> str:
        return report_as(form, board, board.withdrawn(elapsed()), request.app[_LINKS])

    return await _for_people(request, ("report", form), board, rendered, content_type)


async def _for_people(
    request: web.Request, what: Hashable, board: Board, render: Callable[[], str], content_type: str
) -> web.Response:
    """A page that no client may keep; packed for clients that accept gzip."""
    is_packed = accepts(request.headers.get("Accept-Encoding", ""), "gzip")

    def body() -> bytes:
        text = render().encode()
        return gzip.compress(text, mtime=0) if is_packed else text

    about = (board, board.withdrawn(elapsed()))
    try:
        rendered = await request.app[_PAGES].get((what, is_packed), about, body)
    except TooManyWaitingError:
        return web.Response(status=503, text="Too many requests at once: try again.\n", headers={"Retry-After": "1"})
    headers = {"Content-Type": f"{content_type}; charset=utf-8", "Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if is_packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=rendered, headers=headers)


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as refusal:
        refusal.headers.update(_HEADERS)
        raise
    response.headers.update(_HEADERS)
    return response


@web.middleware
async def _hear(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    clients, transport = request.app[_CLIENTS], request.transport
    if clients is None or transport is None:
        return await handler(request)
    clients.began(transport)
    try:
        return await handler(request)
    finally:
        clients.ended(transport)


_MALFORMED: Final = "The request is malformed or too large.\n"


class Handler(web.RequestHandler):
    """aiohttp's side of a connection; a request that aiohttp refuses gets the headers of every other answer."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is no HTTP."""
        # The message of the parser quotes the request.
        refusal = super().handle_error(request, status, exc, None if message is None else _MALFORMED)
        refusal.headers.update(_HEADERS)
        refusal.headers["Server"] = APPLICATION_NAME
        return refusal


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    # Instead of the names and versions of the libraries.
    response.headers["Server"] = APPLICATION_NAME
