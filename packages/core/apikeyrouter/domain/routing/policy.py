"""Policies: what the operator allows, and what the operator wants, whoever asks.

`{"id": "eu-only", "scope": "per_team", "scope_id": "research", "allowed_regions": ["eu-*"], "blocked_tags": ["trial"],
"max_cost": "0.05", "objective": "cost", "override": false, "fallbacks": true, "priority": 10}`.
Main entries: `read_policy`; `rule` and its `PolicyRuling`, what matching policies say; `laid_over`, on an objective.
Laws: what is allowed is what every matching policy and the caller allow, so that no policy ever widens another, and
their order does not matter for it. Which objective holds: that of a policy with `override`, else the caller's own, else
that of a policy without; among policies the higher priority, then the lesser id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from apikeyrouter.domain.keys.eligibility import Block
from apikeyrouter.domain.models.policy import PolicyScope
from apikeyrouter.domain.models.routing_decision import ObjectiveType, RoutingObjective
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.documents import Faults, names_in, text_in, unknown_fields
from apikeyrouter.domain.routing.objectives import Objective

__all__ = [
    "LISTS",
    "Policy",
    "PolicyRuling",
    "Ruled",
    "laid_over",
    "matches",
    "read_policies",
    "read_policy",
    "rule",
    "with_terms",
]

LISTS = tuple(
    f"{word}_{kind}" for kind in ("providers", "keys", "models", "regions", "tags") for word in ("allowed", "blocked")
)
"""What may be allowed and blocked, by name or pattern (`*`, `?`)."""

_FIELDS = (
    "id", "scope", "scope_id", "priority", "enabled", "objective", "override", "fallbacks", "max_cost",
    "min_reliability", *LISTS, "note",
)  # fmt: skip
_OF_CANDIDATES = frozenset({PolicyScope.PerProvider, PolicyScope.PerKey})
_PRIORITY_MAX = 1_000_000
_MISSING = object()
_RULINGS_MAX = 256


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy. `scope`, `scope_id`: see `PolicyScope`. `priority`: higher goes before. `allowed`, `blocked`: names
    or patterns by kind ("providers", "keys", "models", "regions", "tags"). `max_cost_usd`: the most that one request
    may cost. `min_reliability`: success rate, 0..1. `objective`: what is optimised. `fallbacks`: False forbids that
    another model stands in. `document`: as it was written."""

    policy_id: str
    scope: PolicyScope = PolicyScope.Global
    scope_id: str = ""
    priority: int = 0
    enabled: bool = True
    objective: RoutingObjective | None = None
    override: bool = False
    fallbacks: bool = True
    max_cost_usd: float | None = None
    min_reliability: float | None = None
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blocked: Mapping[str, frozenset[str]] = field(default_factory=dict)
    note: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of_candidates(self) -> bool:
        """Whether it is about some candidates of a request, and not about the request."""
        return self.scope in _OF_CANDIDATES

    @property
    def rank(self) -> tuple[int, str]:
        """The order of policies: a total one."""
        return -self.priority, self.policy_id


# -- reading --------------------------------------------------------------------------------------------------------


def read_policy(given: object) -> Policy:
    """A policy as it was written; scopes may be written without "per_". Raises ValueError with every fault, one a
    line."""
    faults = Faults()
    if not isinstance(given, Mapping):
        raise ValueError("expected an object with an id, a scope and rules")  # noqa: TRY004 - wrong value, not type
    unknown_fields(given, _FIELDS, faults)
    scope, scope_id = _scope(given, faults)
    objective = _objective(given.get("objective"), faults)
    allowed = {kind: listed for kind in _KINDS if (listed := names_in(given, f"allowed_{kind}", faults)) is not None}
    blocked = {kind: listed for kind in _KINDS if (listed := names_in(given, f"blocked_{kind}", faults))}
    policy = Policy(
        text_in(given, "id", faults, required=True),
        scope,
        scope_id,
        _priority(given.get("priority", 0), faults),
        _flag(given, "enabled", faults, default=True),
        objective,
        _flag(given, "override", faults, default=False),
        _flag(given, "fallbacks", faults, default=True),
        _number(given, "max_cost", faults, most=1e9, what="US dollars for one request, 0 or more"),
        _number(given, "min_reliability", faults, most=1.0, what="a success rate from 0 to 1"),
        allowed,
        blocked,
        text_in(given, "note", faults),
        dict(given),
    )
    _check_meaning(policy, faults)
    faults.raise_any()
    return policy


def read_policies(given: object) -> tuple[Policy, ...]:
    """Policies from a list of objects. Raises ValueError with every fault, one a line, each with its place."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise ValueError("expected a list of policies")  # noqa: TRY004 - wrong value, not type
    faults = Faults()
    found: dict[str, Policy] = {}
    for number, row in enumerate(given, start=1):
        try:
            policy = read_policy(row)
        except ValueError as fault:
            faults.take(str(number), fault)
            continue
        if policy.policy_id in found:
            faults.add(str(number), f"the id {policy.policy_id!r} is given twice")
        found[policy.policy_id] = policy
    faults.raise_any()
    return tuple(found.values())


_KINDS = ("providers", "keys", "models", "regions", "tags")


def _scope(given: Mapping[str, Any], faults: Faults) -> tuple[PolicyScope, str]:
    written = str(given.get("scope", "global")).strip().lower().replace("-", "_")
    scope = next((one for one in PolicyScope if written in (one.value, one.value.removeprefix("per_"))), None)
    if scope is None:
        faults.add("scope", f"expected one of {', '.join(one.value for one in PolicyScope)}")
        return PolicyScope.Global, ""
    if scope is PolicyScope.Global:
        if given.get("scope_id") not in (None, ""):
            faults.add("scope_id", "a global policy covers everything; leave it out, or choose another scope")
        return scope, ""
    return scope, text_in(given, "scope_id", faults, required=True)


def _objective(given: object, faults: Faults) -> RoutingObjective | None:
    if given is None or isinstance(given, RoutingObjective):
        return given
    try:
        if isinstance(given, str):
            return RoutingObjective(primary=ObjectiveType(given.strip().lower()))
        found = RoutingObjective.model_validate(given)
    except ValidationError as invalid:
        for error in invalid.errors(include_input=False, include_url=False):
            faults.add(".".join(["objective", *map(str, error["loc"])]), error["msg"])
        return None
    except ValueError:
        faults.add("objective", f"expected one of {', '.join(one.value for one in ObjectiveType)}")
        return None
    if found.constraints:
        faults.add("objective.constraints", "write them beside the objective: a policy has fields for them")
    return found


def _priority(given: object, faults: Faults) -> int:
    if type(given) is int and abs(given) <= _PRIORITY_MAX:
        return given
    faults.add("priority", f"expected a whole number from -{_PRIORITY_MAX} to {_PRIORITY_MAX}; higher goes before")
    return 0


def _flag(given: Mapping[str, Any], name: str, faults: Faults, *, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        faults.add(name, "expected true or false")
        return default
    return value


def _number(given: Mapping[str, Any], name: str, faults: Faults, *, most: float, what: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number <= most:
        faults.add(name, f"expected {what}")
        return None
    return number


def _check_meaning(policy: Policy, faults: Faults) -> None:
    if policy.of_candidates and (policy.objective is not None or not policy.fallbacks):
        which = "objective" if policy.objective is not None else "fallbacks"
        faults.add(which, f"one choice covers all providers and keys; a policy of scope {policy.scope} cannot set it")
    if policy.override and policy.objective is None:
        faults.add("override", "there is no objective that could go before the caller's")
    says = policy.objective or policy.allowed or policy.blocked or not policy.fallbacks
    if not (says or policy.max_cost_usd is not None or policy.min_reliability is not None or faults):
        faults.add("policy", "it says nothing; give it an objective, a limit or a list")


# -- matching -------------------------------------------------------------------------------------------------------


def matches(policy: Policy, model: str, team: str | None, virtual_key: str | None) -> bool:
    """Whether it may have a say about a request. `model`: as the request names it."""
    if not policy.enabled:
        return False
    if policy.scope is PolicyScope.PerRoute:
        return fnmatchcase(model, policy.scope_id)
    if policy.scope is PolicyScope.PerTeam:
        return team == policy.scope_id
    if policy.scope is PolicyScope.PerVirtualKey:
        return virtual_key == policy.scope_id
    return True


class PolicyRuling:
    """What the policies that match a request say of its candidates; see `objectives.Ruling`. Made once per set of
    policies: what it finds out about a candidate is kept with the candidate."""

    __slots__ = ("_about", "fallbacks", "policies")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._about = sorted(policies, key=lambda policy: policy.rank)
        self.policies = tuple(policy.policy_id for policy in self._about)
        self.fallbacks = all(policy.fallbacks for policy in self._about)

    def block(self, candidate: Candidate, demand: Demand, now_s: float) -> Block | None:
        """Why the candidate may not serve ("policy", "min_reliability", "max_cost", "price_unknown"), or None."""
        found = candidate.rulings.get(self, _MISSING)
        if found is _MISSING:
            if len(candidate.rulings) >= _RULINGS_MAX:
                candidate.rulings.clear()
            found = candidate.rulings[self] = self._rule(candidate)
        if found is None or isinstance(found, Block):
            return found
        if isinstance(found, _Bounds):
            return found.block(candidate, demand, now_s)
        raise TypeError(f"{type(found).__name__} is no ruling")

    def lets_pass(self, candidate: Candidate) -> bool:
        """See `objectives.Ruling`: what was found out and is neither a refusal nor a bound."""
        return candidate.rulings.get(self, _MISSING) is None

    def _rule(self, candidate: Candidate) -> Block | _Bounds | None:
        bounds: list[Policy] = []
        for policy in self._about:
            if not _covers(policy, candidate):
                continue
            why = _refusal(policy, candidate)
            if why is not None:
                return Block("policy", f"policy {policy.policy_id}: {why}", None)
            if policy.of_candidates and (policy.max_cost_usd is not None or policy.min_reliability is not None):
                bounds.append(policy)
        return _Bounds(tuple(bounds)) if bounds else None


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Limits that hold for this candidate alone, so that the objective cannot carry them."""

    policies: tuple[Policy, ...]

    def block(self, candidate: Candidate, demand: Demand, now_s: float) -> Block | None:
        """See `PolicyRuling.block`."""
        for policy in self.policies:
            least, most = policy.min_reliability, policy.max_cost_usd
            if least is not None and (success := 1.0 - candidate.stats.p_failure(now_s)) < least:
                told = f"policy {policy.policy_id}: success rate {success:.3f} < {least:g}"
                return Block("min_reliability", told, None)
            if most is not None:
                if candidate.price is None:
                    return Block("price_unknown", f"policy {policy.policy_id} sets max_cost; no price is known", None)
                usd = demand.most_nano_usd(candidate.price) / 1e9
                if usd > most:
                    return Block("max_cost", f"policy {policy.policy_id}: may cost ${usd:.6f} > ${most:g}", None)
        return None


def _covers(policy: Policy, candidate: Candidate) -> bool:
    if policy.scope is PolicyScope.PerProvider:
        return candidate.record.provider_id == policy.scope_id
    if policy.scope is PolicyScope.PerKey:
        return policy.scope_id in (candidate.record.key_id, candidate.record.label)
    return True


def _refusal(policy: Policy, candidate: Candidate) -> str | None:
    """What the lists say against a candidate: of each allowed kind it needs one name, of the blocked ones none."""
    for kind, patterns in policy.blocked.items():
        hit = next((name for name in _names(kind, candidate) if _listed(name, patterns)), None)
        if hit is not None:
            return f"{kind[:-1]} {hit} is blocked"
    for kind, patterns in policy.allowed.items():
        names = _names(kind, candidate)
        if not any(_listed(name, patterns) for name in names):
            shown = names[0] if len(names) else "none"
            return f"{kind[:-1]} {shown} is not among the allowed ones"
    return None


def _names(kind: str, candidate: Candidate) -> Sequence[str]:
    """Under which names a candidate may be listed."""
    record = candidate.record
    if kind == "providers":
        return (record.provider_id,)
    if kind == "keys":
        return (record.label, record.key_id)
    if kind == "models":
        return (candidate.model, f"{record.provider_id}/{candidate.model}", candidate.asked)
    if kind == "regions":
        return () if candidate.region is None else (candidate.region,)
    return sorted(candidate.tags)


def _listed(name: str, patterns: Collection[str]) -> bool:
    return name in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


# -- ruling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ruled:
    """What matching policies say. `compiled`: the objective of the one that decides, None when none has any."""

    ruling: PolicyRuling
    compiled: Objective | None
    override: bool
    max_cost_usd: float | None
    min_reliability: float | None


def rule(policies: Collection[Policy], compiled: Mapping[str, Objective]) -> Ruled:
    """What these policies say together. `compiled`: their objectives by policy id."""
    setters = [policy for policy in policies if policy.objective is not None]
    decides = min(setters, key=lambda policy: (not policy.override, *policy.rank), default=None)
    about = [policy for policy in policies if not policy.of_candidates]
    costs = [policy.max_cost_usd for policy in about if policy.max_cost_usd is not None]
    rates = [policy.min_reliability for policy in about if policy.min_reliability is not None]
    return Ruled(
        PolicyRuling(policies),
        None if decides is None else compiled[decides.policy_id],
        decides is not None and decides.override,
        min(costs, default=None),
        max(rates, default=None),
    )


def laid_over(objective: Objective, ruled: Ruled) -> Objective:
    """The objective that holds: the caller's constraints stay, and those of policies are added."""
    if ruled.compiled is not None and (ruled.override or not objective.asked):
        objective = with_terms(objective, ruled.compiled)
    return replace(
        objective,
        ruling=ruled.ruling,
        max_cost_usd=_strictest(min, objective.max_cost_usd, ruled.max_cost_usd),
        min_reliability=_strictest(max, objective.min_reliability, ruled.min_reliability),
    )


def with_terms(objective: Objective, wanted: Objective) -> Objective:
    """What `wanted` optimises, under the constraints of `objective`."""
    return replace(objective, **{name: getattr(wanted, name) for name in _TERMS})


_TERMS = tuple(
    one.name
    for one in fields(Objective)
    if one.init
    and not one.name.startswith(("allowed_", "blocked_"))
    and one.name not in ("min_reliability", "max_cost_usd", "ruling", "asked")
)
"""What an objective optimises, besides what it allows."""


def _strictest(choose: Any, mine: float | None, theirs: float | None) -> float | None:
    return theirs if mine is None else mine if theirs is None else choose(mine, theirs)
