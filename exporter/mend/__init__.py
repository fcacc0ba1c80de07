"""Which sessions have a gap, the list for a backfill, and whether the backfill fixed them."""
