"""The black boxes of this machine, as the ledger's worker uses them: its own, and those of dead neighbours.

Implements `domain.components.lessee.Boxes` over `infrastructure.black_box`. Where no box can be kept (no such platform,
a full or foreign directory) everything goes on without one, and the log says once what that costs: if this process is
killed, all that it has leased counts as spent.
"""

from __future__ import annotations

import logging
from pathlib import Path

from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.ledger.accounts import Cells
from apikeyrouter.infrastructure.black_box import BlackBox, Slot, Wreck, find_dead

__all__ = ["MachineBoxes"]

_log = logging.getLogger("apikeyrouter")


class MachineBoxes:
    """`directory`: for boxes only, on a local disk, shared by all workers of this machine and user. `store_identity`:
    the same for all workers on one store, without secrets."""

    def __init__(self, directory: Path, store_identity: str) -> None:
        self._directory = directory
        self._store_identity = store_identity
        self._worker_id = ""
        self._box: BlackBox | None = None
        self._slots: dict[tuple[str, int], Slot] = {}
        self._noted: set[str] = set()

    def begin(self, worker_id: str) -> None:
        """Starts the box of a new worker; an earlier one of this process ends, and owes nothing."""
        self.end()
        self._worker_id = worker_id
        try:
            self._box = BlackBox.create(self._directory, worker_id, store_identity=self._store_identity)
        except OSError as error:
            self._note(f"no black box can be kept ({error}); if this process is killed, what it has leased is spent")

    def open_cells(self, budget_id: str, window: int) -> Cells | None:
        """Two integers for this window, both 0, or None when there is no box for it."""
        if self._box is None:
            return None
        try:
            slot = self._box.slot(budget_id, window)
        except (OSError, ValueError) as error:  # a full disk; an id that is too long
            self._note(f"a budget is not in the black box ({error}); if this process is killed, its lease is spent")
            return None
        self._slots[budget_id, window] = slot
        return slot.cells

    def close_cells(self, budget_id: str, window: int) -> None:
        """The window is over and the store knows everything."""
        slot = self._slots.pop((budget_id, window), None)
        if slot is not None and self._box is not None:
            self._box.free(slot)

    async def rescue(self, store: StateStore) -> int:
        """Ends dead workers: those of this machine by their boxes, exactly; then any whose life is over by the store's
        clock, whose leases count as spent. Returns how many. Raises StateStoreError; what is left is found again."""
        ended = 0
        try:
            wrecks = find_dead(self._directory, self._store_identity)
        except OSError as error:
            self._note(f"the black boxes of ended workers cannot be read ({error})")
            wrecks = []
        try:
            for wreck in wrecks:
                ended += await _settle(wreck, store)
        finally:
            for wreck in wrecks:
                wreck.leave()
        for worker in await store.list_workers():
            if not worker.expired or worker.worker_id == self._worker_id:
                continue
            presumed = await store.recover_worker(worker.worker_id, None)
            if presumed is not None:
                _log.log(
                    logging.WARNING if presumed else logging.INFO,
                    "Worker %s was not heard any more; what it had leased, %d nano-USD, is presumed spent.",
                    worker.worker_id,
                    presumed,
                )
                ended += 1
        return ended

    def end(self) -> None:
        """This worker ended in order: its box is not needed."""
        box, self._box = self._box, None
        self._slots.clear()
        if box is not None:
            box.close(clean=True)

    def _note(self, text: str) -> None:
        """Says something once."""
        if text not in self._noted:
            self._noted.add(text)
            _log.warning("Budgets: %s.", text)


async def _settle(wreck: Wreck, store: StateStore) -> int:
    """Ends the worker of one wreck; 1 if that was still to be done. A box that says nothing is only removed: its worker
    is ended when its life is over."""
    if not wreck.trusted:
        _log.warning("The black box of worker %s cannot be used: %s.", wreck.worker_id, wreck.why)
        wreck.remove()
        return 0
    presumed = await store.recover_worker(wreck.worker_id, wreck.legacy)
    wreck.remove()
    if presumed is None:
        return 0
    _log.warning(
        "Worker %s ended unexpectedly; its books were closed from its black box, %d nano-USD of them presumed.",
        wreck.worker_id,
        presumed,
    )
    return 1
