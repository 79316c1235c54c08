"""Budgets as lines of the ledger: a limit in dollars, what it covers, and the account that counts against it.

A `BudgetLine` joins the user's definition, the account that holds are taken on, and the row that the store keeps. It
tells when settled spend passes 50, 80, 95 and 100 % of the limit, once each per period.

Laws: amounts are whole nano-dollars inside and exact Decimals outside; a row's `window_id` is the period that its spend
is of, so a restart never carries spend over a border.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from apikeyrouter.domain.cost.prices import to_decimal_usd, to_nano_usd
from apikeyrouter.domain.errors import BudgetDefinitionError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StoredBudget
from apikeyrouter.domain.ledger.accounts import NEVER, Account
from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.windows import Calendar, Total, calendar_id, calendar_start

__all__ = [
    "ALERT_PERCENTS",
    "BudgetDefinition",
    "BudgetLine",
    "BudgetThresholdReached",
    "PriceUnknown",
    "define_budget",
    "limit_to_nano_usd",
    "mode_of",
]

ALERT_PERCENTS = (50, 80, 95, 100)
"""Settled spend, in percent of the limit, at which a budget says so."""

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


@dataclass(frozen=True, slots=True)
class PriceUnknown:
    """Requests to this model are not metered in money: `reason` says why. Told once per provider and model."""

    provider_id: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetDefinition:
    """What the user asked for, checked. `scope_id` is None for Global only; `limit_nano_usd` > 0."""

    scope: BudgetScope
    scope_id: str | None
    limit_nano_usd: int
    period: TimeWindow
    mode: EnforcementMode


def define_budget(scope: object, scope_id: str | None, limit: object, period: object, mode: object) -> BudgetDefinition:
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
        what = {
            BudgetScope.PerProvider: "provider id",
            BudgetScope.PerKey: "key id",
            BudgetScope.PerRoute: "model name",
        }
        raise BudgetDefinitionError(f"A budget of scope {checked[0]} needs scope_id: the {what[checked[0]]} it covers.")
    return BudgetDefinition(checked[0], scope_id, limit_to_nano_usd(limit), checked[1], mode_of(mode))


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
    """A budget at work. `account` is in nano-USD and unlimited use of it is what soft mode means."""

    __slots__ = (
        "_alerted",
        "_alerts_of",
        "_on_alert",
        "account",
        "budget_id",
        "created_at_s",
        "definition",
        "posted",
        "warning_count",
    )

    def __init__(
        self,
        budget_id: str,
        definition: BudgetDefinition,
        clock: Clock,
        *,
        created_at_s: float,
        on_alert: Callable[[BudgetThresholdReached], None],
        warning_count: int = 0,
        spent: tuple[str, int] = ("", 0),
    ) -> None:
        """`spent`: (window id, nano-USD) from the store; it counts if that window still runs, without new alerts."""
        period = definition.period
        window = Total() if period is TimeWindow.Total else Calendar(period, clock)
        now_s = clock.monotonic_s()
        hard = definition.mode is EnforcementMode.Hard
        self.account = Account(budget_id, "nano_usd", definition.limit_nano_usd, window, hard=hard, now_s=now_s)
        self.budget_id = budget_id
        self.definition = definition
        self.created_at_s = created_at_s
        self.warning_count = warning_count
        self.posted: StoredBudget | None = None
        self._on_alert = on_alert
        if spent[0] == self.window_id:
            self.account.adjust_used(spent[1], now_s)
        self._alerts_of = self.account.epoch
        self._alerted = self._passed()
        self.account.watch = self._watch
        self.account.watermark = self._next_watermark()

    @property
    def window_id(self) -> str:
        """The period that the account counts now."""
        return calendar_id(self.definition.period, self.account.epoch)

    @property
    def reset_at(self) -> datetime | None:
        """When that period ends; None for Total."""
        period = self.definition.period
        return None if period is TimeWindow.Total else calendar_start(period, self.account.epoch + 1)

    def covers(self, provider_id: str, key_id: str, model: str) -> bool:
        """Whether a request like this counts against it."""
        scope, wanted = self.definition.scope, self.definition.scope_id
        if scope is BudgetScope.Global:
            return True
        if scope is BudgetScope.PerProvider:
            return wanted == provider_id
        return wanted == (key_id if scope is BudgetScope.PerKey else model)

    def redefine(self, definition: BudgetDefinition) -> None:
        """Takes a new limit or mode; spend and running holds stay. Alerts already passed are not repeated."""
        self.definition = definition
        self.account.limit = definition.limit_nano_usd
        self.account.hard = definition.mode is EnforcementMode.Hard
        self._alerted = self._passed()
        self.account.watermark = self._next_watermark()

    def snapshot(self, now_s: float) -> Budget:
        """The budget as users see it, at this moment."""
        self.account.refresh(now_s)
        definition = self.definition
        return Budget(
            id=self.budget_id,
            scope=definition.scope,
            scope_id=definition.scope_id,
            limit_amount=to_decimal_usd(definition.limit_nano_usd),
            current_spend=to_decimal_usd(self.account.used),
            held=to_decimal_usd(self.account.held),
            period=definition.period,
            enforcement_mode=definition.mode,
            created_at=datetime.fromtimestamp(self.created_at_s, UTC),
            reset_at=self.reset_at,
            warning_count=self.warning_count,
        )

    def row(self, now_s: float, status: str = "active") -> StoredBudget:
        """The row to store at this moment."""
        self.account.refresh(now_s)
        definition = self.definition
        return StoredBudget(
            self.budget_id,
            definition.scope.value,
            definition.scope_id,
            definition.limit_nano_usd,
            definition.period.value,
            definition.mode.value,
            self.window_id,
            self.account.used,
            self.created_at_s,
            self.warning_count,
            status,
        )

    def _passed(self) -> int:
        """How many of the alert percentages settled spend has reached."""
        used, limit = self.account.used, self.definition.limit_nano_usd
        return sum([used * 100 >= limit * percent for percent in ALERT_PERCENTS])

    def _next_watermark(self) -> int:
        if self._alerted >= len(ALERT_PERCENTS):
            return NEVER
        return -(-self.definition.limit_nano_usd * ALERT_PERCENTS[self._alerted] // 100)

    def _watch(self, account: Account) -> int:
        if account.epoch != self._alerts_of:
            self._alerts_of, self._alerted = account.epoch, 0
        passed = self._passed()
        while self._alerted < passed:
            percent = ALERT_PERCENTS[self._alerted]
            self._alerted += 1
            self.warning_count += 1
            definition = self.definition
            self._on_alert(
                BudgetThresholdReached(
                    self.budget_id,
                    definition.scope.value,
                    definition.scope_id,
                    definition.mode.value,
                    percent,
                    definition.limit_nano_usd,
                    account.used,
                    self.window_id,
                )
            )
        return self._next_watermark()
