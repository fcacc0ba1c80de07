"""Values -> HTML with one style, for the page and the report; every value is escaped."""
