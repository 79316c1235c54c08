"""Black boxes at work: one for this worker, and the settling of those that dead workers left.

`LedgerBoxes` implements `domain.components.lessee.Boxes` with the files of `infrastructure.black_box`. A worker whose
box is found is settled with exact figures at once; one without a box (another machine, a power cut) is presumed to have
spent its slices, once its lease is over by the store's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from apikeyrouter.domain.interfaces.shared_ledger import WorkerRow
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.ledger.accounts import Cells
from apikeyrouter.infrastructure.black_box import BlackBox, Slot, Wreck, find_dead

__all__ = ["LedgerBoxes", "boxes_for"]

_log = logging.getLogger("apikeyrouter")
_LOOK_FOR_EXPIRED_EVERY = 3
"""Every so many rescues (2 s each) the store is asked for workers whose lease is over; at each, while there are any."""

_LOOKS = 3
"""So many looks in a row must find a worker expired and silent. When the store itself was away, or this machine asleep,
everybody's lease is over, and the living need a moment to say so: their slices must not be presumed spent."""


def boxes_for(store: StateStore, environ: Mapping[str, str]) -> LedgerBoxes | None:
    """Boxes for a store's workers: beside its file, else in the user's state directory (XDG Base Directory
    Specification 0.8). None where nothing outlives the process anyway. Where the platform cannot keep them, workers
    whose lease is over are ended all the same."""
    if not store.persistent:
        return None
    if store.path is not None:
        return LedgerBoxes(store.path.with_name(store.path.name + "-leases"), store.description)
    xdg = environ.get("XDG_STATE_HOME", "")
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    base = Path(xdg) if xdg and Path(xdg).is_absolute() else home / ".local" / "state"
    return LedgerBoxes(base / "apikeyrouter" / "leases", store.description)


class LedgerBoxes:
    """Boxes in `directory`. `identity`: the same for all workers of one store. When a box cannot be made, requests are
    served all the same; what a crash then leaves unknown is presumed spent."""

    def __init__(self, directory: Path, identity: str) -> None:
        self._directory = directory
        self._identity = identity
        self._box: BlackBox | None = None
        self._slots: dict[tuple[str, int], Slot] = {}
        self._rescues = 0
        self._silent: dict[str, tuple[float, int]] = {}

    def begin(self, worker_id: str) -> None:
        """Starts a box. An earlier one of this process becomes a wreck, and is dealt with as such."""
        self._close(clean=False)
        try:
            self._box = BlackBox.create(self._directory, worker_id, store_identity=self._identity)
        except OSError as error:
            _log.warning(
                "No black box can be kept in %s (%s): after a crash, the slices of budgets that this process held "
                "count as spent.",
                self._directory,
                error.strerror or error,
            )

    def open_cells(self, budget_id: str, window: int) -> Cells | None:
        """(spent, sent) of a window, or None without a box."""
        if self._box is None:
            return None
        try:
            slot = self._slots[budget_id, window] = self._box.slot(budget_id, window)
        except OSError as error:
            _log.warning("The black box cannot grow: %s", error.strerror or error)
            return None
        return slot.cells

    def close_cells(self, budget_id: str, window: int) -> None:
        """The window's figures are safe in the store."""
        slot = self._slots.pop((budget_id, window), None)
        if slot is not None and self._box is not None:
            self._box.free(slot)

    async def rescue(self, store: StateStore) -> int:
        """Settles dead workers; returns how many. Raises StateStoreError."""
        count = 0
        wrecks = self._wrecks()
        try:
            for wreck in wrecks:
                count += await self._settle(store, wreck)
        finally:
            for wreck in wrecks:
                wreck.leave()  # what is not settled may be found again, by others too
        self._rescues += 1
        if self._silent or self._rescues % _LOOK_FOR_EXPIRED_EVERY == 0:
            for worker in await self._long_silent(store):
                presumed = await store.recover_worker(worker.worker_id, None)
                if presumed:
                    _log.warning(
                        "Worker %s (%s) was not heard any more and left no black box here: $%.9f count as spent.",
                        worker.worker_id,
                        worker.host or "host unknown",
                        presumed / 1e9,
                    )
                count += presumed is not None
        return count

    async def _long_silent(self, store: StateStore) -> list[WorkerRow]:
        """Workers that have been found expired, and not heard in between, often enough."""
        before, self._silent = self._silent, {}
        found = []
        for worker in await store.list_workers():
            if worker.expired:
                at_s, looks = before.get(worker.worker_id, (worker.expires_at_s, 0))
                looks = looks + 1 if at_s == worker.expires_at_s else 1
                self._silent[worker.worker_id] = (worker.expires_at_s, looks)
                if looks >= _LOOKS:
                    found.append(worker)
        return found

    def end(self) -> None:
        """This worker ended in order."""
        self._close(clean=True)

    def _wrecks(self) -> list[Wreck]:
        try:
            return find_dead(self._directory, self._identity)
        except OSError as error:
            _log.warning("Black boxes in %s cannot be looked at: %s", self._directory, error.strerror or error)
            return []

    async def _settle(self, store: StateStore, wreck: Wreck) -> int:
        presumed = await store.recover_worker(wreck.worker_id, wreck.legacy if wreck.trusted else None)
        if presumed is None and not wreck.trusted:
            known = {worker.worker_id for worker in await store.list_workers()}
            if wreck.worker_id in known:
                return 0  # its lease still runs: only its end makes it safe to presume
        wreck.remove()
        if presumed is not None:
            _log.warning(
                "Worker %s had ended without closing its books; they are closed now. Of what it had under way, $%.9f "
                "count as spent.%s",
                wreck.worker_id,
                presumed / 1e9,
                f" ({wreck.why})" if wreck.why else "",
            )
        return int(presumed is not None)

    def _close(self, *, clean: bool) -> None:
        box, self._box = self._box, None
        self._slots.clear()
        if box is not None:
            box.close(clean=clean)
