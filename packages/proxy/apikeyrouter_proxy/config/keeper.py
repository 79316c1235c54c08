"""The configuration of a running proxy: taken in at the start, and again whenever it changed.

Main entries: `ConfigKeeper.begin`, `reload`, `check`, and `place_of`, which says where in the file an object stands.
Laws: a configuration is applied whole or not at all: everything is read and checked before anything is touched, and
when the store then fails, what was done is undone; the running configuration goes on meanwhile. What cannot be taken
over without a restart is told. Other processes on the store hear of a reload and read the file themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.errors import ConfigurationError, RouterError
from apikeyrouter.domain.interfaces.state_store import StoredKey
from apikeyrouter.infrastructure.config.settings import RESTART_FIELDS, RouterSettings
from apikeyrouter_proxy.config.changes import Change, changes
from apikeyrouter_proxy.config.clashes import clashes
from apikeyrouter_proxy.config.faults import ConfigFileError, Fault, Place
from apikeyrouter_proxy.config.layers import FILE, FROZEN, Layered
from apikeyrouter_proxy.config.meaning import FileKey, Meaning
from apikeyrouter_proxy.config.owned import Owned
from apikeyrouter_proxy.config.stamps import Stamps
from apikeyrouter_proxy.config.watch import FileWatch
from apikeyrouter_proxy.providers import register_configured
from apikeyrouter_proxy.settings import ProxySettings

if TYPE_CHECKING:
    from apikeyrouter_proxy.bootstrap import Proxy

__all__ = ["ConfigKeeper", "Reloaded", "needs_restart", "read_again"]

_log = logging.getLogger("apikeyrouter_proxy.config")

_RESTART_SECTIONS = ("server", "webhook")
_PLACES = {
    "virtual-keys": ("virtual_keys",),
    "budgets": ("budgets", "teams"),
    "deployments": ("deployments", "aliases", "fallbacks"),
    "policies": ("policies", "teams"),
}
"""Sections of the file that make objects of a kind of the API; what a team makes is called team-NAME."""


@dataclass(slots=True)
class Reloaded:
    """What a reload did. `changes`: between the configuration before and after. `done`: to keys and budgets of the
    store. `restart`: members that count after the next start only. `notes`: what may not have been meant.
    `meaning`: of a text that was tried."""

    changes: list[Change] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meaning: Meaning | None = None


def read_again(settings: ProxySettings) -> ProxySettings:
    """Settings from what these were read from, as it is now. Raises ConfigurationError."""
    origin = settings.origin
    if origin is None:
        raise ConfigurationError(["this proxy was started from settings in memory, so there is nothing to read again"])
    environ = {name: text for name, text in origin.environ.items() if name != FROZEN}
    known = settings.config.configuration if settings.config is not None else None
    if known is not None and known.path and not environ.get(FILE):
        environ[FILE] = known.path
    dotenv = Path(origin.dotenv) if origin.dotenv is not None else None
    return ProxySettings.from_environ(environ, dotenv, arguments=origin.arguments)


class ConfigKeeper:
    """The configuration of one proxy. `settings`: those in force; `restart`: members that wait for a restart."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._applying = asyncio.Lock()
        self.settings = proxy.settings
        self.restart: list[str] = []
        self.owned = Owned(proxy, self.name)
        self._announced = f"config.{self.name}.applied"
        self._heard: bytes | None = None
        self._hung_up: asyncio.Task[None] | None = None
        self._again = False
        self.watch: FileWatch | None = None
        proxy.router.feed.subscribe("setting", self.heard)

    @property
    def layered(self) -> Layered | None:
        """The file in force, None without one."""
        return self.settings.config

    @property
    def name(self) -> str:
        """What the configuration is called."""
        config = self.settings.config
        known = config.configuration if config is not None else None
        return known.file.name if known is not None else "default"

    # -- life -------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """Virtual keys of the file hold from now on; call it before access is decided."""
        layered = self.layered
        self._proxy.virtual_keys.declare(layered.meaning.virtual_keys if layered is not None else [])

    async def begin(self) -> list[str]:
        """What is done once per start: keys and budgets become those of the file; notes for people. Raises what
        `Owned.reconcile` does."""
        layered = self.layered
        await self.owned.load()
        if self.owned.closed:
            self._proxy.virtual_keys.end_open_mode()
        if layered is None or layered.configuration is None:
            return self._left_over()
        done = await self.owned.reconcile(layered.meaning)
        where = layered.configuration.path or "the environment"
        told = f": {', '.join(done)}." if done else "."
        return [f"Configured by {where}{told}", *await self.clashes(layered.meaning)]

    async def join(self) -> None:
        """What every worker does. Raises StateStoreError."""
        await self.owned.load()
        if self.owned.closed:
            self._proxy.virtual_keys.end_open_mode()
        await self._follow_others()

    async def _follow_others(self) -> None:
        """A worker that takes another one's place was given the configuration of the start; the others may have read a
        newer one since."""
        said = await self._proxy.router.state_store.get_setting(self._announced)
        if said is None or self.layered is None or _digest(self.settings) == _digest_in(said):
            return
        try:
            settings = await asyncio.to_thread(read_again, self.settings)
        except ConfigurationError:
            return  # whoever reads it next is told what is wrong with it
        if _digest(settings) == _digest_in(said):
            self._heard = said
            self._take_over(settings)

    def _left_over(self) -> list[str]:
        count = len(self.owned.keys) + len(self.owned.budgets)
        if not count:
            return []
        told = (
            f"{count} keys and budgets of this store come from a configuration file, and this proxy was started "
            "without one; they stay as they are. Start with --config, or remove them through the management API."
        )
        return [told]

    async def clashes(self, meaning: Meaning) -> list[str]:
        """What the file and the API both define, and what counts. Raises StateStoreError."""
        keys = self._proxy.router.key_manager

        def same(key: FileKey, row: StoredKey) -> bool:
            there = keys.find(key.material.reveal(), key.provider_id)
            return there is not None and there.key_id == row.key_id

        return await clashes(meaning, self._proxy.router.state_store, self.name, same)

    # -- again ------------------------------------------------------------------------------------------------------

    async def reload(self, *, announce: bool = True) -> Reloaded:
        """Reads the file and what it refers to again, and applies it. `announce`: other processes of this proxy do the
        same. Raises ConfigurationError (nothing was changed), StateStoreError (what was changed was undone)."""
        async with self._applying:
            settings, found = await self._read_again()
            if announce:
                await self._apply(settings, found)
            else:
                self._take_over(settings)
            self.restart = sorted({*self.restart, *found.restart})
            found.restart = self.restart
        if announce and found.changes:
            await self._announce(settings)
        for change in found.changes:
            _log.warning("Configuration: %s", change)
        if not found.changes:
            _log.warning("Configuration: nothing has changed.")
        for member in found.restart:
            _log.warning("Configuration: %s counts after the next start only.", member)
        return found

    async def _read_again(self) -> tuple[ProxySettings, Reloaded]:
        """Raises ConfigurationError; what was read with a fault is not read again until it is saved again."""
        read = None
        try:
            settings = await asyncio.to_thread(read_again, self.settings)
            read = _stamps(settings)
            found = self._check(settings)
        except ConfigFileError as error:
            if self.watch is not None:
                self.watch.expect(_stamps(self.settings).now().joined(read or error.stamps))
            raise
        if settings.config is not None:
            found.notes += await self.clashes(settings.config.meaning)
        return settings, found

    def watch_files(self, every: int) -> None:
        """Reads the configuration again whenever one of its files was saved. `every`: calls of `watch.look` from one
        look to the next. Nothing happens without a file."""
        known = self.layered.configuration if self.layered is not None else None
        origin = self.settings.origin
        if known is None or not known.stamps.files:
            return
        besides = (origin.dotenv,) if origin is not None and origin.dotenv is not None else ()
        self.watch = FileWatch(every, known.stamps, besides, self.hang_up)

    def hang_up(self) -> None:
        """SIGHUP came: the file is read again; what is wrong with it is logged."""
        self._again = True
        if self._hung_up is None or self._hung_up.done():
            self._hung_up = asyncio.get_running_loop().create_task(self._reload_logged(), name="configuration reload")

    async def _reload_logged(self) -> None:
        while self._again:
            self._again = False
            try:
                await self.reload()
            except ConfigurationError as error:
                for fault in error.faults:
                    _log.error("Configuration: %s", fault)
                _log.error("Configuration: nothing was changed; the one from before goes on.")
            except RouterError as error:
                _log.error("Configuration: not applied, what was done was undone. %s", error.message)

    async def heard(self, names: frozenset[str] | None) -> None:
        """For the store's feed of changed settings: another process has applied a configuration."""
        if names is not None and self._announced not in names:
            return
        said = await self._proxy.router.state_store.get_setting(self._announced)
        if said is None or said == self._heard or self.settings.config is None:
            return
        self._heard = said
        await self.owned.load()
        try:
            await self.reload(announce=False)
        except RouterError as error:
            _log.error("The configuration was not taken over from another process. %s", error.message)

    async def _announce(self, settings: ProxySettings) -> None:
        self._heard = f"{_digest(settings)} {self._proxy.clock.utc_now().isoformat()}".encode()
        await self._proxy.router.state_store.put_setting(self._announced, self._heard)

    def _check(self, settings: ProxySettings) -> Reloaded:
        """What is to be done. Raises ConfigFileError for what only a running proxy can know."""
        found = Reloaded(notes=list(settings.warnings))
        found.changes = changes(self.settings, settings)
        found.restart = [one.where for one in found.changes if needs_restart(one)]
        faults = []
        wanted = {one.id for one in settings.providers} | {"openai"}
        for one in self.settings.providers:
            others = [r.label for r in self._proxy.router.key_manager.records(one.id) if not self._owns(r.key_id)]
            if one.id not in wanted and others and one.id not in self._proxy.providers.added:
                told = f"is still used by the key {others[0]}, which does not come from the file"
                faults.append(Fault(f"providers.{one.id}", told, None, "revoke it, or keep the provider"))
        if self.settings.config is not None and settings.config is None:
            faults.append(Fault("", "the configuration file is gone", None, "put it back, or restart without it"))
        if faults:
            raise ConfigFileError(faults)
        return found

    def _owns(self, key_id: str) -> bool:
        return self.owned.name_of("keys", key_id) is not None

    async def _apply(self, settings: ProxySettings, found: Reloaded) -> None:
        """Store first, since only it can fail; then this process, in one step."""
        proxy, before = self._proxy, self.settings
        new = settings.config.meaning if settings.config is not None else None
        if new is None:
            return
        known = set(proxy.router.providers)
        try:
            await register_configured(proxy.router, settings.providers)
            proxy.virtual_keys.declare(new.virtual_keys)
            found.done = await self.owned.reconcile(new)
        except BaseException:
            self.declare()
            if before.config is not None:
                await self._undo(before.config)
            for provider_id in set(proxy.router.providers) - known:
                proxy.router.directory.unregister(provider_id)
            raise
        self._take_over(settings)
        if found.done and new.keys:
            await proxy.end_simulation()

    async def _undo(self, layered: Layered) -> None:
        try:
            await self.owned.reconcile(layered.meaning)
        except RouterError as error:
            _log.error("What was changed could not be undone; the next reload does it. %s", error.message)

    def _take_over(self, settings: ProxySettings) -> None:
        """This process runs under them from the next request on."""
        proxy, before = self._proxy, self.settings
        directory = proxy.router.directory
        old = _parts(before)
        for one in settings.providers:
            if one.id not in proxy.router.providers or _parts(settings).get(one.id) != old.get(one.id):
                directory.register(one.id, one.adapter, overwrite=True)
        wanted = {one.id for one in settings.providers} | {"openai"} | set(proxy.providers.added)
        for one in before.providers:
            if one.id not in wanted:
                directory.unregister(one.id)
        proxy.virtual_keys.declare(settings.config.meaning.virtual_keys if settings.config is not None else [])
        proxy.router.configure(RouterSettings(**{**settings.router_config, "log_level": before.log_level}))
        if settings.log_level != before.log_level:
            proxy.request_log.set_level(settings.log_level)
        if settings.log_bodies != before.log_bodies:
            proxy.log_bodies(settings.log_bodies, SystemRandom())
        proxy.models.forget_age()
        self.settings = settings
        if self.watch is not None:
            self.watch.expect(_stamps(settings))

    # -- looking ----------------------------------------------------------------------------------------------------

    def place_of(self, kind: str, object_id: str) -> Place | None:
        """Where in the file the object of this id stands; None for one that does not come from it. `kind`: as in the
        API's paths."""
        name: str | None = object_id
        if kind in ("keys", "budgets"):
            name = self.owned.name_of(kind, object_id)
        elif kind == "virtual-keys":
            name = object_id.removeprefix("vkf_") if object_id.startswith("vkf_") else None
        return self.place_named(kind, name) if name is not None else None

    def place_named(self, kind: str, name: str) -> Place | None:
        """Where in the file the object of this name stands; None for one that does not come from it."""
        layered = self.layered
        known = layered.configuration if layered is not None else None
        if known is None:
            return None
        for section in _PLACES.get(kind, (kind,)):
            place = known.place_of(section, name.removeprefix("team-") if section == "teams" else name)
            if place is not None and (section != "teams" or name.startswith("team-")):
                return place
        return None


def _parts(settings: ProxySettings) -> Mapping[str, Any]:
    """How the file writes its providers."""
    known = settings.config.configuration if settings.config is not None else None
    return {} if known is None else {name: one.model_dump() for name, one in known.file.providers.items()}


def _digest(settings: ProxySettings) -> str:
    known = settings.config.configuration if settings.config is not None else None
    return "" if known is None else known.digest


def _digest_in(said: bytes) -> str:
    """Of the configuration that a process has announced."""
    return said.decode().partition(" ")[0]


def _stamps(settings: ProxySettings) -> Stamps:
    """Of the files that they were read from."""
    known = settings.config.configuration if settings.config is not None else None
    return Stamps() if known is None else known.stamps


def needs_restart(change: Change) -> bool:
    """Whether a running proxy cannot take this over."""
    section, _, member = change.where.partition(".")
    if change.where in ("server.log_level", "server.log_bodies"):
        return False
    return section in _RESTART_SECTIONS or (section == "router" and member in RESTART_FIELDS)
