"""How a model is to be chosen for a request that names none, and how it was: for callers, pipelines and readers.

`ModelWish` travels in with a call, `Chosen` with the call that was made of it, and `ModelChoice` is what a decision
shows. Laws: a request that names a model has none of these; savings are told in dollars that were charged, and losses
are told as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from pydantic import BaseModel, Field

__all__ = ["Chosen", "ModelChoice", "ModelLeg", "ModelOption", "ModelWish", "Reserve"]

_NANO = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class ModelWish:
    """`strategy`: by name, None for what the model's name or its group says. `max_cost_usd`: the most that the request
    may cost, all of its answers together. `models`: patterns of models that the caller may use, None for all."""

    strategy: str | None = None
    max_cost_usd: float | None = None
    models: tuple[str, ...] | None = None


class Reserve(Protocol):
    """Money that is held for a request before it is sent; it is given back in the very step in which the request takes
    its own hold."""

    def free(self) -> None:
        """Gives it back. Idempotent."""
        ...

    def retake(self) -> None:
        """Holds it again, if it still fits."""
        ...


@dataclass(slots=True)
class Chosen:
    """`note`: what is known of the choice, JSON-able (see `ModelChoice.of`). `stand_ins`: models for when nobody can
    serve the chosen one. `reserve`: see there."""

    note: dict[str, Any]
    stand_ins: tuple[str, ...] = ()
    reserve: Reserve | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class ModelOption(BaseModel):
    """A model that could have answered. `expected_usd`: likely cost, None without a price. `quality`: 0..1, 1 the
    group's strongest. `loss`: feared probability that it answers badly where the strongest would not."""

    model: str
    expected_usd: float | None
    quality: float
    loss: float


class ModelLeg(BaseModel):
    """One answer of a cascade. `decision_id`: its own decision. `verdict`: why it was accepted or not. `sample`: it was
    asked for only to be compared."""

    model: str
    decision_id: str
    cost_usd: Decimal | None
    accepted: bool
    verdict: str
    sample: bool = False


class ModelChoice(BaseModel):
    """Which model, why, and what it saved.

    `asked`: the model as the request named it. `mode`: "auto", or "shadow" where the request named `model` itself and
    `would` is what `auto` would have chosen. `gain`: probability that a strong model wins, as the strategy saw it;
    `raw_gain`: before feedback corrected it; `predictor`: who said so. `tolerance`: the loss that was put up with.
    `reference`: the model that savings are told against, `reference_usd`: what the same tokens would have cost there;
    `saved_usd`: that, minus all that was charged (below zero: more was spent); None until both are known. `legs`:
    answers of a cascade, in order. `instead`: the decision whose answer the caller got in place of this one's; what
    this one cost is counted there, so it has no savings of its own. `note`: what the strategy could not do, and why.
    """

    asked: str
    mode: str = "auto"
    group: str
    strategy: str
    model: str
    would: str | None = None
    why: str
    task: str | None = None
    gain: float | None = None
    raw_gain: float | None = None
    complexity: float | None = None
    predictor: str = ""
    tolerance: float | None = None
    expected_usd: float | None = None
    max_cost_usd: float | None = None
    reference: str | None = None
    reference_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    options: list[ModelOption] = Field(default_factory=list)
    rejected: dict[str, str] = Field(default_factory=dict)
    legs: list[ModelLeg] = Field(default_factory=list)
    instead: str | None = None
    note: str = ""
    explanation: str = ""

    @classmethod
    def of(
        cls,
        note: Mapping[str, Any],
        input_tokens: int | None,
        output_tokens: int | None,
        cost_nano_usd: int | None,
        given_up: Sequence[str],
    ) -> ModelChoice:
        """As readers see it. `note`: what was stored; the rest: of the decision that holds it."""
        legs = [ModelLeg(**leg) for leg in note.get("legs", ())]
        shadow = note.get("mode") == "shadow"
        order = note.get("order") or [note["model"]]
        model = note["model"] if shadow else order[min(len(given_up), len(order) - 1)]
        rates = note.get("rates")
        reference_usd = saved_usd = None
        if note.get("instead") is None and rates is not None and input_tokens is not None and output_tokens is not None:
            compared = (Decimal(input_tokens * rates[0] + output_tokens * rates[1]) / 10**15).quantize(_NANO)
            spent = None if cost_nano_usd is None else Decimal(cost_nano_usd) * _NANO
            if shadow:
                reference_usd, saved_usd = spent, None if spent is None else spent - compared
            else:
                before = sum((leg.cost_usd or Decimal(0) for leg in legs if not leg.accepted), Decimal(0))
                reference_usd, saved_usd = compared, None if spent is None else compared - spent - before
        shown = {name: value for name, value in note.items() if name in cls.model_fields and name != "legs"}
        shown |= {"model": model, "legs": legs, "reference_usd": reference_usd, "saved_usd": saved_usd}
        found = cls(**shown)
        found.explanation = _sentence(found)
        return found


def _sentence(choice: ModelChoice) -> str:
    """One true sentence with its numbers."""
    if choice.instead is not None:
        return f"Asked {choice.model} ({choice.strategy}); the caller got the answer of {choice.instead} instead."
    if choice.mode == "shadow":
        said = f"Answered by {choice.model} as asked; {choice.strategy} would have chosen {choice.would}"
        said += f" because {choice.why}"
    else:
        said = f"Chose {choice.model} ({choice.strategy}) because {choice.why}"
    refused = [leg for leg in choice.legs if not leg.accepted and not leg.sample]
    accepted = next((leg for leg in choice.legs if leg.accepted), None)
    if refused:
        when = "before" if accepted is None else "too"
        said += "; " + "; ".join(f"{leg.model} was asked {when}, and {leg.verdict}" for leg in refused)
    if accepted is not None:
        said += f"; its answer was accepted: {accepted.verdict}"
    if choice.saved_usd is not None and choice.reference is not None:
        amount = abs(choice.saved_usd)
        if choice.mode != "shadow" and choice.reference == choice.model and not refused:
            said += "; it is the reference model itself"
        elif choice.saved_usd >= 0:
            said += f"; ${amount:.6f} less than {choice.reference} (${choice.reference_usd:.6f})"
        else:
            said += f"; ${amount:.6f} more than {choice.reference} alone (${choice.reference_usd:.6f})"
    return f"{said}; {choice.note}." if choice.note else f"{said}."
