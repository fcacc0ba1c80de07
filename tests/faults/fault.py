"""A fault as a value: how it comes and goes, and what the exporter must say."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Literal

from process import USUAL, Launch
from scene import Place, Scene

Inject = Callable[[Scene], AbstractAsyncContextManager[None]]
"""Entered, the fault is there; left, the fault is mended."""

Lost = Literal["all", "fc_scores", "check", "nothing"]
"""What the exporter cannot measure in the fault."""

STOP_SECONDS: Final = 2.0
LEFT_SECONDS: Final = 1.0
NO_ANSWER: Final = ("connect", "statement_timeout", "collection_timeout")
"""The reasons of a database that does not answer, or too late: by the step that waits."""
WITHDRAWN: Final = "withdrawn"
"""Beside reasons: without a counted reason, the exporter withdraws the numbers."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.  All seconds are for an idle machine.

    `reasons`: the exporter counts at least one of them; without a reason the exporter must measure on, and show the
    truth during the fault.  `also`: reasons that the exporter may count as well; no other reason may be counted.
    `says`: a part of the log, None where the log tells nothing, or where the end of a collection in progress is told
    with the same reason first.  `lost`: what is not measured at the end of the fault.
    `spoils`: when the truth becomes bad, seen from the fault; "never" where the fault changes the tables itself.
    `lasts`: seconds from the fault to its end.  `said_within`, `right_within`: bounds on the first word and on the
    first right numbers.  `green_for`: how long `healthy` may outlast the truth, never beyond max_age.
    `left_for`: how long a backend of the exporter may stay after the end of the process; None where the server cannot
    end the backend, or is not there: `left_as` says why.  `leaves_idle`: a backend outside a transaction may stay,
    because no packet tells the server of the end.  `ends_by`: SIGKILL instead of SIGTERM and exit code 0.
    `ends_at_once`: the end comes at the moment of the fault, not at its end.
    `scrape_within`: the longest scrape.  `is_mute`: the exporter itself stands still, and answers no scrape.
    `steps_clock`: the clock of the database steps, so that the time of a snapshot tells no age.
    `shows`: a metric and its value during the fault, and not after.
    `before`: SQL of a superuser before the exporter starts.  `is_brief`: a row of `make test`.
    """

    name: str
    inject: Inject
    reasons: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    says: str | None = None
    lost: Lost = "all"
    spoils: Literal["before", "after", "never"] = "before"
    lasts: float = 3.0
    said_within: float = 2.5
    right_within: float = 5.0
    green_for: float = 2.0
    left_for: float | None = LEFT_SECONDS
    leaves_idle: bool = False
    left_as: str = "server down"
    ends_by: Literal["SIGTERM", "SIGKILL"] = "SIGTERM"
    ends_at_once: bool = False
    scrape_within: float = 0.5
    is_mute: bool = False
    steps_clock: bool = False
    is_brief: bool = False
    place: Place = "shared"
    settings: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    shows: tuple[str, float] | None = None
    before: str = ""
    launch: Launch = USUAL

    @property
    def goes_on(self) -> bool:
        """Whether the exporter measures on, with the truth."""
        return not self.reasons and not self.is_mute
