"""What is known about models: their families, other names, limits, abilities and ends.

    catalogue = ModelCatalogue()
    catalogue.find("openai/gpt-4o").context_tokens

Main entry: `ModelCatalogue`, which also answers routing (`domain.interfaces.model_names`). Rows of `model_rows` go
before the price list's entries, and where neither tells something it is None.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.catalogue.likeness import alike
from apikeyrouter.infrastructure.catalogue.model_rows import ALIASES, CHECKED, MODELS, SOURCES, SUCCESSORS, ModelRow
from apikeyrouter.infrastructure.catalogue.names import makers_of
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row

__all__ = ["ModelCatalogue", "ModelFacts", "PriceList", "longest_reply"]

_DATED = re.compile(r"-(?:latest|preview|\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")
_OURS = {
    "google": "gemini",
    "x-ai": "xai",
    "moonshotai": "moonshot",
    "aws": "bedrock",
    "voyageai": "voyage",
    "zhipuai": "zhipu",
}
"""Ids of the price list, where ours are others."""


class PriceList(Protocol):
    """What the catalogue needs of a price list: `infrastructure.pricing.catalogue.GenaiPriceSource`."""

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """Today's price, or None."""
        ...

    def models(self, provider_id: str | None = None) -> Sequence[tuple[str, str]]:
        """Every (provider id, model id), or those of one provider."""
        ...

    def providers_of(self, model: str) -> Sequence[str]:
        """The providers that sell a model, its maker first."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. None: not known. `name`: as asked, without a prefix. `names`: what providers call it, where that is
    another name. `maker`: whose it is ("open": many hosts'). `context_tokens`, `output_tokens_max`: its limits.
    `ends`: the day its maker stops serving it, or stopped. `successor`: what to ask for instead. `sold_by`: providers
    with a list price. `source`, `checked`: where the figures are from, and when they were read."""

    name: str
    maker: str | None
    context_tokens: int | None
    output_tokens_max: int | None
    tools: bool | None
    vision: bool | None
    json_schema: bool | None
    reasoning: bool | None
    ends: date | None
    successor: str | None
    sold_by: tuple[str, ...]
    names: dict[str, str]
    source: str
    checked: date | None


class ModelCatalogue:
    """See `ModelNames`. `prices`: the price list, asked for what the rows lack; None: the bundled one, loaded when it
    is first needed (0.3 s)."""

    def __init__(self, prices: PriceList | None = None) -> None:
        self._given = prices

    @property
    def _prices(self) -> PriceList:
        if self._given is None:
            from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource

            self._given = GenaiPriceSource()
        return self._given

    # -- names ------------------------------------------------------------------------------------------------------

    def provider_meant(self, prefix: str, registered: Collection[str]) -> str | None:
        """See `ModelNames.provider_meant`."""
        if prefix in registered:
            return prefix
        row = find_row(prefix)
        return row.id if row is not None and row.id in registered else None

    def name_at(self, provider_id: str, model: str) -> str:
        """See `ModelNames.name_at`."""
        family = ALIASES.get(model)
        return model if family is None else family.get(provider_id, model)

    def makers_of(self, model: str) -> str | None:
        """See `ModelNames.makers_of`."""
        return makers_of(model)

    def split(self, model: str) -> tuple[str | None, str]:
        """`provider/model` -> (provider id, model) when the catalogue knows that provider; else (None, the name)."""
        head, slash, rest = model.partition("/")
        if not slash or not rest:
            return None, model
        row = find_row(head)
        if row is not None or head in NATIVE:
            return (row.id if row is not None else head), rest
        return None, model

    # -- facts ------------------------------------------------------------------------------------------------------

    def find(self, model: str, *, selling: bool = True) -> ModelFacts | None:
        """What is known about a model, named with or without a provider; None when nobody is known to have it.
        `selling`: also who sells it, for which the price list is searched, some milliseconds long; without, a model
        that only the price list has is not known."""
        provider_id, bare = self.split(model)
        row = _row_of(bare)
        sellers = self._sellers(bare) if selling else []
        if row is None and not sellers:
            return None
        price = self._prices.price(provider_id or (sellers[0] if sellers else ""), bare)
        context = row.context if row is not None and row.context is not None else None
        if context is None and price is not None:
            context = price.context_window
        can = None if row is None else row.abilities
        return ModelFacts(
            name=bare,
            maker=row.maker if row is not None else makers_of(bare),
            context_tokens=context,
            output_tokens_max=None if row is None else row.output,
            tools=None if can is None else "tools" in can,
            vision=None if can is None else "vision" in can,
            json_schema=None if can is None else "json" in can,
            reasoning=None if can is None else "reasoning" in can,
            ends=None if row is None else row.ends,
            successor=_successor(bare),
            sold_by=tuple(sellers),
            names=dict(ALIASES.get(bare, {})),
            source=SOURCES[row.maker] if row is not None else "genai-prices",
            checked=CHECKED if row is not None else None,
        )

    def known(self, provider_id: str | None = None, contains: str = "") -> Sequence[str]:
        """Names of known models, sorted; of one provider, or with `contains` in them (any case)."""
        found = {name for _, name in self._prices.models(provider_id)}
        if provider_id is None:
            found |= MODELS.keys() | ALIASES.keys()
        else:
            found |= {name for name, row in MODELS.items() if row.maker == provider_id}
            found |= {name for name, there in ALIASES.items() if provider_id in there}
        return sorted(name for name in found if contains.lower() in name.lower())

    def nearest(self, model: str, *, most: int = 3) -> Sequence[str]:
        """Known names that are most like a model's."""
        _, bare = self.split(model)
        return alike(bare, [*MODELS, *ALIASES, *(name for _, name in self._prices.models())], most=most)

    def advice(self, model: str, registered: Collection[str]) -> str:
        """See `ModelNames.advice`."""
        _, bare = self.split(model)
        facts = self.find(model)
        if facts is None:
            near = self.nearest(bare)
            return f"Did you mean {_either(near)}?" if near else ""
        told = []
        if facts.ends is not None:
            told.append(
                f"Its maker stops serving it on {facts.ends.isoformat()}; ask for {facts.successor}."
                if facts.successor
                else f"Its maker stops serving it on {facts.ends.isoformat()}."
            )
        missing = [one for one in facts.sold_by if one not in registered][:3]
        if missing:
            told.append(f"It is sold by {_either(missing)}: register one of them with a key.")
        return " ".join(told)

    def _sellers(self, bare: str) -> list[str]:
        named = [_OURS.get(one, one) for one in self._prices.providers_of(bare)]
        return list(dict.fromkeys([*named, *ALIASES.get(bare, {})]))


def longest_reply(model: str) -> int | None:
    """The most tokens that one reply of a maker's own model has, by its rows; None where they do not tell, and for open
    models, which each host cuts as it likes."""
    row = _row_of(model) or _row_of(model.rpartition("/")[2])
    return None if row is None or row.maker == "open" else row.output


def _row_of(bare: str) -> ModelRow | None:
    """The row of a name, of the family that it is dated in, or of the same model under a host's own name."""
    found = MODELS.get(bare)
    if found is not None:
        return found
    for family, names in ALIASES.items():
        if bare == family or bare in names.values():
            return MODELS.get(family) or next((MODELS[name] for name in names.values() if name in MODELS), None)
    stem = _DATED.sub("", bare)
    return MODELS.get(stem) if stem != bare else None


def _successor(bare: str) -> str | None:
    return SUCCESSORS.get(bare) or SUCCESSORS.get(_DATED.sub("", bare))


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
