"""The health report: what was found, line by line, and what each line rests on; as Markdown, JSON or a page."""
