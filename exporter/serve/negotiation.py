"""Accept headers of a client -> encoding and format of the answer."""

from collections.abc import Iterator


def accepts(header: str, coding: str) -> bool:
    """Whether a header such as `gzip;q=1, *;q=0` has the coding with a weight above 0."""
    return any(name == coding and _weight(given.get("q", "1")) > 0 for name, given in _entries(header))


def _entries(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The entries of an Accept header with parameters; never raises, also for malformed headers."""
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        yield name, dict(parameter.partition("=")[::2] for parameter in parameters)


def wants_openmetrics(accept: str) -> bool:
    """Whether to answer an Accept header in OpenMetrics 1.0, else in text 0.0.4.

    Prometheus sends its formats with weights.  Browsers and malformed headers get text.  https://prometheus.io/docs/instrumenting/content_negotiation/
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
