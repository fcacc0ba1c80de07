"""The verdict and the colours that follow from limits: the same words, ranks and colours wherever they are shown."""

from typing import Final

from exporter.dashboards import judged, palette
from exporter.dashboards.panels import Query
from exporter.dashboards.promql import PIPELINE, SEEN, by, first_of, of_all, selector
from exporter.model.standing import STANDINGS, Verdict, in_words
from exporter.state.self_metrics import VERDICT

RANKS: Final[dict[Verdict, int]] = {"healthy": 1, "no_data": 2, "degraded": 3, "unknown": 4, "unhealthy": 6}
"""The worse the larger; between the last two is a pipeline of which nothing is scraped any more."""
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
"""What stands for each rank, and the colour behind it."""

RANK: Final = (
    f"max {by(PIPELINE)} ({' or '.join(f'{rank} * {selector(VERDICT, verdict=name)}' for name, rank in RANKS.items())})"
)
"""The verdict of each pipeline; the worse one where two exporters disagree."""

RANK_OR_LOST: Final = first_of(RANK, f"0 * ({SEEN}) + {NOT_SCRAPED}")
"""The same, with those that were scraped at some moment of the time range and are no more."""


def judged_by(limit: str, aggregate: str, *, or_else: str | None = None, value: str | None = None) -> tuple[Query, ...]:
    """One number for all chosen pipelines, in the colour of the worst limit that any of them breaks.

    Red and yellow are for a broken limit, blue for one that is kept; the colour of text where there is none, or a ratio
    rests on too few sessions.
    `or_else` stands for a value that there is nothing to reckon from, `value` is the number if not the aggregate.
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
