"""Board -> HTTP.  Answers from what was measured already: no request ever waits for the database."""

import time
from collections.abc import Awaitable, Callable
from html import escape
from typing import Final

from aiohttp import web

from exporter import __version__
from exporter.board import Latest
from exporter.expose import OPENMETRICS_TYPE, TEXT_TYPE, accepts, page, wants_openmetrics

DEFAULT_ADDRESS: Final = ":10157"

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than a usual scrape interval; it also bounds how long half a request may stay open."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}

ReadConfigAgain = Callable[[], Exception | None]
"""Reads the config again; returns what is wrong with it, after which nothing has changed."""

_LATEST: Final = web.AppKey("latest", Latest)
_RELOAD: Final[web.AppKey[ReadConfigAgain | None]] = web.AppKey("reload")


def application(latest: Latest, reload: ReadConfigAgain | None = None) -> web.Application:
    """The routes; `reload` is None where the lifecycle API is not enabled."""
    app = web.Application(middlewares=[_guard])
    app[_LATEST] = latest
    app[_RELOAD] = reload
    app.router.add_get("/", _index)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    app.router.add_post("/-/reload", _reload)
    app.router.add_put("/-/reload", _reload)
    return app


async def _metrics(request: web.Request) -> web.Response:
    board = request.app[_LATEST].board
    openmetrics = wants_openmetrics(request.headers.get("Accept", ""))
    body = page(board, board.withdrawn(time.monotonic()), openmetrics=openmetrics)
    response = web.Response(body=body, headers={"Content-Type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE})
    response.headers["Vary"] = "Accept, Accept-Encoding"
    if accepts(request.headers.get("Accept-Encoding", ""), "gzip"):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="session-health-exporter is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    if request.app[_LATEST].ready.is_set():
        return web.Response(text="session-health-exporter is ready.\n")
    return web.Response(status=503, text="The first collection has not ended yet.\n")


async def _reload(request: web.Request) -> web.Response:
    reload = request.app[_RELOAD]
    if reload is None:
        return web.Response(status=403, text="The lifecycle API is not enabled: start with --web.enable-lifecycle.\n")
    mistake = reload()
    if mistake is not None:
        return web.Response(status=500, text=f"{mistake}\n")
    return web.Response(text="The config was reloaded.\n")


async def _index(request: web.Request) -> web.Response:
    board = request.app[_LATEST].board
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{standing.verdict}</td>"
        f"<td>{standing.last.result if standing.last else 'not yet'}</td></tr>"
        for name, standing in board.without_snapshots(board.withdrawn(time.monotonic())).standings.items()
    )
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>session-health-exporter</title>"
        f"<h1>session-health-exporter</h1><p>version {escape(__version__)}</p>"
        "<ul><li><a href=metrics>Metrics</a></li><li><a href='-/ready'>Ready</a></li></ul>"
        f"<table><tr><th>pipeline</th><th>verdict</th><th>last collection</th></tr>{rows}</table>"
    )
    return web.Response(text=text, content_type="text/html")


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
