"""Plan + database -> Snapshot, round after round."""
