"""What is known -> text for people and programs: metrics, report, page, checks."""
