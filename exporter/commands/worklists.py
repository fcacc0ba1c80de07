"""The pipeline of a list, and remarks about a worklist and about an incomplete list."""

from collections.abc import Sequence
from pathlib import Path

from exporter.commands.loading import shell_for
from exporter.commands.output import counted, say
from exporter.mend.whole import Listing, ListNotMeasuredError
from exporter.mend.worklist import Header
from exporter.model.sections import Config
from exporter.text.exits import ExitCode, UsageError
from exporter.text.names import known_names


def chosen_pipeline(config: Config, name: str | None) -> str:
    """The name of the chosen pipeline, or of the only pipeline.  Raises UsageError."""
    known = config.pipelines
    if name is None:
        if len(known) > 1:
            raise UsageError(f"the config has several pipelines: add --pipeline with one of {', '.join(known)}")
        return next(iter(known))
    if name not in known:
        raise UsageError(f"--pipeline {name} is not in the config{known_names(name, known)}")
    return name


def say_not_measured(error: ListNotMeasuredError, consequence: str) -> ExitCode:
    """Print the faults and the consequence; returns NOT_MEASURED."""
    for fault in error.faults:
        say(f"session-health-exporter: {fault.message}")
    say(consequence)
    return ExitCode.NOT_MEASURED


def say_hidden(tables: Sequence[str], consequence: str) -> None:
    """Print the tables with policies that may hide rows; prints nothing if `tables` is empty."""
    if tables:
        say(f"session-health-exporter: policies may hide rows of {', '.join(tables)}: {consequence}")


def say_listed(path: Path, header: Header, config_file: Path) -> None:
    """Print the number of sessions in a worklist, and the next command."""
    batches = "1 batch" if header.batches == 1 else f"{header.batches} batches of at most {header.batch_size}"
    say(f"{path}: {counted(header.sessions, 'session')}" + (f" in {batches}" if header.batches else ""))
    for part in header.records:
        changes = part.changes
        counts = (
            f", {changes.add} with too few rows, {changes.remove} with too many" if changes.add + changes.remove else ""
        )
        say(f"  {part.record}: {changes.create} to create, {changes.derive_anew} to derive again{counts}")
    if header.unnamed:
        say(f"  not listed: {counted(header.unnamed, 'session')} with NULL in the key")
    if header.sessions:
        say(f"next: run the backfill, then {shell_for(config_file).command('verify', str(path.absolute()))}")


def exit_code_of(listing: Listing) -> ExitCode:
    """NOT_MEASURED if policies may hide rows: exit code 0 promises a complete list."""
    return ExitCode.NOT_MEASURED if listing.restricted else ExitCode.DONE
