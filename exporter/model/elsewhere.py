"""Where the rows of a record in another database come from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The other database, by its name in the config, and how long before the sessions it was read, in seconds."""

    database: str
    seconds: float
