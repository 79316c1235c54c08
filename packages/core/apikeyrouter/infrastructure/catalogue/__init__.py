"""What is known about providers and models, as data with sources and dates.

    router.register_provider("groq", provider("groq"))

Main entries: `provider` makes the adapter of a provider that the catalogue knows; `find_row` and `rows` show the rows;
`ModelCatalogue` knows models (`catalogue.models`). Nothing here is loaded before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["KEYLESS", "ModelCatalogue", "ProviderRow", "Quirk", "find_row", "provider", "rows"]

_HOMES = {
    "KEYLESS": "provider_row",
    "ModelCatalogue": "models",
    "ProviderRow": "provider_row",
    "Quirk": "provider_row",
    "find_row": "providers",
    "provider": "providers",
    "rows": "providers",
}

if TYPE_CHECKING:
    from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue
    from apikeyrouter.infrastructure.catalogue.provider_row import KEYLESS, ProviderRow, Quirk
    from apikeyrouter.infrastructure.catalogue.providers import find_row, provider, rows


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
