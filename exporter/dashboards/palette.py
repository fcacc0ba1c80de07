"""One colour per state, in all dashboards.

Blue is good, yellow is a warning, red is bad: the three colours stay distinct in every kind of colour blindness, unlike
green and red.  Purple is unknown, grey is nothing to show.  Every state has a word or sign besides the colour.
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/best-practices/
"""

from typing import Final

GOOD: Final = "blue"
FAIR: Final = "light-blue"
WARNING: Final = "dark-yellow"
CRITICAL: Final = "semi-dark-red"
BAD: Final = "orange"
UNKNOWN: Final = "purple"
NOTHING: Final = "#8e8e8e"
"""Grey; Grafana has no name for the colour.  Visible in both themes."""
PLAIN: Final = "text"
"""The colour of text in the theme, for numbers without a limit."""

GOOD_GROUND: Final = "dark-blue"
WARNING_GROUND: Final = "yellow"
CRITICAL_GROUND: Final = "dark-red"
UNKNOWN_GROUND: Final = "#e0c3f0"
"""Background colours behind black or white words.

Some people see purple as blue: unknown is light and healthy is dark, in both themes.
"""

SESSION_STATES: Final = {"gap": CRITICAL, "pending": NOTHING, "complete": GOOD}
VERSION_CLASSES: Final = {"current": GOOD, "accepted": FAIR, "other": WARNING}
SEVERITIES: Final = {"critical": CRITICAL, "warning": WARNING}
STEPS: Final = {"started": NOTHING, "completed": FAIR, "covered": GOOD}
PERCENTILES: Final = {"50": FAIR, "95": GOOD, "99": "dark-blue"}
