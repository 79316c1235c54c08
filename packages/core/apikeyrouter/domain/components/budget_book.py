"""Every budget of the store, and this worker's leases on those that its requests touch.

`accounts_for` is on the path of each request: it answers from a cache that lives until a window ends, a budget changes
or the store was not heard for too long, whichever comes first; one comparison of times tells.

Laws: budgets are what the store says (`reload` follows its changes); a hold is taken on the lease of the window that
runs by the store's clock; hard leases are frozen once the store may have given them up.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from apikeyrouter.domain.components.lessee import TTL_S, Boxes, Lessee
from apikeyrouter.domain.cost.alerts import alerts_of
from apikeyrouter.domain.cost.budgets import (
    BudgetDefinition,
    BudgetLine,
    BudgetOverrun,
    BudgetThresholdReached,
    define_budget,
    limit_to_nano_usd,
    mode_of,
)
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import BudgetDefinitionError, BudgetNotFoundError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import LeaseGrant, WindowTotals
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredBudget, StoredEvent
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.leases import Lease
from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode

__all__ = ["BudgetBook", "Standing"]

_CACHE_MAX = 4096
_RECHECK_S = 60.0
"""The wall clock is looked at least this often: the monotonic one stands still while a machine sleeps."""

_FROZEN_RECHECK_S = 0.1
_NO_TAGS: Mapping[str, object] = {}


class Standing(NamedTuple):
    """How a budget stands now, as far as this process knows. `limit` and `left` in nano-USD, `left` beside what running
    requests hold; `resets_utc_s`: Unix seconds, None when it never does or rolls."""

    budget_id: str
    limit: int
    left: int
    resets_utc_s: float | None


class BudgetBook:
    """Budgets by id.

    `on_alert` is told of passed thresholds, each exactly once over all processes. `any`: whether there is a budget at
    all; without one the path of a request skips everything here. `soft_without_store`: whether soft budgets let
    requests through while the store cannot be reached.
    """

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        *,
        on_alert: Callable[[BudgetThresholdReached | BudgetOverrun], None],
        boxes: Boxes | None = None,
        soft_without_store: bool = True,
        ttl_s: float = TTL_S,
    ) -> None:
        self.any = False
        self.lessee = Lessee(
            store,
            clock,
            boxes=boxes,
            on_answer=self._answered,
            on_fenced=self._fenced,
            on_time=self._timed,
            ttl_s=ttl_s,
        )
        self._store = store
        self._clock = clock
        self._on_alert = on_alert
        self._soft_without_store = soft_without_store
        self._lines: dict[str, BudgetLine] = {}
        self._cache: dict[tuple[object, ...], tuple[Account, ...]] = {}
        self._tag_names: tuple[str, ...] = ()
        self._look_again_s = -1e18

    # -- the path of a request --------------------------------------------------------------------------------------

    def accounts_for(
        self, provider_id: str, key_id: str, model: str, tags: Mapping[str, object] = _NO_TAGS, *, now_s: float
    ) -> tuple[Account, ...]:
        """The accounts (nano-USD) that a request must be held on; empty when no budget covers it."""
        if not self.any:
            return ()
        if now_s >= self._look_again_s:
            self._look_again(now_s)
        names = self._tag_names
        key: tuple[object, ...] = (
            (provider_id, key_id, model, *[tags.get(name) for name in names]) if names else (provider_id, key_id, model)
        )
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            covering = [line for line in self._lines.values() if line.covers(provider_id, key_id, model, tags)]
            found = tuple([self._lease(line, now_s).account for line in covering])
            self._cache[key] = found
        return found

    def line(self, budget_id: str) -> BudgetLine:
        """The budget. Raises BudgetNotFoundError."""
        line = self._lines.get(budget_id)
        if line is None:
            raise BudgetNotFoundError(f"No budget has the id {budget_id!r}. `list_budgets()` shows those that exist.")
        return line

    def lease_of(self, account: Account) -> Lease | None:
        """The lease that an account belongs to, if it is that of a running window."""
        line = self._lines.get(account.id)
        return line.lease if line is not None and line.lease is not None and line.lease.account is account else None

    def lines_of(self, accounts: Iterable[Account]) -> list[BudgetLine]:
        """The budgets behind accounts, those that are gone left out."""
        return [self._lines[account.id] for account in accounts if account.id in self._lines]

    def tightest(self, accounts: Iterable[Account]) -> Standing | None:
        """The budget of these accounts that has the least left, in parts of its limit."""
        found: tuple[float, BudgetLine, Lease, int] | None = None
        for account in accounts:
            line = self._lines.get(account.id)
            lease = line.lease if line is not None else None
            if line is None or lease is None:
                continue
            left = lease.left
            share = left / lease.limit
            if found is None or share < found[0]:
                found = (share, line, lease, left)
        if found is None:
            return None
        _, line, lease, left = found
        return Standing(line.budget_id, lease.limit, max(0, left), line.resets_utc_s)

    def _lease(self, line: BudgetLine, now_s: float) -> Lease:
        utc_s = self.lessee.utc_s(now_s)
        lease = line.lease
        if lease is None or line.moved_on(utc_s):
            if lease is not None:
                line.end_window()
            lease = line.begin_window(utc_s, now_s)
            self.lessee.add(lease)
            self._plan(line, now_s)
        return lease

    def _plan(self, line: BudgetLine, now_s: float) -> None:
        """When to look again because of this line's window."""
        if line.span is not None:
            ends_s = now_s + (line.span.ends_utc_s - self.lessee.utc_s(now_s))
            self._look_again_s = min(self._look_again_s, ends_s)

    def _look_again(self, now_s: float) -> None:
        """Windows that ended give way to the next; a store that was not heard freezes what it may have given up."""
        self._cache.clear()
        self._look_again_s = now_s + _RECHECK_S
        utc_s = self.lessee.utc_s(now_s)
        for line in self._lines.values():
            if line.lease is None:
                continue
            if line.moved_on(utc_s):
                line.end_window()
            else:
                self._plan(line, now_s)
        if not self.lessee.freeze_if_lapsed(now_s, soft_too=not self._soft_without_store):
            self._look_again_s = min(self._look_again_s, self.lessee.lapse_at_s)
        else:
            self._look_again_s = now_s + _FROZEN_RECHECK_S

    # -- the store's word -------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Takes over the store's budgets: new, changed and deleted ones. Raises StateStoreError."""
        rows = {row.budget_id: row for row in await self._store.load_budgets()}
        for budget_id in [one for one in self._lines if one not in rows]:
            self._remove(budget_id)
        for budget_id, row in rows.items():
            line = self._lines.get(budget_id)
            if line is None:
                self._lines[budget_id] = BudgetLine(budget_id, _definition_of(row), created_at_s=row.created_at_s)
            elif line.row() != row:
                line.redefine(_definition_of(row))
        self._changed()

    def _answered(self, lease: Lease, grant: LeaseGrant) -> None:
        if grant.gone:
            if self._lines.get(grant.budget_id) is not None:
                self._remove(grant.budget_id)
                self._changed()
            self.lessee.drop(lease)
            lease.retire()
            return
        line = self._lines.get(grant.budget_id)
        if line is None:
            return
        for event in alerts_of(line, lease, grant):
            self._on_alert(event)

    def _fenced(self) -> None:
        """Every lease is void: the next use makes a new one."""
        for line in self._lines.values():
            line.lease = None
        self._cache.clear()

    def _timed(self) -> None:
        """The store's clock is known now; windows that were chosen by this machine's may be other ones."""
        utc_s = self.lessee.utc_s(self._clock.monotonic_s())
        for line in self._lines.values():
            lease = line.lease
            if lease is not None and lease.window != line.definition.window.at(utc_s).window:
                if not lease.account.used and not lease.account.held:
                    self.lessee.drop(lease)
                line.forget_window()
        self._cache.clear()
        self._look_again_s = -math.inf

    def _remove(self, budget_id: str) -> None:
        line = self._lines.pop(budget_id, None)
        if line is not None and line.lease is not None:
            self.lessee.drop(line.lease)
            line.lease.retire()

    def _changed(self) -> None:
        self._cache.clear()
        self.any = bool(self._lines)
        names = set()
        for line in self._lines.values():
            scope, scope_id = line.definition.scope, line.definition.scope_id or ""
            if scope is BudgetScope.PerTag:
                names.add(scope_id.partition("=")[0])
            elif scope is BudgetScope.PerVirtualKey:
                names.add("virtual_key")
            elif scope is BudgetScope.PerTeam:
                names.add("team")
        self._tag_names = tuple(sorted(names))
        self.lessee.kick()

    # -- users ------------------------------------------------------------------------------------------------------

    async def create(self, definition: BudgetDefinition) -> Budget:
        """Adds a budget; it holds from now on, here and in every other process. Raises StateStoreError."""
        line = BudgetLine(f"budget_{secrets.token_hex(6)}", definition, created_at_s=self._clock.utc_now().timestamp())
        await self._write(line, "budget.created")
        self._lines[line.budget_id] = line
        self._changed()
        return line.snapshot([], self.lessee.utc_s(self._clock.monotonic_s()))

    async def update(
        self,
        budget_id: str,
        *,
        limit: Decimal | int | str | None = None,
        enforcement_mode: EnforcementMode | str | None = None,
        name: str | None = None,
    ) -> Budget:
        """Changes limit, mode or name; what was spent stays spent, and a lower limit leaves running requests alone.

        Raises BudgetNotFoundError, BudgetDefinitionError, StateStoreError; then nothing changed.
        """
        line = await self._known(budget_id)
        before = line.definition
        after = replace(
            before,
            limit_nano_usd=before.limit_nano_usd if limit is None else limit_to_nano_usd(limit),
            mode=before.mode if enforcement_mode is None else mode_of(enforcement_mode),
            name=before.name if name is None else name,
        )
        line.redefine(after)
        written = False
        try:
            await self._write(line, "budget.updated")
            written = True
        finally:  # on cancellation too
            if not written:
                line.redefine(before)
        self._changed()
        return await self.get(budget_id)

    async def delete(self, budget_id: str) -> None:
        """Removes a budget; requests under way settle unseen. Raises BudgetNotFoundError, StateStoreError."""
        line = await self._known(budget_id)
        await self._write(line, "budget.deleted", status="deleted")
        self._remove(budget_id)
        self._changed()

    async def get(self, budget_id: str) -> Budget:
        """The budget as it stands now, spend of all processes included. Raises BudgetNotFoundError, StateStoreError."""
        return (await self.snapshots([await self._known(budget_id)]))[0]

    async def select(self, scope: BudgetScope | None, scope_id: str | None) -> list[Budget]:
        """Every budget, oldest first; of one scope or scope id only, if given. Raises StateStoreError."""
        await self.reload()
        return await self.snapshots(
            [
                line
                for line in sorted(self._lines.values(), key=lambda line: line.created_at_s)
                if (scope is None or line.definition.scope == scope)
                and (scope_id is None or line.definition.scope_id == scope_id)
            ]
        )

    async def snapshots(self, lines: Sequence[BudgetLine]) -> list[Budget]:
        """The budgets as users see them. Raises StateStoreError."""
        utc_s = self.lessee.utc_s(self._clock.monotonic_s())
        spans = {line.budget_id: line.definition.window.at(utc_s) for line in lines}
        wanted = [(budget_id, span.oldest, span.window) for budget_id, span in spans.items()]
        windows: dict[str, list[WindowTotals]] = {line.budget_id: [] for line in lines}
        for totals in await self._store.load_windows(wanted) if wanted else ():
            windows[totals.budget_id].append(totals)
        return [line.snapshot(windows[line.budget_id], utc_s) for line in lines]

    async def _known(self, budget_id: str) -> BudgetLine:
        if budget_id not in self._lines:
            await self.reload()  # another process may have made it a moment ago
        return self.line(budget_id)

    async def _write(self, line: BudgetLine, kind: str, *, status: str = "active") -> None:
        definition = line.definition
        about = {
            "scope": definition.scope.value,
            "scope_id": definition.scope_id,
            "limit_nano_usd": definition.limit_nano_usd,
            "period": definition.period.value,
            "rolling": definition.rolling,
            "time_zone": definition.time_zone,
            "mode": definition.mode.value,
            "name": definition.name,
        }
        event = StoredEvent(self._clock.utc_now().timestamp(), kind, line.budget_id, about)
        await self._store.apply(StoreBatch(budgets=[line.row(status)], events=[event]))


def _definition_of(row: StoredBudget) -> BudgetDefinition:
    limit = to_decimal_usd(row.limit_nano_usd)
    try:
        return define_budget(
            row.scope,
            row.scope_id,
            limit,
            row.period,
            row.mode,
            rolling=row.rolling,
            time_zone=row.time_zone,
            name=row.name,
        )
    except BudgetDefinitionError as fault:
        raise BudgetDefinitionError(f"The stored budget {row.budget_id} is not usable here: {fault.message}") from None
