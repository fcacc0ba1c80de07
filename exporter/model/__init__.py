"""The vocabulary of all other folders: sections of a config, dimensions, and SQL as text."""
