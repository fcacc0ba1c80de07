"""A URL and the PG* variables -> a connection, with the meaning that libpq gives the parameters."""
