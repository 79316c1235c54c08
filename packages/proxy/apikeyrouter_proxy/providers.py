"""Providers besides OpenAI: those that the settings name, and those that an operator added, kept across restarts.

Main entries: `register_configured`, `ProviderBook`, and `check_address`, which decides whether a base URL may be used
at all. An address inside a private network is a way into it (SSRF), so it needs an explicit word; loopback does not,
since local model servers live there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.adapters.base import checked_base_url
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.providers import provider
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter_proxy.provider_settings import SIMULATED, Configured

__all__ = [
    "SETTING",
    "SIMULATED",
    "AddedProvider",
    "ProviderBook",
    "check_address",
    "names_credential",
    "register_configured",
]

SETTING = "providers"
"""The name of the store's setting."""

_GONE_MAX = 100
"""Removed providers that are remembered, so that no process that has not heard of it brings one back."""

_RESOLVE_WITHIN_S = 3.0
_CREDENTIAL_WORDS = ("authorization", "cookie", "credential", "-key", "apikey", "token", "secret", "password")


class AddedProvider(msgspec.Struct, frozen=True):
    """What a provider was registered with. `known`: its name in the catalogue, "" for any server that speaks OpenAI's
    format. `headers`: sent with every request; never credentials. `changed_us`: when it was added or removed, in
    microseconds of UTC. `removed`: it is kept only to say that it is gone."""

    id: str
    base_url: str
    dialect: str = "openai"
    headers: dict[str, str] = {}
    changed_us: int = 0
    removed: bool = False
    known: str = ""

    def adapter(self) -> ProviderAdapter:
        """Its wire format. Raises ConfigurationError for a name that the catalogue no longer has."""
        if self.known:
            return provider(self.known, self.base_url)
        return OpenAIAdapter(self.base_url, headers=self.headers, dialect=self.dialect, claims_all=True)


async def register_configured(router: ApiKeyRouter, configured: Iterable[Configured]) -> None:
    """Registers the providers of the settings that are not there yet."""
    for one in configured:
        if one.id not in router.providers:
            await router.register_provider(one.id, one.adapter)


class ProviderBook:
    """Added providers by id, in the store's settings, the same in every process.

    Each process keeps the newest word about each provider; where the stored list lacks one, because two processes wrote
    it at the same moment, whoever sees that writes it again.
    """

    def __init__(self, store: StateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._words: dict[str, AddedProvider] = {}

    @property
    def added(self) -> Mapping[str, AddedProvider]:
        """Those that are there."""
        return {word.id: word for word in self._words.values() if not word.removed}

    async def refresh(self, router: ApiKeyRouter) -> None:
        """Loads them and registers what is new with the router, and takes out what is gone. Raises StateStoreError."""
        stored = await self._store.get_setting(SETTING)
        theirs = msgspec.json.decode(stored, type=list[AddedProvider]) if stored else []
        for word in theirs:
            mine = self._words.get(word.id)
            if mine is None or word.changed_us > mine.changed_us:
                self._words[word.id] = word
                await self._apply(router, word)
        known = {word.id: word.changed_us for word in theirs}
        if any(known.get(word.id, -1) < word.changed_us for word in self._words.values()):
            await self._save()

    async def add(self, router: ApiKeyRouter, provider: AddedProvider) -> None:
        """Registers and keeps it. Raises ProviderRegistrationError, ConfigurationError, StateStoreError."""
        if provider.id == SIMULATED:
            raise ConfigurationError([f"id: {SIMULATED!r} is the built-in provider's; choose another one"])
        await router.register_provider(provider.id, provider.adapter())
        self._words[provider.id] = msgspec.structs.replace(provider, changed_us=self._now_us(provider.id))
        await self._save()

    async def remove(self, router: ApiKeyRouter, provider_id: str) -> None:
        """Takes it out of service and forgets it."""
        router.directory.unregister(provider_id)
        word = self._words.get(provider_id)
        if word is not None and not word.removed:
            gone = AddedProvider(provider_id, "", changed_us=self._now_us(provider_id), removed=True)
            self._words[provider_id] = gone
            await self._save()

    async def _apply(self, router: ApiKeyRouter, word: AddedProvider) -> None:
        if word.removed:
            router.directory.unregister(word.id)
        else:
            await router.register_provider(word.id, word.adapter(), overwrite=True)

    async def _save(self) -> None:
        words = sorted(self._words.values(), key=lambda word: word.changed_us)
        gone = [word for word in words if word.removed][:-_GONE_MAX]
        for word in gone:
            del self._words[word.id]
        await self._store.put_setting(SETTING, msgspec.json.encode([w for w in words if w not in gone]))

    def _now_us(self, provider_id: str) -> int:
        before = self._words.get(provider_id)
        now_us = int(self._clock.utc_now().timestamp() * 1e6)
        return max(now_us, before.changed_us + 1 if before else 0)


def names_credential(name: str) -> bool:
    """Whether a header or an option of this name is likely to hold a credential: `api_key`, `X-Subscription-Key`."""
    text = f"-{name.lower().replace('_', '-')}"
    return any(word in text for word in _CREDENTIAL_WORDS)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ConfigurationError for headers that are malformed or carry credentials: those belong in keys."""
    faults = []
    for name, value in headers.items():
        if not name or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
            faults.append("a header's name may hold letters, digits and dashes only")
        elif names_credential(name):
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
