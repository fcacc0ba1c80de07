"""How far the numbers are bounded that are sums of slices."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Swept:
    """The state of a sweep at a snapshot.

    `share`: the share (0 to 1) of the tables that slices cover.  `oldest`: when the oldest slice was counted, in Unix
    seconds by the database's clock.  `differences`: the sessions that the last whole sweep found counted in another
    way than before; None before.  `left`: seconds to the end of the first sweep at the rate so far; None if unknown.
    """

    share: float
    oldest: float
    differences: int | None
    left: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every number is complete."""
        return self.share >= 1
