"""A temporary PostgreSQL server for the demo and the tests, removed without trace at the end.

    with EmbeddedPostgres(settings={"timezone": "Asia/Tokyo"}) as server:
        connection = await asyncpg.connect(server.dsn())

Linux and macOS. The exporter itself does not use this package.
"""

from exporter.embedded.binaries import Binaries, EmbeddedPostgresError, find_binaries
from exporter.embedded.server import EmbeddedPostgres

__all__ = ["Binaries", "EmbeddedPostgres", "EmbeddedPostgresError", "find_binaries"]
