"""Values -> HTML in one look, for the page and the report: whatever is filled in is escaped."""
