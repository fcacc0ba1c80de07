"""Board -> pages for a browser, rendered once per board; no request waits for a database."""
