"""The judgement of a pipeline, a limit or a line: the words, and one table of signs, tones and ranks."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, Self, get_args

from exporter.text.terminal import Tone

Verdict = Literal["healthy", "degraded", "unhealthy", "no_data", "unknown"]
"""The judgement of a pipeline."""
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)

Outcome = Literal["within", "warning", "critical", "too_few", "not_judged", "not_measured"]
"""The judgement of a value by a limit.

`too_few`: a ratio of fewer sessions than `min_sessions`; `not_judged`: no value to judge.
"""


class Standing(StrEnum):
    """The seven marks, the worst first.

    `sign` is for Markdown, `glyph` for a place without emoji, `tone` for a terminal, `spoken` for a screen reader.
    """

    sign: str
    glyph: str
    tone: Tone
    spoken: str

    CRITICAL = "critical", "❌", "✕", "bad", "critical"
    UNKNOWN = "unknown", "❓", "?", "unknown", "unknown"
    WARNING = "warning", "⚠️", "!", "warning", "warning"
    TOO_FEW = "too_few", "⬜", "∅", "quiet", "too few to judge"
    NOTED = "noted", "▫️", "·", "quiet", "for information"
    NOT_ASKED = "not_asked", "➖", "–", "quiet", "not asked for"  # noqa: RUF001 - signs, no hyphens
    FINE = "fine", "✅", "✓", "good", "fine"

    def __new__(cls, value: str, sign: str, glyph: str, tone: Tone, spoken: str) -> Self:
        """A member is a string with the other columns of the table as attributes."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sign, member.glyph, member.tone, member.spoken = sign, glyph, tone, spoken
        return member

    @property
    def rank(self) -> int:
        """The place in the table: 0 is the worst."""
        return list(Standing).index(self)

    @property
    def level(self) -> int:
        """The number in a metric: the larger, the worse.  Nothing to judge is the least: a fine value says more."""
        by_level = ("noted", "fine", "too_few", "warning", "unknown", "critical")
        return by_level.index(self.value)


STANDINGS: Final[Mapping[Verdict | Outcome, Standing]] = {
    "unhealthy": Standing.CRITICAL,
    "critical": Standing.CRITICAL,
    "unknown": Standing.UNKNOWN,
    "not_measured": Standing.UNKNOWN,
    "degraded": Standing.WARNING,
    "warning": Standing.WARNING,
    "no_data": Standing.TOO_FEW,
    "too_few": Standing.TOO_FEW,
    "not_judged": Standing.NOTED,
    "healthy": Standing.FINE,
    "within": Standing.FINE,
}
"""The mark of a verdict or an outcome."""


def rank(word: Verdict | Outcome) -> int:
    """The rank of a verdict or an outcome: 0 is the worst."""
    return STANDINGS[word].rank


WORST_FIRST: Final[tuple[Verdict, ...]] = tuple(sorted(VERDICTS, key=rank))


def in_words(word: Verdict | Outcome) -> str:
    """A verdict or an outcome as text for people."""
    return "not judged" if word == "too_few" else word.replace("_", " ")
