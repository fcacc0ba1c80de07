"""An output format of a command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from exporter.text.terminal import Block

T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Format(Generic[T_contra]):
    """An output format: `render` makes a text, or blocks for a terminal with colours.

    `for_people`: text in the encoding of the locale; otherwise UTF-8, for programs.
    """

    render: Callable[[T_contra], str | Sequence[Block]]
    for_people: bool = False
