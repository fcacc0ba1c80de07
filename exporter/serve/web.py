"""Board -> HTTP.  Answers from the latest snapshot: no request waits for the database."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from exporter.present.exposition import OPENMETRICS_TYPE, TEXT_TYPE
from exporter.present.exposition import packed_page as packed_metrics_page
from exporter.present.exposition import page as metrics_page
from exporter.present.html.render import ICON, STYLE_SOURCE
from exporter.present.page.view import page, refresh_seconds, report_as
from exporter.present.report.links import NO_LINKS, Links
from exporter.serve.negotiation import accepts, wants_openmetrics
from exporter.state.board import Latest

KEEP_ALIVE_SECONDS: Final = 75
"""Seconds: longer than a usual scrape interval, and the limit for an incomplete request."""

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

ReadConfigAgain = Callable[[], Exception | None]
"""Reads the config again; returns the error of an invalid config, None after a reload."""

_LATEST: Final = web.AppKey("latest", Latest)
_RELOAD: Final[web.AppKey[ReadConfigAgain | None]] = web.AppKey("reload")
_LINKS: Final = web.AppKey("links", Links)


def application(
    latest: Latest,
    reload: ReadConfigAgain | None = None,
    links: Links | None = None,
    middlewares: Sequence[Middleware] = (),
) -> web.Application:
    """The web application; `reload` is None without the lifecycle API, `middlewares` are asked before each answer."""
    app = web.Application(middlewares=[*middlewares, _guard])
    app[_LATEST] = latest
    app[_RELOAD] = reload
    app[_LINKS] = links or NO_LINKS
    app.router.add_get("/", _index)
    app.router.add_get("/favicon.ico", _icon)
    app.router.add_get("/metrics", _metrics)
    for suffix in _REPORTS:
        app.router.add_get(f"/report.{suffix}", partial(_report, suffix))
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    app.router.add_post("/-/reload", _reload)
    app.router.add_put("/-/reload", _reload)
    return app


async def _metrics(request: web.Request) -> web.Response:
    board = request.app[_LATEST].board
    openmetrics = wants_openmetrics(request.headers.get("Accept", ""))
    is_packed = accepts(request.headers.get("Accept-Encoding", ""), "gzip")
    render = packed_metrics_page if is_packed else metrics_page
    body = render(board, board.withdrawn(time.monotonic()), openmetrics=openmetrics)
    response = web.Response(body=body, headers={"Content-Type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE})
    response.headers["Vary"] = "Accept, Accept-Encoding"
    if is_packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


def _packed(request: web.Request, response: web.Response) -> web.Response:
    if accepts(request.headers.get("Accept-Encoding", ""), "gzip"):
        response.enable_compression(web.ContentCoding.gzip)
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
    mistake = reload()
    if mistake is not None:
        return web.Response(status=500, text=f"{mistake}\n")
    return web.Response(text="The config was reloaded.\n")


async def _index(request: web.Request) -> web.Response:
    board, is_paused = request.app[_LATEST].board, "pause" in request.query
    text = page(board, request.app[_LINKS], clock=time.monotonic(), now=time.time(), is_paused=is_paused)
    response = _for_people(request, text, "text/html")
    if not is_paused:
        # As a header, not in the page: a saved or printed copy does not reload.
        response.headers["Refresh"] = str(refresh_seconds(board))
    return response


async def _icon(_request: web.Request) -> web.Response:
    # Browsers ask for the icon, and log an error without one.
    return web.Response(body=ICON, content_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


async def _report(suffix: str, request: web.Request) -> web.Response:
    form, content_type = _REPORTS[suffix]
    board = request.app[_LATEST].board
    text = report_as(form, board, board.withdrawn(time.monotonic()), request.app[_LINKS])
    return _for_people(request, text, content_type)


def _for_people(request: web.Request, text: str, content_type: str) -> web.Response:
    headers = {"Content-Type": f"{content_type}; charset=utf-8", "Cache-Control": "no-store"}
    return _packed(request, web.Response(body=text.encode(), headers=headers))


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
