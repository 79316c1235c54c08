"""What holding money costs in process: hold, send and settle on leased budgets, black box included.

    python -m bench holds

Laws: the same calls as the pipeline makes, on accounts with cells in a real black box; warmed up; the least of several
rounds, since other programs only ever add.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.leases import Lease
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.infrastructure.black_box import BlackBox
from apikeyrouter.infrastructure.clock import SystemClock

__all__ = ["main"]

ROUNDS, TURNS = 7, 20_000
PLENTY = 10**15


def main(_argv: Sequence[str] = ()) -> int:
    """Prints microseconds per request for one, three and eight budgets."""
    ledger = Ledger(SystemClock())
    with tempfile.TemporaryDirectory() as folder:
        box = BlackBox.create(Path(folder), "bench", store_identity="bench")
        for count in (1, 3, 8):
            print(f"{count} budgets: {_measure(ledger, box, count):.2f} us for hold, send and settle together")
        box.close(clean=True)
    return 0


def _measure(ledger: Ledger, box: BlackBox, count: int) -> float:
    leases = [Lease(f"budget-{i}", count, count, limit=PLENTY, hard=True, now_s=0.0) for i in range(count)]
    for lease in leases:
        lease.account.limit = PLENTY
        lease.account.cells = box.slot(lease.budget_id, lease.window).cells
    lines = [(lease.account, 100) for lease in leases]
    actual = [50] * count
    best = float("inf")
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        for _ in range(TURNS):
            hold = ledger.try_hold(lines)
            if not isinstance(hold, Hold):
                raise RuntimeError("a hold was refused although there is plenty")  # noqa: TRY004 - a fault of the set-up
            hold.dispatch()
            hold.settle(actual)
        best = min(best, time.perf_counter() - started_s)
    return best / TURNS * 1e6


if __name__ == "__main__":
    raise SystemExit(main())
