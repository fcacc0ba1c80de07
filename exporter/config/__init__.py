"""A file -> Config, with every mistake at once."""
