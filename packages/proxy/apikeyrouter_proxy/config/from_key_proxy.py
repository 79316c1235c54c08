"""A configuration of LLM-API-Key-Proxy as a document of ours: its `.env`, or the key list of a `config.js`.

Main entries: `from_dotenv`, `from_script`. Its variables: `<PROVIDER>_API_KEY[_N]` are keys, `<NAME>_API_BASE` makes a
provider, `PROXY_API_KEY` is what clients send (https://github.com/Mirrowel/LLM-API-Key-Proxy, its .env.example and
documentation, read 2026-11-21). Laws: no secret is copied, keys become references to the same variables; what has no
counterpart is told by name and line; a script is read as text and never run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from dotenv import dotenv_values

from apikeyrouter_proxy.config.from_litellm import Translated
from apikeyrouter_proxy.config.litellm_tables import provider_id_of
from apikeyrouter_proxy.env_keys import is_placeholder, unquoted

__all__ = ["from_dotenv", "from_script"]

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_KEY = re.compile(r"([A-Z][A-Z0-9_]*?)_API_KEY(?:_(\d{1,6}))?")
_BASE = re.compile(r"([A-Z][A-Z0-9_]*?)_API_BASE")
_CONCURRENCY = re.compile(r"MAX_CONCURRENT_REQUESTS_PER_KEY_([A-Z0-9_]+)")
_ROTATION = re.compile(r"ROTATION_MODE_([A-Z0-9_]+)")
_MODELS = re.compile(r"(IGNORE|WHITELIST)_MODELS_([A-Z0-9_]+)")
_OAUTH = re.compile(r".*_(ACCESS_TOKEN|REFRESH_TOKEN|EXPIRY_DATE|PROJECT_ID|EMAIL|TIER)")
_CLIENTS_KEY = "PROXY_" + "API_KEY"  # its variable, not one of ours
_OWN = frozenset({_CLIENTS_KEY})


def from_dotenv(text: str, file: str) -> Translated:
    """The document that an `.env` of its stands for."""
    values = {name: unquoted(value) for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()
              if value is not None and unquoted(value)}  # fmt: skip
    lines = {name: number for number, line in enumerate(text.splitlines(), start=1)
             for name in [line.partition("=")[0].strip().removeprefix("export ").strip()]}  # fmt: skip
    return _Reader(values, lambda name: f"{file}:{lines.get(name, 1)}").read()


class _Reader:
    def __init__(self, values: Mapping[str, str], place: Any) -> None:
        self._values = values
        self._place = place
        self._made = Translated()
        self._providers: dict[str, str] = {}

    def read(self) -> Translated:
        """Providers first, since keys name them."""
        rest = []
        for name in self._values:
            match = _BASE.fullmatch(name)
            if match is not None:
                self._provider(match[1])
            else:
                rest.append(name)
        keys = [name for name in rest if _KEY.fullmatch(name) and name not in _OWN]
        for name in keys:
            self._key(name)
        for name in rest:
            if name not in keys:
                self._other(name)
        return self._made

    def _tell(self, name: str, why: str) -> None:
        shown = name if _NAME.fullmatch(name) else "what stands before the = is no variable's name"
        self._made.told.append(f"{self._place(name)}: {shown}: {why}.")

    def _section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._made.tree.setdefault(name, {})
        return found

    def _provider(self, name: str) -> None:
        known = provider_id_of(name.lower())
        provider_id = name.lower().replace("_", "-")
        part = {"base_url": self._values[f"{name}_API_BASE"]}
        if known is not None and known != "openai":
            provider_id = known
        self._section("providers")[provider_id] = part
        self._providers[name] = provider_id

    def _id_of(self, name: str) -> str | None:
        return self._providers.get(name) or provider_id_of(name.lower())

    def _key(self, variable: str) -> None:
        match = _KEY.fullmatch(variable)
        provider_id = self._id_of(match[1]) if match is not None else None
        if provider_id is None:
            self._tell(variable, "no provider is known by this name; give it a base_url under providers")
            return
        if is_placeholder(self._values[variable]):
            self._tell(variable, "still holds a placeholder")
            return
        keys = self._section("keys")
        number = 1 + sum(one["provider"] == provider_id for one in keys.values())
        keys[f"{provider_id}-{number}"] = {"provider": provider_id, "secret": f"${{{variable}}}"}

    def _other(self, name: str) -> None:
        value = self._values[name]
        concurrency, rotation, models = (p.fullmatch(name) for p in (_CONCURRENCY, _ROTATION, _MODELS))
        if name == _CLIENTS_KEY:
            if len(value) < 16 or is_placeholder(value):
                self._tell(name, "is a placeholder or shorter than 16 characters, so it is not taken: callers from "
                           "this machine need no key; declare a longer one under virtual_keys")  # fmt: skip
                return
            self._section("virtual_keys")["clients"] = {"secret": f"${{{_CLIENTS_KEY}}}"}
        elif name in ("PORT", "PROXY_PORT", "HOST", "PROXY_HOST"):
            member = name.removeprefix("PROXY_").lower()
            self._section("server")[member] = int(value) if value.isdecimal() else value
        elif name == "GLOBAL_TIMEOUT" and value.replace(".", "", 1).isdecimal():
            self._section("router")["request_timeout_s"] = float(value)
        elif name == "MAX_RETRIES" and value.isdecimal():
            self._section("router")["attempts_max"] = min(20, int(value) + 1)
        elif name == "LOG_LEVEL":
            self._section("server")["log_level"] = value.upper()
        elif concurrency is not None and value.isdecimal():
            self._each(concurrency[1], name, {"concurrency": int(value)})
        elif rotation is not None:
            if value.lower() == "balanced":
                self._made.tree["objective"] = "fairness"
            else:
                self._tell(name, "keys take turns here; give the first one a larger weight to prefer it")
        elif models is not None and models[1] == "WHITELIST":
            listed = [one.strip() for one in value.split(",") if one.strip()]
            self._each(models[2], name, {"models": listed})
        elif models is not None:
            self._ignore(models[2], name, value)
        elif _OAUTH.fullmatch(name):
            self._tell(name, "credentials that are exchanged for tokens are added with `apikeyrouter credentials add`")
        else:
            self._tell(name, "has no counterpart here")

    def _each(self, provider: str, name: str, members: Mapping[str, Any]) -> None:
        """Members for every key of a provider."""
        provider_id = self._id_of(provider)
        keys = [one for one in self._section("keys").values() if one["provider"] == provider_id]
        for key in keys:
            key.update(members)
        if not keys:
            self._tell(name, "there is no key of this provider")

    def _ignore(self, provider: str, name: str, value: str) -> None:
        provider_id = self._id_of(provider)
        if provider_id is None:
            self._tell(name, "no provider is known by this name")
            return
        listed = [one.strip() for one in value.split(",") if one.strip()]
        policy = {"scope": "provider", "scope_id": provider_id, "blocked_models": listed}
        self._section("policies")[f"ignored-{provider_id}"] = policy


# -- config.js ------------------------------------------------------------------------------------------------------

_OBJECT = re.compile(r"\{[^{}]*\}")
_MEMBER = re.compile(r"""["']?(key|apiKey|provider|weight|rpm)["']?\s*:\s*(?:["'`]([^"'`]*)["'`]|([\w.\[\]]+))""")
_TOP = re.compile(r"""["']?(port|host|routing)["']?\s*:\s*(?:["'`]([^"'`]*)["'`]|(\w+))""")
_VARIABLE = re.compile(r"""process\.env(?:\.([A-Za-z_]\w*)|\[["'](\w+)["']\])""")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ROUTING = {"round-robin": "fairness", "least-used": "reliability"}


def from_script(text: str, file: str) -> Translated:
    """The document that a `module.exports = {port, keys: [{key, provider}], routing}` stands for."""
    bare = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    made = Translated()
    keys: dict[str, Any] = {}
    for found in _OBJECT.finditer(bare):
        members = {match[1]: match[2] or match[3] or "" for match in _MEMBER.finditer(found[0])}
        variable = _VARIABLE.search(found[0])
        secret = members.get("key") or members.get("apiKey")
        if not secret:
            continue
        line = bare.count("\n", 0, found.start()) + 1
        named = members.get("provider") or "openai"
        provider_id = provider_id_of(named.lower())
        if provider_id is None:
            made.told.append(f"{file}:{line}: no provider is known as {named!r}.")
            continue
        number = 1 + sum(one["provider"] == provider_id for one in keys.values())
        name = f"{provider_id}-{number}"
        reference = f"${{{variable[1] or variable[2]}}}" if variable is not None else secret.replace("$", "$$")
        keys[name] = {"provider": provider_id, "secret": reference}
        if members.get("weight", "").replace(".", "", 1).isdecimal():
            keys[name]["weight"] = float(members["weight"])
        if members.get("rpm", "").isdecimal():
            keys[name]["rpm"] = int(members["rpm"])
    for match in _TOP.finditer(_OBJECT.sub(lambda m: " " * len(m[0]), bare)):
        value = match[2] or match[3] or ""
        line = bare.count("\n", 0, match.start()) + 1
        if match[1] == "routing" and value in _ROUTING:
            made.tree["objective"] = _ROUTING[value]
        elif match[1] == "routing":
            made.told.append(f"{file}:{line}: routing: {value!r} has no counterpart here.")
        elif match[1] == "host" or value.isdecimal():
            made.tree.setdefault("server", {})[match[1]] = int(value) if value.isdecimal() else value
    if keys:
        made.tree["keys"] = keys
    else:
        made.told.append(f"{file}:1: no list of keys was found; expected keys: [{{key: ..., provider: ...}}].")
    return made
