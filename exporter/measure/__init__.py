"""Plan + database -> Snapshot, at every interval."""
