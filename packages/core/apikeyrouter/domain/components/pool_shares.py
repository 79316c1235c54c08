"""What this worker lacks of its pools' shared limits: asks the store for it before anybody is told to wait or to go.

`PoolShares.help` runs after every key was refused. If one of them has room but for this worker's share of a limit
(`domain.quota.shared_limits`), the request waits until the store has handed over what is free: some milliseconds, a
quarter of a second when another worker has to give it back first. Where nothing is left, quota is waited for as ever.

Laws: a request that fits the shares at hand waits for nothing; nobody waits here for what other requests have in use,
places under way aside; an answer that is fresh is not asked for again, so that overload does not become load on the
store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from apikeyrouter.domain.components.tenant_limits import ASK_FOR_PLACE_S, ASK_S, TenantLimits
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.leases import Answer
from apikeyrouter.domain.ledger.shares import Share
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.domain.routing.sift import HEADROOM, headroom_block

__all__ = ["Asking", "PoolShares"]

_TRIES_MAX = 50
"""How often one request looks again, whatever the answers are."""


_LOOKED_MAX = 512
"""Keys of a large group that are looked at in one go."""

_OPTIONS_MAX = 64
"""Pools that one call asks for; of more, others are asked for next time."""


@dataclass(slots=True)
class Asking:
    """One request's asking. `since_s`: when it began, monotonic; None before. `waited_s`: so far. `refused`: keys of
    large groups that had no room."""

    since_s: float | None = None
    waited_s: float = 0.0
    tries: int = 0
    refused: set[str] = field(default_factory=set)


class _Option:
    """A pool that has room but for the shares. `lines`: what the request needs of each."""

    __slots__ = ("candidate", "lines", "places_only", "shares")

    def __init__(self, candidate: Candidate, lines: Sequence[tuple[Account, int]], shares: Sequence[Share]) -> None:
        self.candidate = candidate
        self.lines = lines
        self.shares = shares
        short = [share for share, (_, need) in zip(shares, lines, strict=True) if share.free < need]
        self.places_only = bool(short) and all(not share.period_s for share in short)

    @property
    def fits(self) -> bool:
        """Whether it can be held now."""
        return all(share.free >= need for share, (_, need) in zip(self.shares, self.lines, strict=True))


class PoolShares:
    """One per router. `limits`: has the shares."""

    def __init__(self, limits: TenantLimits, clock: Clock) -> None:
        self._limits = limits
        self._next = 0
        self._clock = clock

    async def help(
        self, asking: Asking, group: Group, demand: Demand, rejections: Iterable[Rejection], *, deadline_s: float
    ) -> bool:
        """Whether to choose again: the store was asked, so that what is refused now is refused for good reason."""
        refused = {one.key_id for one in rejections if one.code == HEADROOM}
        if not refused:
            return False
        if not group.small:
            known = len(asking.refused)
            asking.refused |= refused
            if len(asking.refused) > known and any(not one.parked for one in group.candidates):
                return True  # those that were refused have left the front: others may have room
        started_s = self._clock.monotonic_s()
        if asking.since_s is None:
            asking.since_s = started_s
        asking.tries += 1
        options = self._options(group, demand, refused if group.small else None, started_s)
        if not options or asking.tries > _TRIES_MAX:
            return False
        if _show(options, group):
            return True
        ask_s = ASK_FOR_PLACE_S if all(one.places_only for one in options) else ASK_S
        wait_s = min(deadline_s, asking.since_s + ask_s) - started_s
        if wait_s <= 0:
            return False
        try:
            # where nothing was left, it is the next look that says for how long
            answer = await self._ask(options, wait_s)
            if answer is Answer.Failed:
                for option in options:
                    for share in option.shares:
                        share.go_on_alone()
            return _show(options, group) or answer is not Answer.Failed
        finally:
            asking.waited_s += self._clock.monotonic_s() - started_s

    async def _ask(self, options: Sequence[_Option], wait_s: float) -> Answer | None:
        """Waits for the one of which most is left; the same call tells how the others stand."""
        best = max(options, key=lambda one: min([share.left for share in one.shares]))
        for option in options:
            for share in option.shares:
                share.heard = share.heard and option is best
        return await self._limits.wait_for(best.lines, wait_s=wait_s, patient=False)

    def _options(self, group: Group, demand: Demand, refused: set[str] | None, now_s: float) -> list[_Option]:
        """Pools of the refused keys (None: of a part of all, another one each time) that only shares stand in the way
        of, and may have more than was last heard."""
        found: dict[PoolView, _Option] = {}
        candidates = group.candidates
        if refused is None:
            start = self._next % len(candidates)
            candidates = (candidates[start:] + candidates[:start])[:_LOOKED_MAX]
            self._next += _LOOKED_MAX
        for candidate in candidates:
            quota, record = candidate.quota, candidate.record
            if not quota.shared or quota in found or record.state is not KeyState.Available:
                continue
            if refused is not None and record.key_id not in refused:
                continue
            needs = demand.of(candidate.model).needs(quota.dialect.charges)
            lines = [(one.account, needs[one.kind]) for one in quota.shared]
            shares = []
            for account, need in lines:
                share = self._limits.share_of(account)
                account.refresh(now_s)
                if share is not None and not share.is_full(need, now_s):
                    shares.append(share)
            if len(shares) == len(lines) and headroom_block(quota, needs, now_s) is None:
                found[quota] = _Option(candidate, lines, shares)
                if len(found) >= _OPTIONS_MAX:
                    break
        return list(found.values())


def _show(options: Iterable[_Option], group: Group) -> bool:
    """Whether one of them fits now; those that do are put back in a large group's front."""
    fit = [one for one in options if one.fits]
    for one in fit:
        group.unpark(one.candidate)
    return bool(fit)
