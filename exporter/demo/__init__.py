"""A sample platform with a temporary database: the exporter's output without any setup."""
