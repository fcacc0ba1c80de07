"""What a client accepts: encodings and formats, by its headers."""

from collections.abc import Iterator


def accepts(header: str, coding: str) -> bool:
    """Whether a header that lists codings, such as `gzip;q=1, *;q=0`, names this one with a weight above 0."""
    return any(name == coding and _weight(given.get("q", "1")) > 0 for name, given in _entries(header))


def _entries(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The entries of an Accept header with their parameters; never raises, whatever a client sends."""
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        yield name, dict(parameter.partition("=")[::2] for parameter in parameters)


def wants_openmetrics(accept: str) -> bool:
    """Whether a scraper that sends this Accept header is answered in OpenMetrics 1.0, else in text 0.0.4.

    Prometheus lists what it takes in the order of preference, weighted; whatever else a client sends
    (a browser, garbage) is answered in text.  https://prometheus.io/docs/instrumenting/content_negotiation/
    """
    weights = {"openmetrics": 0.0, "text": 0.0}
    for media, given in _entries(accept):
        weight = _weight(given.get("q", "1"))
        if media == "application/openmetrics-text" and given.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
            weights["openmetrics"] = max(weights["openmetrics"], weight)
        elif media in ("text/plain", "text/*") and given.get("version", "0.0.4") == "0.0.4":
            weights["text"] = max(weights["text"], weight)
    return weights["openmetrics"] > 0 and weights["openmetrics"] >= weights["text"]


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
