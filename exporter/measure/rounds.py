"""What a round of the supervisor measures: everything at once, or what changes and some slices."""

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from exporter.measure.collect import collect, snapshot_of
from exporter.measure.controls import SeldomProof
from exporter.measure.interpret import Counted
from exporter.measure.session import Session
from exporter.measure.sliceable import UnsliceableError
from exporter.measure.tiers import Round, sweep
from exporter.model.fault import CollectionError
from exporter.model.sections import CollectionSettings
from exporter.model.terms import digest_of, terms_of
from exporter.plan.plan import Plan
from exporter.state.ledger import Ledger
from exporter.state.ledger_file import LedgerFileError, read_ledger, write_ledger
from exporter.state.snapshot import Snapshot
from exporter.state.swept import Swept
from exporter.text.figures import format_value

log = logging.getLogger(__name__)

FULL_SHARE: Final = 0.9
"""In mode `auto` a full pass must be repeated within this share of `max_age`, or slices take over."""

FULL_AT_LEAST: Final = 5.0
"""Seconds that a full pass may take before slices take over, at least."""

STORED_EVERY: Final = 60.0
"""Seconds between two writes of the ledger, at least."""


class Rounds:
    """Measures a pipeline round after round, and keeps the ledger of its slices in between."""

    def __init__(self, settings: CollectionSettings) -> None:
        """Start without a ledger."""
        self._settings = settings
        self._is_tiered = settings.mode == "tiered"
        self._ledger: Ledger | None = None
        self._has_failed = False
        self._store_at = 0.0
        self._is_read = settings.state_dir is None
        self._tenths = 0
        self._longest = settings.max_age.total_seconds() * FULL_SHARE * settings.duty
        self._is_doubted = False
        self._has_returned = False
        self._swept_for = 0.0
        self._proof = SeldomProof()

    async def __call__(self, plan: Plan) -> Snapshot:
        """One round; raises CollectionError if there is no snapshot."""
        with self._proof.collecting():
            return await self._measure(plan)

    async def _measure(self, plan: Plan) -> Snapshot:
        # Slices look rows up by key, and each look would be a question to the other database.
        if self._settings.mode == "full" or plan.pipeline.elsewhere:
            if self._is_tiered:
                self._is_tiered = False
                why = "mode: tiered does not apply: a record is in another database, and its rows are read whole"
                log.warning("collection.full", extra={"pipeline": plan.pipeline.name, "why": why})
            return await collect(plan, unattended=True, proof=self._proof)
        if not self._is_tiered:
            snapshot = await self._full_pass(plan)
            if snapshot is not None:
                return snapshot
        try:
            return await self._sweep(plan)
        except UnsliceableError as error:
            if self._settings.mode == "tiered":
                raise
            refusal = error
        try:
            return await collect(plan, unattended=True, proof=self._proof)
        except CollectionError as error:
            raise refusal if error.fault.reason == "statement_timeout" else error from None

    async def _full_pass(self, plan: Plan) -> Snapshot | None:
        """A full pass; None if it is cancelled, for slices to take over in the same round."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(self._longest, FULL_AT_LEAST)):
                snapshot = await collect(plan, unattended=True, proof=self._proof)
        except TimeoutError:
            allowed = f"duty allows within max_age ({self._longest:.1f} s)"
            self._go_to_slices(plan, f"a full pass takes longer than {allowed}", is_doubted=True)
            return None
        except CollectionError as error:
            if error.fault.reason != "statement_timeout":
                raise
            self._go_to_slices(plan, "a full pass takes longer than statement_timeout")
            return None
        seconds = time.monotonic() - began
        if seconds > self._longest:
            self._go_to_slices(plan, f"a full pass takes {seconds:.1f} s, more than duty allows within max_age")
        return snapshot

    def _go_to_slices(self, plan: Plan, why: str, *, is_doubted: bool = False) -> None:
        self._is_tiered, self._is_doubted, self._swept_for = True, is_doubted, 0.0
        log.info("collection.tiered", extra={"pipeline": plan.pipeline.name, "why": why})

    def _go_back(self, plan: Plan) -> None:
        """Back to full passes, once, if all slices together took less time than one full pass may.

        The server was slow for a moment, as in a failover: the tables are not large.
        """
        if self._is_doubted and not self._has_returned and self._swept_for < self._longest:
            self._is_tiered, self._ledger, self._has_returned = False, None, True
            why = f"all slices together took {self._swept_for:.1f} s"
            log.info("collection.full", extra={"pipeline": plan.pipeline.name, "why": why})

    def _file(self, plan: Plan) -> Path | None:
        directory = self._settings.state_dir
        return Path(directory) / f"{plan.pipeline.name}.ledger" if directory else None

    async def _restored(self, session: Session) -> Ledger | None:
        """The ledger of the last process, once; None without a file that is right."""
        path, bound = self._file(session.plan), _bound(session)
        if self._is_read or path is None or bound is None:
            return None
        self._is_read = True
        try:
            return await asyncio.to_thread(read_ledger, path, bound)
        except LedgerFileError as error:
            log.warning(
                "ledger.rebuilt", extra={"pipeline": session.plan.pipeline.name, "error": f"{path.name} {error}"}
            )
            return None

    async def _store(self, plan: Plan, measured: Round) -> None:
        path, bound = self._file(plan), _bound(measured.session)
        if path is None or bound is None or time.monotonic() < self._store_at:
            return
        self._store_at = time.monotonic() + STORED_EVERY
        try:
            await asyncio.to_thread(write_ledger, path, measured.ledger, bound)
        except OSError as error:
            if not self._has_failed:
                log.warning(
                    "ledger.not_written",
                    extra={
                        "pipeline": plan.pipeline.name,
                        "error": f"{error.strerror}: check that the exporter may write to state_dir",
                    },
                )
            self._has_failed = True
        else:
            self._has_failed = False

    async def _sweep(self, plan: Plan) -> Snapshot:
        seconds = plan.pipeline.interval.total_seconds() * self._settings.duty
        before, began = self._ledger, time.monotonic()
        try:
            measured = await sweep(plan, before, seconds, self._restored, unattended=True, proof=self._proof)
        except UnsliceableError:
            raise
        except CollectionError as error:
            if before is not None and error.fault.reason == "statement_timeout":
                self._ledger = replace(before, is_behind=True)
            raise
        self._ledger = ledger = measured.ledger
        await self._store(plan, measured)
        first = plan.pipeline.window.start(measured.session.clock.timestamp())
        share = ledger.share(first)
        left = ledger.left(share, measured.session.clock.timestamp())
        swept = Swept(share, ledger.oldest, ledger.differences, left)
        self._tell(plan, swept, is_new=before is None)
        self._swept_for += time.monotonic() - began
        if swept.is_whole:
            self._go_back(plan)
        counted = Counted(measured.cells, measured.of_record, {}, measured.part_faults)
        return snapshot_of(measured.session, counted, measured.restricted, swept)

    def _tell(self, plan: Plan, swept: Swept, *, is_new: bool) -> None:
        """Log the progress of the first sweep, each tenth once."""
        tenths = int(swept.share * 10)
        if tenths <= self._tenths and not is_new:
            return
        self._tenths = tenths
        known: dict[str, object] = {"pipeline": plan.pipeline.name}
        if swept.is_whole:
            log.info("sweep.first_ended", extra=known)
        else:
            left = {} if swept.left is None else {"left": format_value(swept.left, "seconds")}
            log.info("sweep.progress", extra={**known, "share": f"{swept.share:.0%}", **left})


def _bound(session: Session) -> dict[str, str] | None:
    """What a ledger on disk belongs to; None if the server does not tell which database it is."""
    if session.identity is None:
        return None
    return {
        "database": session.identity,
        "config": digest_of(terms_of(session.plan.pipeline, session.plan.sections)),
    }
