"""The verdict and the colours of limits: the same words, ranks and colours in every panel."""

from typing import Final

from exporter.dashboards import judged, palette
from exporter.dashboards.panels import Query
from exporter.dashboards.promql import PIPELINE, SEEN, by, first_of, of_all, selector
from exporter.model.standing import STANDINGS, Verdict, in_words
from exporter.state.self_metrics import VERDICT

RANKS: Final[dict[Verdict, int]] = {"healthy": 1, "no_data": 2, "degraded": 3, "unknown": 4, "unhealthy": 6}
"""A larger rank is worse; a pipeline that is no longer scraped ranks between unknown and unhealthy."""
NOT_SCRAPED: Final = 5

_GROUNDS: Final[dict[Verdict, str]] = {
    "healthy": palette.GOOD_GROUND,
    "no_data": palette.NOTHING,
    "degraded": palette.WARNING_GROUND,
    "unknown": palette.UNKNOWN_GROUND,
    "unhealthy": palette.CRITICAL_GROUND,
}


def _text(verdict: Verdict, words: str = "") -> tuple[str, str]:
    return f"{STANDINGS[verdict].glyph} {(words or in_words(verdict)).upper()}", _GROUNDS[verdict]


TEXTS: Final = dict(
    sorted({**{RANKS[v]: _text(v) for v in RANKS}, NOT_SCRAPED: _text("unknown", "not scraped")}.items())
)
"""The text of each rank, and the background colour."""

RANK: Final = (
    f"max {by(PIPELINE)} ({' or '.join(f'{rank} * {selector(VERDICT, verdict=name)}' for name, rank in RANKS.items())})"
)
"""The verdict of each pipeline; the worse verdict if two exporters disagree."""

RANK_OR_LOST: Final = first_of(RANK, f"0 * ({SEEN}) + {NOT_SCRAPED}")
"""The rank, also of pipelines that were scraped in the time range and are no longer scraped."""


def judged_by(limit: str, aggregate: str, *, or_else: str | None = None, value: str | None = None) -> tuple[Query, ...]:
    """One number for all chosen pipelines, in the colour of the worst broken limit.

    Red and yellow: a broken limit.  Blue: within the limit.  Text colour: no limit, or a ratio of too few sessions.
    `or_else` replaces a missing value; `value` is the number, if different from the aggregate.
    """
    vector = judged.VALUES[limit]
    total = judged.shown(limit, value or of_all(aggregate, first_of(vector, or_else) if or_else else vector))
    below = next(one for one in judged.LIMITS if one.name == limit).below
    enough = judged.with_enough_sessions(limit, vector)
    than = f"{'<' if below else '>'} on ({', '.join(PIPELINE)}) group_left ()"
    broken, warned = (f"({enough} {than} {judged.bound(severity, limit)})" for severity in ("critical", "warning"))
    exists = first_of(judged.bound("critical", limit), judged.bound("warning", limit))
    judgeable = f"({enough} and on ({', '.join(PIPELINE)}) {exists})"
    return (
        Query(f"{total} and on () {broken}", color=palette.CRITICAL),
        Query(f"({total} and on () {warned}) unless on () {broken}", color=palette.WARNING),
        Query(f"({total} and on () {judgeable}) unless on () ({broken} or {warned})", color=palette.GOOD),
        Query(f"{total} unless on () {judgeable}"),
    )
