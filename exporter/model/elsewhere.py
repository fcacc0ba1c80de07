"""Where the rows of a record in another database come from."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The other database, by its name in the config, and how long before the sessions it was read, in seconds.

    `identity` tells databases apart; None if the server hides the identity.
    """

    database: str
    seconds: float
    identity: str | None = None


def identities_of(elsewhere: Mapping[str, Elsewhere]) -> dict[str, str]:
    """The known identities of other databases, by name of the database."""
    return {one.database: one.identity for one in elsewhere.values() if one.identity is not None}


def another(then: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The first name that is another database now; None if no known identity differs."""
    return next((name for name, identity in then.items() if now.get(name, identity) != identity), None)
