"""Sessions with a gap, the worklist for a backfill, and the result of the backfill."""
