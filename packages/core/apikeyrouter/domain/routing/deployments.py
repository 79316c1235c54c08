"""Deployment groups: one model name that several providers and models stand behind, and what is tried after it.

`{"name": "fast-chat", "targets": [{"provider": "openai", "model": "gpt-4o-mini", "weight": 2},
"groq/llama-3.3-70b-versatile"], "fallbacks": ["claude-haiku-4-5"], "context_fallbacks": ["gpt-4.1"]}`. Without targets
it gives an ordinary model its fallbacks. Main entries: `read_deployment`, `read_deployments`, `Deployments`.
Laws: a list of fallbacks is tried as it is written, and those of its members are not added: so two models may stand in
for each other, and no chain is endless. Nothing is guessed: what cannot be meant is refused, with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apikeyrouter.domain.routing.documents import Faults, names_in, text_in, unknown_fields

__all__ = ["ABILITIES", "Deployment", "Deployments", "Target", "odd_about", "read_deployment", "read_deployments"]

ABILITIES = ("streaming", "tools", "images", "structured_output")
"""What a target may be `without`."""

_FIELDS = ("name", "targets", "fallbacks", "context_fallbacks", "note")
_TARGET_FIELDS = ("provider", "model", "weight", "tags", "region", "keys", "without", "context_window")
_TARGETS_MAX, _FALLBACKS_MAX = 100, 16
_WEIGHT_MAX = 1e6


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider. `weight` (> 0) multiplies those of its keys. `keys`: ids or labels, None for every key
    of the provider. `tags`, `region`: for policies, beside the keys' own. `without`: of `ABILITIES`.
    `context_window`: tokens, where the price list does not know them or is wrong."""

    provider_id: str
    model: str
    weight: float = 1.0
    tags: frozenset[str] = frozenset()
    region: str | None = None
    keys: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a model's name stands for. `targets`: empty for the model of that name itself. `fallbacks`: models or groups
    (`provider/model` too) for when nobody can serve it; `context_fallbacks`: for requests longer than its models take.
    `document`: as it was written."""

    name: str
    targets: tuple[Target, ...] = ()
    fallbacks: tuple[str, ...] = ()
    context_fallbacks: tuple[str, ...] = ()
    note: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_substitutes(self) -> bool:
        """Whether something else can serve what one of its models cannot."""
        return len(self.targets) > 1 or bool(self.fallbacks or self.context_fallbacks)


def read_deployment(given: object, is_model: Callable[[str], object] | None = None) -> Deployment:
    """A deployment as it was written. `is_model`: whether a name is known to be a provider's own.

    Raises ValueError with every fault, one a line.
    """
    faults = Faults()
    if not isinstance(given, Mapping):
        raise ValueError("expected an object with a name and targets or fallbacks")  # noqa: TRY004 - wrong value
    unknown_fields(given, _FIELDS, faults)
    name = text_in(given, "name", faults, required=True)
    rows = given.get("targets") or ()
    if isinstance(rows, str | Mapping):
        rows = [rows]
    if not isinstance(rows, Sequence) or len(rows) > _TARGETS_MAX:
        faults.add("targets", f"expected a list of up to {_TARGETS_MAX} targets")
        rows = ()
    targets = [_target(row, f"targets[{number}]", faults) for number, row in enumerate(rows)]
    _distinct(targets, faults)
    fallbacks = _fallbacks(given, "fallbacks", name, faults)
    context_fallbacks = _fallbacks(given, "context_fallbacks", name, faults)
    if not (rows or fallbacks or context_fallbacks or faults):
        faults.add("targets", "a deployment needs targets, fallbacks or both")
    if targets and is_model is not None and is_model(name) and all(name != target.model for target in targets):
        faults.add(
            "name",
            f"{name!r} is the name of a real model, which is not among the targets; requests for it would silently get "
            "something else. Choose another name, or list that model too",
        )
    faults.raise_any()
    note = text_in(given, "note", faults)
    return Deployment(name, tuple(targets), fallbacks, context_fallbacks, note, dict(given))


def read_deployments(given: object) -> tuple[Deployment, ...]:
    """Deployments from a list of objects, or from an object by name whose values may be mere lists of targets.

    Raises ValueError with every fault, one a line, each with its place.
    """
    faults = Faults()
    found: dict[str, Deployment] = {}
    for place, row in _rows(given):
        try:
            one = read_deployment(row)
        except ValueError as fault:
            faults.take(place, fault)
            continue
        if one.name in found:
            faults.add(place, f"{one.name!r} is defined twice")
        found[one.name] = one
    faults.raise_any()
    return tuple(found.values())


def _rows(given: object) -> list[tuple[str, object]]:
    if isinstance(given, Mapping):
        rows: list[tuple[str, object]] = []
        for name, row in given.items():
            whole = row if isinstance(row, Mapping) and "provider" not in row else {"targets": row}
            rows.append((str(name), {"name": name, **whole}))
        return rows
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return [(str(number), row) for number, row in enumerate(given, start=1)]
    raise ValueError("expected a list of deployments, or an object of deployments by name")


def _target(row: object, place: str, faults: Faults) -> Target:
    """`provider/model` as text, or an object."""
    if isinstance(row, str):
        provider, slash, model = row.strip().partition("/")
        if not (slash and provider and model):
            faults.add(place, f"{row!r} names no provider; write provider/model, such as openai/gpt-4o-mini")
        return Target(provider, model)
    if not isinstance(row, Mapping):
        faults.add(place, "expected provider/model, or an object with provider and model")
        return Target("", "")
    within = faults.within(place)
    unknown_fields(row, _TARGET_FIELDS, within)
    without = names_in(row, "without", within) or frozenset()
    if without - set(ABILITIES):
        within.add("without", f"expected some of {', '.join(ABILITIES)}")
    return Target(
        text_in(row, "provider", within, required=True),
        text_in(row, "model", within, required=True),
        _weight(row.get("weight"), within),
        names_in(row, "tags", within) or frozenset(),
        text_in(row, "region", within) or None,
        names_in(row, "keys", within),
        without,
        _window(row.get("context_window"), within),
    )


def _weight(given: object, faults: Faults) -> float:
    if given is None:
        return 1.0
    try:
        weight = float(given) if not isinstance(given, bool) else 0.0  # type: ignore[arg-type] # refused just below
    except (TypeError, ValueError):
        weight = 0.0
    if not 0.0 < weight <= _WEIGHT_MAX:
        faults.add("weight", f"expected a number above 0 and up to {_WEIGHT_MAX:g}")
        return 1.0
    return weight


def _window(given: object, faults: Faults) -> int | None:
    if given is None or (type(given) is int and given > 0):
        return given
    faults.add("context_window", "expected a whole number of tokens above 0")
    return None


def _distinct(targets: Sequence[Target], faults: Faults) -> None:
    seen: set[tuple[str, str, frozenset[str] | None]] = set()
    for number, target in enumerate(targets):
        spot = (target.provider_id, target.model, target.keys)
        if spot in seen and target.model:
            faults.add(f"targets[{number}]", f"{target.provider_id}/{target.model} is listed twice; use its weight")
        seen.add(spot)


def _fallbacks(given: Mapping[str, Any], place: str, name: str, faults: Faults) -> tuple[str, ...]:
    listed = given.get(place) or ()
    if isinstance(listed, str):
        listed = [listed]
    if not isinstance(listed, Sequence) or not all(isinstance(one, str) and one.strip() for one in listed):
        faults.add(place, "expected a list of names of models or groups, in the order in which they are tried")
        return ()
    names = tuple(one.strip() for one in listed)
    if len(names) > _FALLBACKS_MAX:
        faults.add(place, f"at most {_FALLBACKS_MAX} are tried; a request has a deadline")
    if len(set(names)) < len(names):
        faults.add(place, "a name is listed twice")
    if name in names:
        faults.add(place, f"{name!r} cannot stand in for itself")
    return names


class Deployments:
    """Deployments by name: those of the configuration, which the store cannot change, over those of the store."""

    def __init__(self, configured: Iterable[Deployment] = ()) -> None:
        self.configured: dict[str, Deployment] = {one.name: one for one in configured}
        self.stored: dict[str, Deployment] = {}
        self._all = dict(self.configured)

    @property
    def names(self) -> Collection[str]:
        """Every name that a deployment has."""
        return self._all.keys()

    def get(self, name: str) -> Deployment | None:
        """What the name stands for, None for a model without any of this."""
        return self._all.get(name)

    def all(self) -> list[Deployment]:
        """By name."""
        return [self._all[name] for name in sorted(self._all)]

    def configure(self, configured: Iterable[Deployment]) -> None:
        """Those of the configuration are these now."""
        found = {one.name: one for one in configured}
        self.configured.clear()
        self.configured.update(found)
        self._all = {**self.stored, **self.configured}

    def load(self, stored: Iterable[Deployment]) -> None:
        """Those of the store are these now."""
        self.stored = {one.name: one for one in stored}
        self._all = {**self.stored, **self.configured}


def odd_about(one: Deployment, book: Deployments, providers: Collection[str]) -> list[str]:
    """What an operator may not have meant, in words: none of it stops anything."""
    notes = []
    missing = sorted({target.provider_id for target in one.targets} - set(providers))
    if missing:
        notes.append(f"no provider is registered as {', '.join(missing)}; those targets wait for it")
    head, slash, _ = one.name.partition("/")
    if slash and head in providers:
        notes.append(f"requests for {one.name!r} go to this group, not to the model of that name at {head}")
    for fallback in (*one.fallbacks, *one.context_fallbacks):
        head, slash, _ = fallback.partition("/")
        if fallback not in book.names and slash and head not in providers:
            notes.append(f"fallback {fallback!r}: no provider is registered as {head!r}, so it is read as a model")
    return notes
