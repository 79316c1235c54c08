"""What a coding agent needs to work through a proxy: variables and options for this one run, no file.

Main entry: `plan`. Claude Code takes variables alone; Codex takes a provider on its command line; opencode takes a
whole configuration in a variable; any other program gets the variables that the SDKs of OpenAI, Anthropic and Google
read. Laws: a key is only ever in a variable, never on a command line, where every user of the machine could read it;
keys of providers and of this proxy's operator are taken out, since an agent runs programs that others wrote.
Sources: code.claude.com/docs/en/env-vars and llm-gateway; Codex, docs/config.md ("model_providers", `-c`);
opencode.ai/docs/config and /docs/providers (all read 2026-11-21).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from urllib.parse import urlsplit

__all__ = ["AGENTS", "OPEN_KEY", "Limits", "Plan", "Target", "agent_of", "plan"]

AGENTS: Mapping[str, str] = {
    "claude": "npm install -g @anthropic-ai/claude-code",
    "codex": "npm install -g @openai/codex",
    "opencode": "npm install -g opencode-ai",
}
"""Agents that are known by name, and how each is installed."""

OPEN_KEY = "no-key-needed"
"""What clients send as their key while the proxy asks for none: SDKs insist on having one."""

_CLAUDE_OUTPUT_TOKENS = 32_000
"""What Claude Code asks of a model that it does not know (2.1.330, measured)."""
_PROVIDER = "apikeyrouter"
_CODEX_KEY = "APIKEYROUTER_KEY"
_DROP_HEADER = "x-akr-drop-params"
_OTHER_WAYS = (
    "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)  # fmt: skip
"""Variables with which Claude Code would go elsewhere, or send another credential."""
_CLAUDE_MODELS = (
    "ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
)  # fmt: skip
_CLAUDE_MOST = "CLAUDE_CODE_MAX_OUTPUT_TOKENS"
_OPERATORS = (
    "APIKEYROUTER_ADMIN_KEY", "MANAGEMENT_API_KEY", "APIKEYROUTER_MANAGEMENT_API_KEY", "APIKEYROUTER_ENCRYPTION_KEY",
    "APIKEYROUTER_WEBHOOK_SECRET", "APIKEYROUTER_STORE",
)  # fmt: skip
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tokens a model takes and writes, both together (`context`), and writes at most (`output`)."""

    context: int
    output: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where the program is sent. `origin`: of the proxy. `key`: a virtual key, or `OPEN_KEY`. `model`: "" for the
    program's own choice; `models`: what the proxy has. `limits`: of models where they are known; agents ask every
    model that is new to them for as much, and may be refused. `drop_params`: whether parameters that a provider's
    format does not have are left out instead of refused."""

    origin: str
    key: str = field(repr=False)
    model: str = ""
    models: Sequence[str] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    drop_params: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `environ`: the whole environment of the program. `set_names`, `taken_names`: what was changed in it, by
    name. `options`: names of what was added to the command line."""

    command: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    set_names: tuple[str, ...]
    taken_names: tuple[str, ...]
    options: tuple[str, ...] = ()


def agent_of(program: str) -> str:
    """The agent that a program is, by its name without folder and ending; "" for any other program."""
    name = PurePath(program.replace("\\", "/")).name.lower()
    name = name.rsplit(".", 1)[0] if name.endswith((".exe", ".cmd", ".bat", ".ps1")) else name
    return name if name in AGENTS else ""


def plan(command: Sequence[str], environ: Mapping[str, str], target: Target, secrets: Sequence[str] = ()) -> Plan:
    """How to start `command` so that it works through the proxy. `secrets`: variables that hold keys of providers."""
    agent, arguments = agent_of(command[0]), list(command[1:])
    options: tuple[str, ...] = ()
    taken = {*secrets, *_OPERATORS, *(f"{name}_FILE" for name in (*secrets, *_OPERATORS))}
    if agent == "claude":
        changes = _claude(environ, target)
        taken |= {*_OTHER_WAYS}
    elif agent == "codex":
        changes = {_CODEX_KEY: target.key}
        added = _codex(target)
        arguments = [*(part for pair in added.items() for part in ("-c", "=".join(pair))), *arguments]
        options = tuple(added)
    elif agent == "opencode":
        changes = {_CODEX_KEY: target.key, "OPENCODE_CONFIG_CONTENT": _opencode(environ, target)}
    else:
        changes = _any(target)
    changes |= _direct(environ, target.origin)
    kept = {name: value for name, value in environ.items() if name not in taken}
    return Plan(
        command=(command[0], *arguments),
        environ={**kept, **changes},
        set_names=tuple(changes),
        taken_names=tuple(sorted(name for name in environ if name in taken and name not in changes)),
        options=options,
    )


def _claude(environ: Mapping[str, str], target: Target) -> dict[str, str]:
    changes = {"ANTHROPIC_BASE_URL": target.origin, "ANTHROPIC_AUTH_TOKEN": target.key}
    if target.model:
        changes |= dict.fromkeys(_CLAUDE_MODELS, target.model)
    known = target.limits.get(target.model)
    if known is not None and known.output < _CLAUDE_OUTPUT_TOKENS and not environ.get(_CLAUDE_MOST):
        changes[_CLAUDE_MOST] = str(known.output)
    if target.drop_params:
        own = environ.get("ANTHROPIC_CUSTOM_HEADERS", "").strip("\n")
        changes["ANTHROPIC_CUSTOM_HEADERS"] = f"{own}\n" * bool(own) + f"{_DROP_HEADER}: true"
    return changes


def _codex(target: Target) -> dict[str, str]:
    """Options of `-c`, as TOML. A provider of its own goes before whatever the user's file says, logins included."""
    at = f"model_providers.{_PROVIDER}"
    added = {
        "model_provider": _toml(_PROVIDER),
        f"{at}.name": _toml("ApiKeyRouter"),
        f"{at}.base_url": _toml(f"{target.origin}/v1"),
        f"{at}.env_key": _toml(_CODEX_KEY),
        f"{at}.wire_api": _toml("responses"),
    }
    if target.drop_params:
        added[f"{at}.http_headers"] = f"{{ {_toml(_DROP_HEADER)} = {_toml('true')} }}"
    if target.model:
        added["model"] = _toml(target.model)
    if target.model in target.limits:
        added["model_context_window"] = str(target.limits[target.model].context)
    return added


def _opencode(environ: Mapping[str, str], target: Target) -> str:
    """The user's own variable, with our provider in it and every other one out of it."""
    try:
        own = json.loads(environ.get("OPENCODE_CONFIG_CONTENT") or "{}")
    except ValueError:
        own = {}
    own = own if isinstance(own, dict) else {}
    headers = {"headers": {_DROP_HEADER: "true"}} if target.drop_params else {}
    names = dict.fromkeys([*([target.model] if target.model else []), *target.models])
    ours = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "ApiKeyRouter",
        "options": {"baseURL": f"{target.origin}/v1", "apiKey": f"{{env:{_CODEX_KEY}}}", **headers},
        "models": {name: _opencode_model(target.limits.get(name)) for name in names},
    }
    own["provider"] = {**(own.get("provider") or {}), _PROVIDER: ours}
    own["enabled_providers"] = [_PROVIDER]
    if target.model:
        own["model"] = own["small_model"] = f"{_PROVIDER}/{target.model}"
    return json.dumps(own, separators=(",", ":"))


def _opencode_model(limits: Limits | None) -> dict[str, object]:
    return {} if limits is None else {"limit": {"context": limits.context, "output": limits.output}}


def _any(target: Target) -> dict[str, str]:
    return {
        "APIKEYROUTER_URL": target.origin,
        "OPENAI_BASE_URL": f"{target.origin}/v1",
        "OPENAI_API_BASE": f"{target.origin}/v1",
        "OPENAI_API_KEY": target.key,
        "ANTHROPIC_BASE_URL": target.origin,
        "ANTHROPIC_API_KEY": target.key,
        "GOOGLE_GEMINI_BASE_URL": target.origin,
        "GEMINI_API_KEY": target.key,
    }


def _direct(environ: Mapping[str, str], origin: str) -> dict[str, str]:
    """Where programs are told to go through a web proxy: not on the way to ours, when it is on this machine."""
    host = urlsplit(origin).hostname or ""
    if not any(environ.get(name) for name in _PROXIES) or not (host in ("localhost", "::1") or host.startswith("127.")):
        return {}
    return {name: ",".join(filter(None, (environ.get(name, ""), host))) for name in _NO_PROXY}


def _toml(text: str) -> str:
    return json.dumps(text)  # a basic string of TOML is written as one of JSON
