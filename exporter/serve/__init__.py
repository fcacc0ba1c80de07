"""The long-running process: collects, and answers over HTTP."""
