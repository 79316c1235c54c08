"""Providers that an operator added: OpenAI-compatible servers, kept across restarts.

Main entries: `ProviderBook`, and `check_address`, which decides whether a base URL may be used at all. An address
inside a private network is a way into it (SSRF), so it needs an explicit word; loopback does not, since local model
servers live there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter, checked_base_url
from apikeyrouter.router import ApiKeyRouter

__all__ = ["SIMULATED", "AddedProvider", "ProviderBook", "check_address"]

SIMULATED = "simulated"
"""The id of the provider that stands in while no key is configured."""

_SETTING = "providers"
_RESOLVE_WITHIN_S = 3.0
_CREDENTIAL_WORDS = ("authorization", "cookie", "api-key", "apikey", "token", "secret")


class AddedProvider(msgspec.Struct, frozen=True):
    """What a provider was registered with. `headers`: sent with every request; never credentials."""

    id: str
    base_url: str
    dialect: str = "openai"
    headers: dict[str, str] = {}

    def adapter(self) -> OpenAIAdapter:
        """Its wire format."""
        return OpenAIAdapter(self.base_url, headers=self.headers, dialect=self.dialect, claims_all=True)


@dataclass(slots=True)
class ProviderBook:
    """Added providers by id, in the store's settings."""

    store: StateStore
    added: dict[str, AddedProvider] = field(default_factory=dict)

    async def open(self, router: ApiKeyRouter) -> None:
        """Loads them and registers them with the router. Raises StateStoreError."""
        stored = await self.store.get_setting(_SETTING)
        for provider in msgspec.json.decode(stored, type=list[AddedProvider]) if stored else ():
            self.added[provider.id] = provider
            await router.register_provider(provider.id, provider.adapter(), overwrite=True)

    async def add(self, router: ApiKeyRouter, provider: AddedProvider) -> None:
        """Registers and keeps it. Raises ProviderRegistrationError, ConfigurationError, StateStoreError."""
        await router.register_provider(provider.id, provider.adapter())
        self.added[provider.id] = provider
        await self._save()

    async def remove(self, router: ApiKeyRouter, provider_id: str) -> None:
        """Takes it out of service and forgets it."""
        router.directory.unregister(provider_id)
        if self.added.pop(provider_id, None) is not None:
            await self._save()

    async def _save(self) -> None:
        await self.store.put_setting(_SETTING, msgspec.json.encode(list(self.added.values())))


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ConfigurationError for headers that are malformed or carry credentials: those belong in keys."""
    faults = []
    for name, value in headers.items():
        if not name or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
            faults.append("a header's name may hold letters, digits and dashes only")
        elif any(word in name.lower() for word in _CREDENTIAL_WORDS):
            faults.append(f"header {name!r} looks like a credential; register it as a key instead")
        elif not all(" " <= c <= "~" for c in value) or len(value) > 1024:
            faults.append(f"header {name!r}: its value must be at most 1024 printable ASCII characters")
    if faults:
        raise ConfigurationError(faults)


async def check_address(base_url: str, *, allow_private: bool) -> str:
    """The base URL without a trailing slash. Raises ConfigurationError when it is malformed, or leads into a private
    network and `allow_private` is False. A name that does not resolve now is accepted; it may tomorrow."""
    url = checked_base_url(base_url)
    host = urlsplit(url).hostname or ""
    if allow_private:
        return url
    try:
        async with asyncio.timeout(_RESOLVE_WITHIN_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return url
    for *_, address in found:
        if _is_private(str(address[0])):
            raise ConfigurationError(
                [f'base URL of host {host!r} leads into a private network; say "allow_private": true if that is meant']
            )
    return url


def _is_private(text: str) -> bool:
    """Whether an address is neither public nor this machine's own. Link-local ones hold clouds' metadata services."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not mapped.is_loopback and (not mapped.is_global or mapped.is_multicast)
