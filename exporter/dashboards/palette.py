"""One colour for each named state, in all dashboards.

Blue is good, yellow is a warning, red is bad: three colours that stay apart in every kind of colour blindness, where
green and red do not.  Purple is unknown, grey is nothing to tell.  No state is told by its colour alone.
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
"""Grey, for which Grafana has no name; it stands out from both themes."""
PLAIN: Final = "text"
"""The colour of text in the theme: of a number that nobody judges."""

GOOD_GROUND: Final = "dark-blue"
WARNING_GROUND: Final = "yellow"
CRITICAL_GROUND: Final = "dark-red"
UNKNOWN_GROUND: Final = "#e0c3f0"
"""The same behind words, which are black or white on it, whichever is read more easily.

Some see no purple but blue: unknown is light where healthy is dark, in both themes, for which Grafana has no name.
"""

SESSION_STATES: Final = {"gap": CRITICAL, "pending": NOTHING, "complete": GOOD}
VERSION_CLASSES: Final = {"current": GOOD, "accepted": FAIR, "other": WARNING}
SEVERITIES: Final = {"critical": CRITICAL, "warning": WARNING, "info": GOOD}
STEPS: Final = {"started": NOTHING, "completed": FAIR, "covered": GOOD}
PERCENTILES: Final = {"50": FAIR, "95": GOOD, "99": "dark-blue"}
