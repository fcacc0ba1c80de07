"""Exit codes of the commands, and the errors behind the exit codes.

docs/operations.md lists the codes.
"""

from enum import IntEnum

from exporter import APPLICATION_NAME


class ExitCode(IntEnum):
    """The exit code of a command."""

    DONE = 0
    """The command did its work; `check`: healthy; `verify`: every session is fixed."""
    FAILED = 1
    """`check`: a limit is broken; `verify`: a session is not fixed."""
    USAGE = 2
    """The arguments or the config cannot be used."""
    NOT_MEASURED = 3
    """Something could not be measured."""
    NO_DATA = 4
    """`check`: there is no eligible session to judge."""


class UsageError(Exception):
    """The arguments, the config or the environment cannot be used; the message names the remedy."""

    @property
    def said(self) -> str:
        """The error as standard error shows it."""
        return f"{APPLICATION_NAME}: {self}"


class NotMeasuredError(Exception):
    """The result cannot be measured or written; the message names the remedy."""


class OutputError(NotMeasuredError):
    """An output is incomplete; the message names the reason."""


class StoppedError(Exception):
    """SIGTERM arrived during the work of a command."""
