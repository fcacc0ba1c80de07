"""Database -> a proposed config, or findings about a config."""
