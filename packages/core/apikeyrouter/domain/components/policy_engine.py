"""What the operator allows and wants, for every request: the policies of configuration, store and caller.

Main entries: `PolicyEngine.apply`, on the path of each request, and `add_policy`. Policies that were set while the
router runs are kept in the store and hold in every process on it.
Law: `apply` costs nothing without policies, and two look-ups with them: what matching policies say is worked out once
per (model, team, virtual key), and laid over an objective once per objective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from apikeyrouter.domain.components.document_keeper import DocumentKeeper
from apikeyrouter.domain.components.shared_list import Subscribe
from apikeyrouter.domain.errors import ConfigurationError, ErrorCategory, SystemError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.policy import PolicyScope
from apikeyrouter.domain.models.routing_decision import RoutingObjective
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.policy import Policy, Ruled, laid_over, matches, read_policy, rule, with_terms

__all__ = ["SETTING", "PolicyEngine", "PolicyScope"]

SETTING = "policies"
"""The name of the store's setting: a JSON list of policies as they were written."""

INLINE = "inline"
"""The id of a policy that came with a request and has none."""

_CACHE_MAX = 4096
_OBJECTIVES_MAX = 64

_Key = tuple[str, str | None, str | None]
"""(model, team, virtual key): what decides which policies match."""

Given = Policy | Mapping[str, Any] | str
"""A policy for one request: one by its id, or written out."""


class _Matched:
    """What the policies of one kind of request say, and that laid over the objectives that were met."""

    __slots__ = ("known", "ruled")

    def __init__(self, ruled: Ruled) -> None:
        self.ruled = ruled
        self.known: dict[int, tuple[Objective, Objective]] = {}

    def over(self, objective: Objective) -> Objective:
        """The objective with what the policies say."""
        known = self.known.get(id(objective))
        if known is not None and known[0] is objective:
            return known[1]
        found = laid_over(objective, self.ruled)
        if len(self.known) >= _OBJECTIVES_MAX:
            self.known.clear()
        self.known[id(objective)] = (objective, found)
        return found


class PolicyEngine:
    """Policies of one router. `compiled`: from what a policy optimises to weights; `configured`: policies of the
    configuration, which go on whatever is stored."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        compiled: Callable[[RoutingObjective], Objective],
        configured: Iterable[Policy] = (),
    ) -> None:
        self._compiled = compiled
        self._configured = {policy.policy_id: policy for policy in configured}
        self._stored: Sequence[Policy] = ()
        self._all: dict[str, Policy] = {}
        self._objectives: dict[str, Objective] = {}
        self._matched: dict[_Key, _Matched | None] = {}
        self._by_policies: dict[tuple[str, ...], _Matched] = {}
        self._named: dict[tuple[str, _Key], Ruled] = {}
        self._keeper = DocumentKeeper(
            store,
            clock,
            setting=SETTING,
            word="policy",
            read=read_policy,
            name_of=lambda policy: policy.policy_id,
            taken_in=self._take_in,
            configured=self._configured,
        )
        self._take_in(())

    # -- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Loads what is stored. Raises StateStoreError."""
        await self._keeper.load()

    def follow(self, subscribe: Subscribe) -> None:
        """Hears of other processes by `subscribe` (of the store's feed)."""
        subscribe("setting", self._keeper.changed)

    def configure(self, policies: Iterable[Policy]) -> None:
        """The configuration's policies are these from now on; objectives are compiled anew."""
        found = {policy.policy_id: policy for policy in policies}
        self._configured.clear()
        self._configured.update(found)
        self._take_in(self._stored)

    # -- policies ---------------------------------------------------------------------------------------------------

    @property
    def configured(self) -> frozenset[str]:
        """Ids of the policies of the configuration."""
        return frozenset(self._configured)

    @property
    def stored_ids(self) -> frozenset[str]:
        """Ids of the policies that were added while a router ran."""
        return frozenset(policy.policy_id for policy in self._stored)

    def list_policies(self) -> list[Policy]:
        """The highest priority first."""
        return sorted(self._all.values(), key=lambda policy: policy.rank)

    def get_policy(self, policy_id: str) -> Policy | None:
        """The policy of this id, None when there is none."""
        return self._all.get(policy_id)

    async def add_policy(self, policy: Policy | Mapping[str, Any] | None = None, **fields: Any) -> Policy:
        """Adds a policy, or replaces the one of that id, in every process on the store: `add_policy(id="eu-only",
        scope=PolicyScope.PerTeam, scope_id="research", allowed_regions=["eu-*"])`.

        Raises ConfigurationError listing every fault; nothing was changed then. Raises StateStoreError.
        """
        found = policy if isinstance(policy, Policy) else self.read({**(policy or {}), **fields})
        await self._keeper.put(found)
        return found

    async def remove_policy(self, policy_id: str) -> bool:
        """Removes one that was added; whether it was there. Raises ConfigurationError for one of the configuration, and
        StateStoreError."""
        return await self._keeper.remove(policy_id)

    @staticmethod
    def read(given: Mapping[str, Any]) -> Policy:
        """A policy as it was written. Raises ConfigurationError listing every fault."""
        try:
            return read_policy(given)
        except ValueError as fault:
            raise ConfigurationError(str(fault).splitlines()) from None

    # -- requests ---------------------------------------------------------------------------------------------------

    def apply(self, objective: Objective, call: Call, policy: Given | None = None) -> Objective:
        """The objective under which the call is served: with all that matching policies say. `policy`: one more, of the
        caller's: it can only narrow what the operator's allow, and its objective counts as the caller's own. Raises
        SystemError (ValidationError) for one that cannot be understood."""
        if policy is None and not self._all:
            return objective
        tags = call.tags
        team, virtual_key = (_text(tags.get("team")), _text(tags.get("virtual_key"))) if tags else (None, None)
        key = (call.model, team, virtual_key)
        if policy is not None:
            return self._with(policy, objective, key)
        try:
            matched = self._matched[key]
        except KeyError:
            matched = self._match(key)
        return objective if matched is None else matched.over(objective)

    def _match(self, key: _Key) -> _Matched | None:
        """Requests with the same policies share what these say, and what they say of each candidate."""
        found = [policy for policy in self._all.values() if matches(policy, *key)]
        ids = tuple(policy.policy_id for policy in found)
        matched = None
        if found:
            matched = self._by_policies.get(ids) or _Matched(rule(found, self._objectives))
            self._by_policies[ids] = matched
        if len(self._matched) >= _CACHE_MAX:
            self._matched.clear()
        self._matched[key] = matched
        return matched

    def _with(self, given: Given, objective: Objective, key: _Key) -> Objective:
        one = self._understood(given)
        if one.objective is not None and (one.override or not objective.asked):
            objective = replace(with_terms(objective, self._compiled(one.objective)), asked=True)
        ruled = self._named.get((given, key)) if isinstance(given, str) else None
        if ruled is None:
            ruled = self._together(one, key)
            if isinstance(given, str):
                if len(self._named) >= _CACHE_MAX:
                    self._named.clear()
                self._named[given, key] = ruled
        return laid_over(objective, ruled)

    def _together(self, one: Policy, key: _Key) -> Ruled:
        """What one more policy says beside those that match."""
        found = [policy for policy in self._all.values() if matches(policy, *key)]
        if one not in found:
            found.append(replace(one, objective=None, override=False))
        return rule(found, self._objectives)

    def _understood(self, given: Given) -> Policy:
        """A named policy applies to whom its scope leaves out, too."""
        if isinstance(given, Policy):
            return given
        if isinstance(given, str):
            found = self._all.get(given)
            if found is None:
                known = ", ".join(sorted(self._all)) or "none"
                raise _unusable(f"there is no policy {given!r}; known are: {known}")
            return found
        try:
            return read_policy({"id": INLINE, **given})
        except ValueError as fault:
            raise _unusable("; ".join(str(fault).splitlines())) from None

    def _take_in(self, stored: Sequence[Policy]) -> None:
        self._stored = stored
        self._all = {**{policy.policy_id: policy for policy in stored}, **self._configured}
        self._objectives = {
            policy.policy_id: self._compiled(policy.objective)
            for policy in self._all.values()
            if policy.objective is not None
        }
        self._matched, self._by_policies, self._named = {}, {}, {}


def _unusable(why: str) -> SystemError:
    return SystemError(ErrorCategory.ValidationError, f"The policy of the request is not usable: {why}.", status=400)


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
