"""Why nobody serves a request, in few words however many keys there are: keys with one reason share one clause.

Main entries: `Reason`, one key's; `told`, all of them, the most frequent first; `advice`, what helps without a wait.
Laws: every key is counted in exactly one clause; there are at most `CLAUSES_MAX` of them, and the number of the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

__all__ = ["CLAUSES_MAX", "Reason", "advice", "told"]

CLAUSES_MAX = 5
"""Clauses of one message. More reasons than these are not read; the decision has them all."""

_NAMED_MAX = 3
"""Keys of one clause that are named."""

_TEXTS_MAX = 2
"""Different texts of one code that are told apart. More differ by figures or names: one of them stands for all."""

_CODES = {
    "rate_limited": "rate limited",
    "headroom": "a limit has no room",
    "throttled": "rate limited",
    "exhausted": "quota used up",
    "ejected": "set aside for failing",
    "suspect": "refused by the provider",
    "invalid": "refused by the provider",
    "auth": "refused by the provider",
    "rate": "rate limited",
    "permission": "may not use this model",
    "over_limit": "the request is larger than a limit",
    "breaker_open": "the provider keeps failing",
    "model_not_served": "registered for other models",
    "context": "the request is too long",
}
"""What stands for a code where texts differ; others are told by their code."""

_ADVICE = {
    "exhausted": "Add credit at the provider, or a key of another account.",
    "balance": "Add credit at the provider, or a key of another account.",
    "spend_cap": "Raise the cap at the provider, or add a key of another account.",
    "invalid": "Replace the secret: apikeyrouter keys rotate.",
    "auth": "Replace the secret: apikeyrouter keys rotate.",
    "permission": "Allow the model at the provider, or name another one.",
    "disabled": "Enable a key: apikeyrouter keys enable.",
    "retired": "Register another key: apikeyrouter keys add.",
    "over_limit": "Shorten the request or lower max_tokens.",
    "capability": "Name a model that offers it.",
    "model_not_served": "Name another model, or register a key for this one.",
    "max_cost": "Allow a higher max_cost, or lower max_tokens.",
    "price_unknown": "Set a price (apikeyrouter prices set), or ask without max_cost.",
    "min_reliability": "Ask for a lower min_reliability.",
    "policy": "Change the policy or the constraints of the request.",
}


class Reason(Struct, frozen=True, gc=False):
    """Why one key does not serve. `code`: of the rejection, or the failure's class. `until_s`: None where no time is
    known at which to look again."""

    label: str
    code: str
    text: str
    until_s: float | None = None

    @property
    def clause(self) -> str:
        """The sentence about this key alone."""
        return f"{self.label}: {self.text}"

    @property
    def common(self) -> str:
        """The text without the key's own name, by which keys with the same reason are known."""
        return self.text.removeprefix(f"{self.label} ") if self.label else self.text


def told(reasons: Sequence[Reason], now_s: float) -> str:
    """All of them in at most `CLAUSES_MAX` clauses, without a full stop. `now_s`: of the clock of `until_s`."""
    by_code: dict[str, dict[str, list[Reason]]] = {}
    for one in reasons:
        by_code.setdefault(one.code, {}).setdefault(one.common, []).append(one)
    groups: list[tuple[list[Reason], str]] = []
    for code, texts in by_code.items():
        if len(texts) <= _TEXTS_MAX:
            groups += [(these, "") for these in texts.values()]
        else:
            groups.append(([one for these in texts.values() for one in these], _CODES.get(code, code)))
    groups.sort(key=lambda group: -len(group[0]))
    clauses = [_clause(these, words, now_s) for these, words in groups[:CLAUSES_MAX]]
    left = sum(len(these) for these, _ in groups[CLAUSES_MAX:])
    if left:
        clauses.append(f"and {left} more")
    return "; ".join(clauses)


def advice(reasons: Iterable[Reason]) -> str:
    """What helps most of them, where waiting does not; "" where nothing is known."""
    found = Counter(_ADVICE[one.code] for one in reasons if one.code in _ADVICE)
    return found.most_common(1)[0][0] if found else ""


def _clause(these: list[Reason], words: str, now_s: float) -> str:
    """One key: its sentence. Several: their number, names of few, and what they share."""
    first = these[0]
    if len(these) == 1:
        return first.clause
    names = list(dict.fromkeys(one.label for one in these))
    who = f" ({', '.join(names)})" if 1 < len(names) <= _NAMED_MAX else ""
    soonest = min([one.until_s for one in these if one.until_s is not None], default=None)
    when = f", the first for {max(0.0, soonest - now_s):.1f} s" if soonest is not None else ""
    what = f"{words}{when} (such as {first.clause})" if words else f"{first.common}{when}"
    return f"{len(these)} keys{who}: {what}"
