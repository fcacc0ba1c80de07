"""What `gaps` and `verify` say about a worklist, and about a list that is not complete."""

from collections.abc import Sequence
from pathlib import Path

from exporter.commands.loading import shell_for
from exporter.commands.output import counted, say
from exporter.mend.gaps import GapsNotMeasuredError, Listing
from exporter.mend.worklist import Header
from exporter.text.exits import ExitCode


def say_not_measured(error: GapsNotMeasuredError, consequence: str) -> ExitCode:
    """Say why gaps cannot be measured."""
    for fault in error.faults:
        say(f"session-health-exporter: {fault.message}")
    say(consequence)
    return ExitCode.NOT_MEASURED


def say_hidden(tables: Sequence[str], consequence: str) -> None:
    """Say of which tables policies may hide rows; nothing where there is none."""
    if tables:
        say(f"session-health-exporter: policies may hide rows of {', '.join(tables)}: {consequence}")


def say_listed(path: Path, header: Header, config_file: Path) -> None:
    """Say how many sessions a worklist has, and what comes next."""
    batches = "a batch" if header.batches == 1 else f"{header.batches} batches of at most {header.batch_size}"
    say(f"{path}: {counted(header.sessions, 'session')}" + (f" in {batches}" if header.batches else ""))
    for part in header.records:
        say(f"  {part.record}: {part.changes.create} to create, {part.changes.derive_anew} to derive anew")
    if header.unnamed:
        say(f"  beside {header.unnamed} that no list can name, for their key has a NULL")
    if header.sessions:
        say(f"next: the backfill, then {shell_for(config_file).command('verify', str(path.absolute()))}")


def exit_code_of(listing: Listing) -> ExitCode:
    """NOT_MEASURED where policies may hide rows: a reader of the code alone must not take a part for the whole."""
    return ExitCode.NOT_MEASURED if listing.restricted else ExitCode.DONE
