"""Names of keys, virtual keys and providers: from what people write to ids, and from ids to what people read.

Main entries: `scope_id_of`, for budgets, and `Names`. Laws: a budget on something that does not exist would limit
nothing, so it is refused, with what there is; what nobody recognises as a key's name is not repeated, since it may be
material.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from apikeyrouter.domain.errors import BudgetDefinitionError, RouterError
from apikeyrouter.domain.models.budget import BudgetScope
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.budget_forms import tag

__all__ = ["Names", "UnknownNameError", "scope_id_of"]

_LISTED_MAX = 8


class UnknownNameError(RouterError):
    """Nothing, or more than one thing, has this name."""


class Names:
    """Who is called what, at one moment. `keys` and `virtual_keys`: labels and names by id."""

    def __init__(self, keys: dict[str, str], virtual_keys: dict[str, str], active: Iterable[str]) -> None:
        self.keys = keys
        self.virtual_keys = virtual_keys
        self._active = set(active)

    @classmethod
    async def of(cls, proxy: Proxy) -> Names:
        """The names of now."""
        keys = await proxy.router.key_manager.list_keys()
        virtual = proxy.virtual_keys.list()
        return cls({k.id: k.label for k in keys}, {v.id: v.name for v in virtual}, [v.id for v in virtual if v.active])

    def key(self, name: str) -> str:
        """The id of the key of this id or label. Raises UnknownNameError."""
        return self._one(name, self.keys, "key", "label")

    def virtual_key(self, name: str) -> str:
        """The id of the virtual key of this id or name; of several with one name, of the one that is active. Raises
        UnknownNameError."""
        if name in self.virtual_keys:
            return name
        active = {one: called for one, called in self.virtual_keys.items() if one in self._active}
        return self._one(name, active, "virtual key", "name")

    def of_scope(self, scope: BudgetScope, scope_id: str | None) -> str | None:
        """What a budget covers, as people call it."""
        known = {BudgetScope.PerKey: self.keys, BudgetScope.PerVirtualKey: self.virtual_keys}.get(scope, {})
        return known.get(scope_id or "", scope_id)

    @staticmethod
    def _one(name: str, names: dict[str, str], what: str, called: str) -> str:
        if name in names:
            return name
        fits = [one for one, known in names.items() if known == name]
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UnknownNameError(f"{len(fits)} {what}s have this {called}; give the id of one: {_listed(fits)}.")
        known = [f"{label} ({one})" for one, label in names.items()]
        there = f"There are: {_listed(known)}." if known else f"There is no {what} at all."
        raise UnknownNameError(f"No {what} has this id or {called}. {there}")


async def scope_id_of(proxy: Proxy, scope: BudgetScope, given: str | None) -> str | None:
    """The id that a budget of this scope covers, from an id, a key's label, a virtual key's name, a model with or
    without its provider, a team or a tag. Raises BudgetDefinitionError."""
    text = (given or "").strip()
    if scope is BudgetScope.Global or not text:
        return given
    try:
        if scope is BudgetScope.PerKey:
            return (await Names.of(proxy)).key(text)
        if scope is BudgetScope.PerVirtualKey:
            return (await Names.of(proxy)).virtual_key(text)
        if scope is BudgetScope.PerTag:
            return tag(text)
    except (UnknownNameError, ValueError) as fault:
        raise BudgetDefinitionError(f"scope_id: {fault}") from None
    if scope is BudgetScope.PerProvider:
        return _provider(text, list(proxy.router.providers))
    if scope is BudgetScope.PerRoute:
        return proxy.router.directory.split_model(text)[1]
    return text


def _provider(text: str, known: Sequence[str]) -> str:
    if text in known:
        return text
    close = get_close_matches(text.lower(), known, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise BudgetDefinitionError(f"scope_id: no provider has this id.{hint} There are: {_listed(known)}.")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED_MAX
    return ", ".join(names[:_LISTED_MAX]) + (f" and {rest} more" if rest > 0 else "")
