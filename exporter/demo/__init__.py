"""A sample platform with a database of its own: what the exporter shows, without anything to set up."""
