"""The values that everything else is about: what a config may say, what a dimension is, and SQL as a text."""
