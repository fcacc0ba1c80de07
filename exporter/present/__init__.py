"""Board -> text for people and programs: metrics, report, page, check."""
