"""Board -> what people read in a browser, rendered once for each board; no request waits for a database."""
