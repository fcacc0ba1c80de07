"""A private PostgreSQL server for the demo and the tests: started in a moment, gone without trace.

    with EmbeddedPostgres(settings={"timezone": "Asia/Tokyo"}) as server:
        connection = await asyncpg.connect(server.dsn())

Linux and macOS. Nothing of it is used by the exporter itself.
"""

from exporter.embedded.binaries import Binaries, EmbeddedPostgresError, find_binaries
from exporter.embedded.server import EmbeddedPostgres

__all__ = ["Binaries", "EmbeddedPostgres", "EmbeddedPostgresError", "find_binaries"]
