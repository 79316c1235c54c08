"""What a decision says to people: one true sentence, why others were not chosen, and what would have changed it.

Rendered only when somebody reads it. Main entries: `sentence`, `why_not`, `flip_words`, `margins`. `Kept` is one stored
candidate with exact decimals. A margin is exact: any change of one candidate's score that is smaller changes nothing,
any that is larger changes the choice (design notes 2.11, "Explanation flip margin").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from apikeyrouter.domain.routing.objectives import RELIABILITY_THRESHOLD

__all__ = ["TERM_NAMES", "Kept", "Margins", "best_of", "flip_words", "margins", "sentence", "why_not"]

TERM_NAMES = ("cost", "failure", "latency", "load", "turn", "floor", "quota", "affinity")
_PICO = Decimal("1e-12")
_FLIP_TERMS = {
    "cost": "its expected cost",
    "failure": "its failure rate",
    "latency": "its time to first token",
    "quota": "the shadow price of its quota",
    "affinity": "what leaving the cached prompt costs",
}
_LATE = {1: "its quota pool runs dry", 2: "the request is more than half of its quota pool"}


class Kept:
    """One stored candidate with exact decimals: `named_terms` add up to `score`. `late`: why it comes after others in
    turn-taking, 0 for no reason; `order`: place of registration."""

    def __init__(
        self,
        key_id: str,
        label: str,
        provider_id: str,
        turn: float,
        expected_usd: float,
        p_failure: float,
        terms: Sequence[float],
        pico: int | None = None,
        order: int = 0,
        late: int = 0,
    ) -> None:
        self.key_id, self.label, self.provider_id, self.turn = key_id, label, provider_id, turn
        self.expected_usd, self.p_failure, self.order, self.late = expected_usd, p_failure, order, late
        named = {name: Decimal(term).quantize(_PICO) for name, term in zip(TERM_NAMES, terms, strict=False) if term}
        total = sum(named.values(), Decimal(0))
        self.score = total if pico is None else Decimal(pico).scaleb(-12)
        if named and total != self.score:
            # rounding of each term: the largest takes what is left over
            largest = max(named, key=lambda name: named[name])
            named[largest] += self.score - total
        self.named_terms = named

    @property
    def place(self) -> tuple[int, Decimal, float, int]:
        """What the order goes by, least first."""
        return self.late, self.score, self.turn, self.order


def best_of(kept: Iterable[Kept]) -> Kept | None:
    """Who is first."""
    return min(kept, key=lambda one: one.place, default=None)


class Margins(NamedTuple):
    """How far a choice is from another one. `runner`: who would be next; `usd`: by how much its score is higher; None
    where turns decide. `term`, `change`: of all weights, the one whose change chooses somebody else soonest, and that
    change: +0.25 stands for a quarter more."""

    runner: Kept
    usd: Decimal | None
    term: str | None
    change: Decimal | None


def margins(chosen: Kept | None, kept: Sequence[Kept], *, turns: bool) -> Margins | None:
    """The smallest changes that would have changed the choice; None without anybody else."""
    runner = best_of(one for one in kept if one is not chosen)
    if chosen is None or runner is None:
        return None
    if turns or runner.late != chosen.late:
        return Margins(runner, None, None, None)
    least: tuple[Decimal, str] | None = None
    for other in kept:
        if other is chosen or other.late != chosen.late:
            continue
        gap = other.score - chosen.score
        for name in set(other.named_terms) | set(chosen.named_terms):
            slope = chosen.named_terms.get(name, Decimal(0)) - other.named_terms.get(name, Decimal(0))
            # more weight on what speaks against the chosen one, or less on what speaks for it, but some
            if slope and gap / slope > -1 and (least is None or (abs(gap / slope), name) < (abs(least[0]), least[1])):
                least = (gap / slope, name)
    change, term = least or (None, None)
    return Margins(runner, runner.score - chosen.score, term, change)


def why_not(kept: Kept, chosen: Kept | None, stored: dict[str, Any]) -> str:
    """Why this one was not chosen."""
    if chosen is None:
        why = "not chosen: nothing could be reserved for it"
    elif kept.late > chosen.late:
        why = f"it comes after the others: {_LATE[kept.late]}"
    elif stored["turns"]:
        why = f"its turn comes later: {kept.turn:g} served against {chosen.turn:g}"
    else:
        better = "its turn comes later" if kept.score == chosen.score else "lower is better"
        why = f"scores ${kept.score:.9f} against ${chosen.score:.9f}; {better}"
    return f"{kept.label}: {why}"


def flip_words(chosen: Kept | None, found: Margins | None, *, turns: bool) -> str | None:
    """The smallest change that would have chosen the runner-up."""
    if chosen is None or found is None:
        return None
    runner, gap = found.runner, found.usd
    if runner.late > chosen.late:
        return f"{runner.label} comes after the others: {_LATE[runner.late]}"
    if turns or gap is None:
        ahead = runner.turn - chosen.turn
        if ahead <= 0:
            return f"{runner.label} has had as many turns and comes next"
        return f"{runner.label} would be next after {ahead:g} more turn{'' if ahead == 1 else 's'} of {chosen.label}"
    if gap <= 0:
        return f"{runner.label} scores the same; turn and registration order decided"
    shrinkable = [(t, n) for n, t in runner.named_terms.items() if n in _FLIP_TERMS and t > gap]
    if not shrinkable:
        return f"{runner.label} would need ${gap:.9f} less in score"
    term, name = max(shrinkable)
    return f"{runner.label} would be chosen if {_FLIP_TERMS[name]} fell by more than {gap / term:.0%} (${gap:.9f})"


def sentence(stored: dict[str, Any], chosen: Kept | None, kept: Sequence[Kept]) -> str:
    """One true sentence with its numbers."""
    if chosen is None:
        return f"No key could serve {stored['model']}: {_refusals(stored)}."
    reason = _turn_reason(chosen, kept) if stored["turns"] else _score_reason(stored, chosen, kept)
    tail = f"; {_considered(stored, kept)}" if stored["n"] > 1 else ""
    failed = [f"{a[1]} ({a[3]})" for a in stored["att"] if a[3] not in ("ok", "pending")]
    if failed:
        tail += f"; tried before and failed: {', '.join(failed)}"
    tail += _about_money(stored)
    return f"Selected {chosen.label} because {reason}, {_reliability(stored, chosen)}{tail}."


def _about_money(stored: dict[str, Any]) -> str:
    """What budgets did to the request: a shorter reply, a wait."""
    said = ""
    if stored.get("clamp"):
        asked, given, budget_id = stored["clamp"]
        was = "no limit" if asked is None else str(asked)
        said += f"; the output limit was lowered from {was} to {given} tokens to fit budget {budget_id}"
    if stored.get("waited", 0.0) >= 0.001:
        said += f"; it waited {stored['waited']:.3f} s for budget that running requests held"
    return said


def _money(usd: float, *, priced: bool) -> str:
    return f"${usd:.6f}" if priced else "price unknown"


def _turn_reason(chosen: Kept, kept: Sequence[Kept]) -> str:
    cost = f"expected cost ${chosen.expected_usd:.6f}"
    if len(kept) == 1:
        return f"it is the only key that can serve ({cost})"
    return f"its turn comes first (fairness: {chosen.turn:g} served; {cost})"


def _score_reason(stored: dict[str, Any], chosen: Kept, kept: Sequence[Kept]) -> str:
    money = _money(chosen.expected_usd, priced=stored["priced"])
    if len(kept) == 1:
        return f"it is the only key that can serve ({money})"
    weights = stored["w"]
    others = [k for k in kept if k is not chosen]
    if set(weights) == {"cost"}:
        cheapest = min(k.expected_usd for k in others)
        if chosen.expected_usd < cheapest:
            return f"lowest cost ({money}, next ${cheapest:.6f})"
        if chosen.expected_usd == cheapest:
            ties = sum(k.expected_usd == cheapest for k in others)
            others_named = "1 other" if ties == 1 else f"{ties} others"
            return f"lowest cost ({money}, the same as {others_named}; among equals its turn comes first)"
        return f"lowest cost ({money}) among keys above the reliability threshold"
    if set(weights) <= {"reliability", "quality"}:
        return f"most reliable and least loaded ({1 - chosen.p_failure:.1%} expected success; expected cost {money})"
    runner = min(k.score for k in others)
    return f"best score for {stored['obj']} (${chosen.score:.9f}, next ${runner:.9f}; expected cost {money})"


def _reliability(stored: dict[str, Any], chosen: Kept) -> str:
    threshold = stored["minrel"] if stored["minrel"] is not None else RELIABILITY_THRESHOLD
    success = 1 - chosen.p_failure
    if success > threshold:
        return f"while maintaining reliability threshold ({success:.3f} > {threshold:g})"
    return f"although its reliability is below the threshold ({success:.3f} <= {threshold:g})"


def _considered(stored: dict[str, Any], kept: Sequence[Kept]) -> str:
    seen = f"{len(kept)} of {stored['n']} keys could serve"
    if stored["seen"] < stored["n"]:
        seen = f"{len(kept)} keys could serve of {stored['seen']} looked at, out of {stored['n']}"
    return f"{seen}; {_refusals(stored)}" if stored["rej"] else seen


def _refusals(stored: dict[str, Any]) -> str:
    shown = [f"{label}: {why}" for _, label, _, _, why in stored["rej"][:5]]
    more = len(stored["rej"]) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "") if shown else "no key is registered for it"
