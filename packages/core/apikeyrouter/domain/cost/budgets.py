"""Budgets as lines of the ledger: a limit in dollars, what it covers, and this worker's lease of the running window.

A `BudgetLine` joins the user's definition, the windows of its period, and the lease that holds are taken on; the lease
changes with the window, so that a hold settles into the window that it was taken in.

Laws: amounts are whole nano-dollars inside and exact Decimals outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from apikeyrouter.domain.cost.prices import to_decimal_usd, to_nano_usd
from apikeyrouter.domain.errors import BudgetDefinitionError
from apikeyrouter.domain.interfaces.shared_ledger import WindowTotals
from apikeyrouter.domain.interfaces.state_store import StoredBudget
from apikeyrouter.domain.ledger.leases import Lease
from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.budget_windows import BudgetWindow, Span

__all__ = [
    "BudgetDefinition",
    "BudgetLine",
    "BudgetOverrun",
    "BudgetThresholdReached",
    "PriceUnknown",
    "define_budget",
    "limit_to_nano_usd",
    "mode_of",
]

LIMIT_MAX_NANO_USD = 9 * 10**18
"""$9 billion: the most that a 64-bit column of a store holds in nano-dollars."""


@dataclass(frozen=True, slots=True)
class BudgetThresholdReached:
    """Settled spend passed `percent` of the limit, for the first time in this period. Amounts are nano-USD."""

    budget_id: str
    scope: str
    scope_id: str | None
    mode: str
    percent: int
    limit_nano_usd: int
    spent_nano_usd: int
    window_id: str
    name: str = ""

    def __str__(self) -> str:
        """For the log."""
        about = f" {self.scope_id}" if self.scope_id else ""
        named = f" {self.name!r}" if self.name else ""
        return (
            f"Budget {self.budget_id}{named} ({self.scope}{about}, {self.mode}) has spent {self.percent} % or more of "
            f"${to_decimal_usd(self.limit_nano_usd):f} in {self.window_id}: ${to_decimal_usd(self.spent_nano_usd):f}."
        )


@dataclass(frozen=True, slots=True)
class BudgetOverrun:
    """Requests cost more than was held for them, by `amount_nano_usd` together since the last such event: the price
    list is wrong, or a provider did not keep to `max_tokens`. It is spent all the same and counts against the limit."""

    budget_id: str
    scope: str
    scope_id: str | None
    mode: str
    amount_nano_usd: int
    limit_nano_usd: int
    spent_nano_usd: int
    window_id: str
    name: str = ""

    def __str__(self) -> str:
        """For the log."""
        return (
            f"Budget {self.budget_id}: requests cost ${to_decimal_usd(self.amount_nano_usd):f} more than was held for "
            f"them, in {self.window_id}. Check the prices of their models, and that the provider keeps to max_tokens."
        )


@dataclass(frozen=True, slots=True)
class PriceUnknown:
    """Requests to this model are not metered in money: `reason` says why. Told once per provider and model."""

    provider_id: str
    model: str
    reason: str

    def __str__(self) -> str:
        """For the log."""
        return f"No price for {self.model!r} at {self.provider_id!r}: {self.reason}; what it costs is not counted."


@dataclass(frozen=True, slots=True)
class BudgetDefinition:
    """What the user asked for, checked. `scope_id` is None for Global only; `limit_nano_usd` > 0. `window`: its
    periods, calendar ones by some time zone, or rolling."""

    scope: BudgetScope
    scope_id: str | None
    limit_nano_usd: int
    period: TimeWindow
    mode: EnforcementMode
    window: BudgetWindow
    rolling: bool = False
    time_zone: str = "UTC"
    name: str = ""

    @property
    def hard(self) -> bool:
        """Whether requests that do not fit are refused."""
        return self.mode is EnforcementMode.Hard


def define_budget(
    scope: object,
    scope_id: str | None,
    limit: object,
    period: object,
    mode: object,
    *,
    rolling: bool = False,
    time_zone: str = "UTC",
    name: str = "",
) -> BudgetDefinition:
    """Checks a definition. Enums may be given by their values. Raises BudgetDefinitionError that says what is wrong."""
    try:
        checked = BudgetScope(str(scope)), TimeWindow(str(period))
    except ValueError as fault:
        raise BudgetDefinitionError(
            f"{fault}: scope is one of {_names(BudgetScope)}; period one of {_names(TimeWindow)}."
        ) from None
    if checked[0] is BudgetScope.Global:
        if scope_id is not None:
            raise BudgetDefinitionError("A global budget covers everything: leave scope_id out, or choose a scope.")
    elif not scope_id or not scope_id.strip():
        raise BudgetDefinitionError(f"A budget of scope {checked[0]} needs scope_id: {_WHAT[checked[0]]} it covers.")
    elif checked[0] is BudgetScope.PerTag and not all(scope_id.partition("=")):
        raise BudgetDefinitionError(
            f"A budget per tag needs scope_id as name=value, such as feature=search: {scope_id}"
        )
    try:
        window = BudgetWindow(checked[1], rolling=rolling, time_zone=time_zone)
    except ValueError as fault:
        raise BudgetDefinitionError(str(fault)) from None
    if len(name) > _NAME_LENGTH_MAX or not name.isprintable():
        raise BudgetDefinitionError(f"A budget's name has at most {_NAME_LENGTH_MAX} printable characters.")
    return BudgetDefinition(
        checked[0], scope_id, limit_to_nano_usd(limit), checked[1], mode_of(mode), window, rolling, time_zone, name
    )


_NAME_LENGTH_MAX = 128
_WHAT = {
    BudgetScope.PerProvider: "the provider id that",
    BudgetScope.PerKey: "the key id that",
    BudgetScope.PerRoute: "the model name that",
    BudgetScope.PerVirtualKey: "the id of the virtual key that",
    BudgetScope.PerTeam: "the team that",
    BudgetScope.PerTag: "the tag (name=value) that",
}


def mode_of(mode: object) -> EnforcementMode:
    """The mode, also by its value. Raises BudgetDefinitionError."""
    try:
        return EnforcementMode(str(mode))
    except ValueError as fault:
        raise BudgetDefinitionError(f"{fault}: enforcement_mode is one of {_names(EnforcementMode)}.") from None


def _names(enum: type[BudgetScope] | type[TimeWindow] | type[EnforcementMode]) -> str:
    return ", ".join(member.value for member in enum)


def limit_to_nano_usd(limit: object) -> int:
    """A limit in dollars as whole nano-dollars. A float counts by its shortest text, so 0.1 is a tenth.

    Raises BudgetDefinitionError: not a finite number above zero, finer than a nano-dollar, or above $9 billion.
    """
    dollars = _dollars(limit)
    if not dollars.is_finite() or dollars <= 0:
        raise BudgetDefinitionError(
            f"A budget's limit must be above zero dollars, not {limit!r}. To stop all spending, disable the keys."
        )
    if dollars > LIMIT_MAX_NANO_USD // 10**9:
        raise BudgetDefinitionError(f"A budget's limit must not be above 9 billion dollars: {limit!r}.")
    nano = to_nano_usd(dollars, up=False)
    if Decimal(nano).scaleb(-9) != dollars:
        raise BudgetDefinitionError(f"A budget's limit is counted in billionths of a dollar; {limit!r} is finer.")
    return nano


def _dollars(limit: object) -> Decimal:
    if not isinstance(limit, bool) and isinstance(limit, Decimal | int | str | float):
        try:
            return Decimal(str(limit).strip())
        except InvalidOperation:
            pass
    raise BudgetDefinitionError(f"A budget's limit is an amount of dollars such as 100.00, not {limit!r}.")


class BudgetLine:
    """A budget at work. `lease`: of the running window, made at its first use (`begin_window`)."""

    __slots__ = ("_not_before_utc_s", "budget_id", "created_at_s", "definition", "lease", "span")

    def __init__(self, budget_id: str, definition: BudgetDefinition, *, created_at_s: float) -> None:
        self.budget_id = budget_id
        self.definition = definition
        self.created_at_s = created_at_s
        self.lease: Lease | None = None
        self.span: Span | None = None
        self._not_before_utc_s = -math.inf

    def covers(self, provider_id: str, key_id: str, model: str, tags: Mapping[str, object]) -> bool:
        """Whether a request like this counts against it. `tags`: of the call, "virtual_key" and "team" among them."""
        scope, wanted = self.definition.scope, self.definition.scope_id or ""
        if scope is BudgetScope.Global:
            return True
        if scope is BudgetScope.PerProvider:
            return wanted == provider_id
        if scope is BudgetScope.PerKey:
            return wanted == key_id
        if scope is BudgetScope.PerRoute:
            return wanted == model
        if scope is BudgetScope.PerTag:
            name, _, value = wanted.partition("=")
            return name in tags and str(tags[name]) == value
        return tags.get("virtual_key" if scope is BudgetScope.PerVirtualKey else "team") == wanted

    def moved_on(self, utc_s: float) -> bool:
        """Whether the window that the lease is of has ended. Never true for one that the clock went back behind."""
        return self.span is None or utc_s >= self.span.ends_utc_s

    def begin_window(self, utc_s: float, now_s: float) -> Lease:
        """A lease for the window that runs at `utc_s` (the store's time)."""
        definition = self.definition
        self.span = span = definition.window.at(max(utc_s, self._not_before_utc_s))
        self.lease = Lease(
            self.budget_id,
            span.window,
            span.oldest,
            limit=definition.limit_nano_usd,
            hard=definition.hard,
            now_s=now_s,
        )
        return self.lease

    def end_window(self) -> None:
        """The window is over and does not come back. Each answer of the store sets our idea of its clock anew, a little
        back too; a second lease of a window would spend again what the first one was granted."""
        if self.lease is not None:
            self.lease.retire()
            self.lease = None
        if self.span is not None:
            self._not_before_utc_s = self.span.ends_utc_s

    def forget_window(self) -> None:
        """The window was chosen by a clock that was wrong."""
        if self.lease is not None:
            self.lease.retire()
            self.lease = None
        self._not_before_utc_s = -math.inf

    @property
    def resets_utc_s(self) -> float | None:
        """When the running calendar window ends, in Unix seconds; None for totals and rolling budgets."""
        if self.definition.rolling or self.span is None or self.span.ends_utc_s == math.inf:
            return None
        return self.span.ends_utc_s

    def redefine(self, definition: BudgetDefinition) -> None:
        """Takes a new limit, mode or name; spend and running holds stay."""
        self.definition = definition
        if self.lease is not None:
            self.lease.redefine(definition.limit_nano_usd, hard=definition.hard)

    def snapshot(self, windows: list[WindowTotals], utc_s: float) -> Budget:
        """The budget as users see it. `windows`: what the store has of the windows that count; what this worker has not
        reported yet is added."""
        definition, lease = self.definition, self.lease
        spent = sum([totals.spent for totals in windows])
        held = sum([totals.held for totals in windows])
        overrun = sum([totals.overrun for totals in windows])
        if lease is not None and self.span is not None and not self.moved_on(utc_s):
            spent = max(spent + lease.unreported_spend, lease.spent)
            held += lease.unreported_hold
            overrun += lease.unreported_overrun
        resets_s = definition.window.resets_at(utc_s)
        return Budget(
            id=self.budget_id,
            scope=definition.scope,
            scope_id=definition.scope_id,
            limit_amount=to_decimal_usd(definition.limit_nano_usd),
            current_spend=to_decimal_usd(spent),
            held=to_decimal_usd(max(0, held)),
            period=definition.period,
            enforcement_mode=definition.mode,
            created_at=datetime.fromtimestamp(self.created_at_s, UTC),
            reset_at=None if resets_s is None else datetime.fromtimestamp(resets_s, UTC),
            warning_count=max([totals.alerted for totals in windows], default=0),
            name=definition.name,
            rolling=definition.rolling,
            time_zone=definition.time_zone,
            overrun=to_decimal_usd(overrun),
            presumed=to_decimal_usd(sum([totals.presumed for totals in windows])),
        )

    def row(self, status: str = "active") -> StoredBudget:
        """The row to store."""
        definition = self.definition
        return StoredBudget(
            self.budget_id,
            definition.scope.value,
            definition.scope_id,
            definition.limit_nano_usd,
            definition.period.value,
            definition.mode.value,
            self.created_at_s,
            status,
            definition.rolling,
            definition.time_zone,
            definition.name,
        )
