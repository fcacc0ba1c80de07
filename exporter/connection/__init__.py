"""Where to connect and how: a url and the PG* variables, understood as libpq understands them."""
