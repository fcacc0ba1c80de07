"""The health report: every value with the evidence, as Markdown, JSON or a page."""
