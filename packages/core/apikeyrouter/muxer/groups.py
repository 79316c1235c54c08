"""Groups of models among which `auto` chooses, as operators write them.

`{"name": "default", "models": [{"model": "openai/gpt-4o-mini", "role": "weak"}, {"model": "openai/gpt-4.1", "role":
"strong"}], "strategy": "hybrid", "strong_share": 0.3}`. The group "default" is what `auto` means, any other is asked
for as `auto/NAME`. Main entries: `read_group`, `read_groups`, `ModelGroup`; `LADDERS`: what stands for groups of
nobody's making.
Laws: nothing is guessed: what cannot be meant is refused, with its place; a group never takes a real model's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from apikeyrouter.domain.routing.documents import Faults, names_in, text_in, unknown_fields

__all__ = [
    "DEFAULT", "LADDERS", "Accept", "CascadeRules", "Member", "ModelGroup", "Role", "Strategy", "read_group",
    "read_groups",
]  # fmt: skip

DEFAULT = "default"
"""The group that `auto` without a name means."""

LADDERS: Mapping[str, tuple[str, str]] = {
    "openai": ("gpt-4o-mini", "gpt-4.1"),
    "anthropic": ("claude-haiku-4-5", "claude-sonnet-5"),
    "gemini": ("gemini-2.5-flash-lite", "gemini-2.5-pro"),
    "deepseek": ("deepseek-v4-flash", "deepseek-v4-pro"),
    "zai": ("glm-4.7", "glm-5.2"),
    "cohere": ("command-r-08-2024", "command-a-03-2025"),
    "simulated": ("gpt-4o-mini", "gpt-4.1"),
}
"""The weak and the strong model of a provider that stand in a group that nobody has configured: rows of the model
catalogue (`infrastructure.catalogue.model_rows`, checked 2026-11-21) that most accounts may use."""

_FIELDS = (
    "name", "models", "strategy", "reference", "max_cost", "strong_share", "target_quality", "cascade", "shadow",
    "note",
)  # fmt: skip
_MEMBER_FIELDS = ("model", "role", "quality", "tasks", "context_window", "without")
_CASCADE_FIELDS = ("accept", "samples", "agreement", "confidence")
_MODELS_MAX = 32
_SAMPLES_MAX = 5
ABILITIES = ("tools", "images", "structured_output", "streaming")


class Role(StrEnum):
    """What a model is to its group. Without roles the dearest is strong and the cheapest weak."""

    Weak = "weak"
    Strong = "strong"


class Strategy(StrEnum):
    """How a model is chosen; see `strategies`."""

    Heuristic = "heuristic"
    Cost = "cost_optimized"
    Quality = "quality"
    Balanced = "balanced"
    Latency = "latency"
    Hybrid = "hybrid"
    Cascade = "cascade"

    @classmethod
    def named(cls, name: str) -> Strategy:
        """By its name, or as people shorten it (`cost`, `fast`). Raises ValueError that lists the known ones."""
        word = name.strip().lower().replace("-", "_")
        found = _SHORT.get(word, word)
        try:
            return cls(found)
        except ValueError:
            raise ValueError(f"unknown strategy {name!r}; known are {', '.join(one.value for one in cls)}") from None


_SHORT = {"cost": "cost_optimized", "cheap": "cost_optimized", "best": "quality", "fast": "latency"}


class Accept(StrEnum):
    """By which sign a cascade accepts the first answer. Consistency: several answers agree. Logprobs: the model's own
    confidence in its words. Verifier: a function of the program's own, else
    `verifiers.verifier_for`, which asks nobody. Every sign comes after the plain ones: an answer
    that is empty, cut off, refused or no valid call of a tool is never accepted."""

    Consistency = "consistency"
    Logprobs = "logprobs"
    Verifier = "verifier"


_CONFIDENCES = {Accept.Verifier: 0.5}


@dataclass(frozen=True, slots=True)
class CascadeRules:
    """`samples`: answers of the cheap model, the first included, that consistency compares (2 to 5). `agreement`: the
    share of them that must say the same as the first, 0..1. `confidence`: the least that logprobs (mean probability of
    the answer's words) or a verifier must say, 0..1."""

    accept: Accept = Accept.Consistency
    samples: int = 3
    agreement: float = 0.6
    confidence: float = 0.8


@dataclass(frozen=True, slots=True)
class Member:
    """A model of a group: `model` as a request would name it, with its provider or without. `quality`: 0 the group's
    weakest, 1 its strongest; None: by role, else by price. `tasks`: what it is meant for (`tasks.Task`), None for
    anything. `context_window`: tokens, where the catalogue does not know. `without`: abilities that it lacks."""

    model: str
    role: Role | None = None
    quality: float | None = None
    tasks: frozenset[str] | None = None
    context_window: int | None = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """Candidates and how to choose. `strategy`: None for the router's default. `reference`: the model that savings are
    told against; None: the strongest. `max_cost_usd`: the most that one request may cost, all of its answers together.
    `strong_share`, `target_quality`: what the guard keeps to, 0..1 each, at most one of them. `shadow`: requests that
    name the reference model are told what `auto` would have done, and served as they ask. `document`: as written."""

    name: str
    members: tuple[Member, ...]
    strategy: Strategy | None = None
    reference: str | None = None
    max_cost_usd: float | None = None
    strong_share: float | None = None
    target_quality: float | None = None
    cascade: CascadeRules = CascadeRules()
    shadow: bool = False
    note: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)


def read_groups(given: object) -> tuple[ModelGroup, ...]:
    """Groups from a list of objects, or from an object by name whose values may be mere lists of models.

    Raises ValueError with every fault, one a line, each with its place.
    """
    rows: list[tuple[str, object]]
    if isinstance(given, Mapping):
        rows = [(str(name), {"name": name, **_whole(row)}) for name, row in given.items()]
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        rows = [(str(number), row) for number, row in enumerate(given, start=1)]
    else:
        raise ValueError("expected a list of groups of models, or an object of groups by name")  # noqa: TRY004
    faults = Faults()
    found: dict[str, ModelGroup] = {}
    for place, row in rows:
        try:
            one = read_group(row)
        except ValueError as fault:
            faults.take(place, fault)
            continue
        if one.name in found:
            faults.add(place, f"{one.name!r} is defined twice")
        found[one.name] = one
    faults.raise_any()
    return tuple(found.values())


def _whole(row: object) -> Mapping[str, Any]:
    return row if isinstance(row, Mapping) else {"models": row}


def read_group(given: object) -> ModelGroup:
    """A group as it was written. Raises ValueError with every fault, one a line."""
    if not isinstance(given, Mapping):
        raise ValueError("expected an object with a name and models")  # noqa: TRY004 - wrong value
    faults = Faults()
    unknown_fields(given, _FIELDS, faults)
    name = text_in(given, "name", faults, required=True)
    if name and (":" in name or "/" in name):
        faults.add("name", f"{name!r} must have neither ':' nor '/': it is asked for as auto/{name.split('/')[-1]}")
    members = _members(given.get("models"), faults)
    reference = text_in(given, "reference", faults) or None
    if reference is not None and members and all(reference != one.model for one in members):
        faults.add("reference", f"{reference!r} is not among the models")
    share = _fraction(given, "strong_share", faults)
    quality = _fraction(given, "target_quality", faults)
    if share is not None and quality is not None:
        faults.add("target_quality", "give it or strong_share, not both: one threshold cannot keep to two targets")
    shadow = given.get("shadow", False)
    if not isinstance(shadow, bool):
        faults.add("shadow", "expected true or false")
    most = _number(given, "max_cost", faults, 0.0, 1e9, "US dollars for one request")
    group = ModelGroup(
        name,
        members,
        _strategy(given, faults),
        reference,
        most,
        share,
        quality,
        _cascade(given.get("cascade"), faults),
        bool(shadow),
        text_in(given, "note", faults),
        dict(given),
    )
    faults.raise_any()
    return group


def _members(given: object, faults: Faults) -> tuple[Member, ...]:
    rows = [given] if isinstance(given, str | Mapping) else given
    if not isinstance(rows, Sequence) or not rows or len(rows) > _MODELS_MAX:
        faults.add("models", f"expected a list of 1 to {_MODELS_MAX} models")
        return ()
    found = [_member(row, f"models[{number}]", faults) for number, row in enumerate(rows)]
    names = [one.model for one in found]
    for number, name in enumerate(names):
        if name and name in names[:number]:
            faults.add(f"models[{number}]", f"{name} is listed twice")
        if name == "auto" or name.startswith(("auto:", "auto/")):
            faults.add(f"models[{number}]", "a group cannot hold auto: name a model")
    return tuple(found)


def _member(row: object, place: str, faults: Faults) -> Member:
    given = {"model": row} if isinstance(row, str) else row
    if not isinstance(given, Mapping):
        faults.add(place, "expected a model's name, or an object with model")
        return Member("")
    within = faults.within(place)
    unknown_fields(given, _MEMBER_FIELDS, within)
    role = given.get("role")
    if role is not None and role not in tuple(Role):
        within.add("role", "expected weak or strong")
        role = None
    window = given.get("context_window")
    if window is not None and (type(window) is not int or window <= 0):
        within.add("context_window", "expected a whole number of tokens above 0")
        window = None
    without = names_in(given, "without", within) or frozenset()
    if without - set(ABILITIES):
        within.add("without", f"expected some of {', '.join(ABILITIES)}")
    return Member(
        text_in(given, "model", within, required=True),
        None if role is None else Role(role),
        _fraction(given, "quality", within),
        names_in(given, "tasks", within),
        window,
        without,
    )


def _strategy(given: Mapping[str, Any], faults: Faults) -> Strategy | None:
    name = text_in(given, "strategy", faults)
    if not name:
        return None
    try:
        return Strategy.named(name)
    except ValueError as fault:
        faults.add("strategy", str(fault))
        return None


def _cascade(given: object, faults: Faults) -> CascadeRules:
    if given is None:
        return CascadeRules()
    if not isinstance(given, Mapping):
        faults.add("cascade", "expected an object with accept, samples, agreement or confidence")
        return CascadeRules()
    within = faults.within("cascade")
    unknown_fields(given, _CASCADE_FIELDS, within)
    accept = given.get("accept", Accept.Consistency)
    if accept not in tuple(Accept):
        within.add("accept", f"expected one of {', '.join(Accept)}")
        accept = Accept.Consistency
    samples = given.get("samples", 3)
    if type(samples) is not int or not 2 <= samples <= _SAMPLES_MAX:
        within.add("samples", f"expected a whole number from 2 to {_SAMPLES_MAX}")
        samples = 3
    agreement, confidence = _fraction(given, "agreement", within), _fraction(given, "confidence", within)
    least = _CONFIDENCES.get(Accept(accept), 0.8) if confidence is None else confidence
    return CascadeRules(Accept(accept), samples, 0.6 if agreement is None else agreement, least)


def _fraction(given: Mapping[str, Any], name: str, faults: Faults) -> float | None:
    return _number(given, name, faults, 0.0, 1.0, "a share")


def _number(given: Mapping[str, Any], name: str, faults: Faults, low: float, high: float, what: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high:
        faults.add(name, f"expected {what}, a number from {low:g} to {high:g}")
        return None
    return number
