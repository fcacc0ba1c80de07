"""Numbers of an earlier time -> the Baseline of a report."""
