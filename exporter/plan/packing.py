"""Small numbers of a session packed into few whole numbers: one narrow group key instead of many columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WORD_BITS: Final = 62
"""Bits of a bigint in use: a sum of fields never reaches the sign."""


@dataclass(frozen=True, slots=True)
class Place:
    """The bits of one field: the number of the word, from 1, the lowest bit, and the number of bits."""

    word: int
    shift: int
    width: int

    @property
    def column(self) -> str:
        """The column of the word."""
        return f"word_{self.word}"

    def flag(self, condition: str, bit: int = 0) -> str:
        """SQL for the word with one bit of the field set if the condition is true."""
        return f"case when {condition} then {self.value(1 << bit)} else 0 end"

    def value(self, number: int) -> str:
        """SQL for the word with the field set to a number."""
        return f"{number << self.shift}::bigint"

    def shifted(self, sql: str) -> str:
        """SQL for the word with the field set to a small whole number (SQL)."""
        return f"(({sql})::bigint << {self.shift})"

    def has(self, bit: int = 0) -> str:
        """SQL over a word: whether a bit of the field is set."""
        return f"({self.column} & {1 << (self.shift + bit)}) <> 0"

    def number(self) -> str:
        """SQL over a word: the field as a number."""
        return f"(({self.column} >> {self.shift}) & {(1 << self.width) - 1})"


def places(fields: Iterable[tuple[str, int]]) -> dict[str, Place]:
    """The places of fields (name and number of bits), in order, in as few words as are needed."""
    found: dict[str, Place] = {}
    word, used = 1, 0
    for name, width in fields:
        if used + width > WORD_BITS:
            word, used = word + 1, 0
        found[name] = Place(word, used, width)
        used += width
    return found


def words(parts: Iterable[tuple[Place, str]]) -> dict[str, str]:
    """SQL for each word, as the sum of the parts of the word."""
    found: dict[str, list[str]] = {}
    for place, sql in parts:
        found.setdefault(place.column, []).append(sql)
    return {column: " + ".join(sums) for column, sums in found.items()}


def columns_of(laid: Mapping[str, Place], names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns of the words with the named fields, or with any field."""
    return tuple(dict.fromkeys(place.column for name, place in laid.items() if names is None or name in names))
