"""The process that stays: it collects, and answers over HTTP."""
