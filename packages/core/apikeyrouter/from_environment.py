"""A router from a program's environment alone: one provider, chosen by the variables that are set, and its keys.

    settings = EnvSettings.from_env()
    router = await from_env()
    await router.route(RequestIntent(model=settings.model, messages=[...]))

Order: Azure OpenAI (its whole set of variables), then OPENAI_API_KEY (OpenAI, or whatever OPENAI_BASE_URL names), then
ANTHROPIC_API_KEY. Laws: blanks and texts of documentation ("your-key-here") are no credentials; no error repeats a
value; variables of others are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.adapters.azure_adapter import azure_settings
from apikeyrouter.infrastructure.catalogue.providers import provider
from apikeyrouter.infrastructure.config.placeholders import is_placeholder
from apikeyrouter.router import ApiKeyRouter

__all__ = ["EnvSettings", "from_env"]

T = TypeVar("T")

NO_CREDENTIAL = (
    "No credential for a model provider is set. Set one of: (1) Azure OpenAI: AZURE_OPENAI_API_KEY, "
    "AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_VERSION and AZURE_OPENAI_DEPLOYMENT; (2) OpenAI or anything compatible: "
    "OPENAI_API_KEY, and OPENAI_BASE_URL where it is not OpenAI itself; (3) Anthropic: ANTHROPIC_API_KEY."
)

_TRUE, _FALSE = frozenset(("true", "1", "yes", "on")), frozenset(("false", "0", "no", "off"))


@dataclass(frozen=True, slots=True)
class EnvSettings:
    """What a program's environment says about its model.

    `provider_id`: "azure", "openai" or "anthropic". `key_variable`: where its keys are, comma-separated. `model`:
    MODEL. `temperature`: TEMPERATURE, 0 to 2. `request_timeout_s`: REQUEST_TIMEOUT, in seconds. `max_retry`: MAX_RETRY,
    sends beyond the first. `max_iterations`: MAX_ITERATIONS, at least 1. `debug`: DEBUG; `detailed_error`:
    DETAILED_ERROR.
    """

    provider_id: str
    key_variable: str
    model: str = "gpt-4o-mini"
    temperature: float = 0.03
    request_timeout_s: float = 300.0
    max_retry: int = 3
    max_iterations: int = 12
    debug: bool = False
    detailed_error: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> EnvSettings:
        """Reads them. Raises ConfigurationError with every fault; without any credential it names the three ways."""
        env = os.environ if environ is None else environ
        faults: list[str] = []

        def read(name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
            text = env.get(name, "").strip()
            if not text:
                return default
            try:
                return parse(text)
            except ValueError:
                faults.append(f"{name}: expected {expected}")
                return default

        chosen = _chosen(env)
        if chosen is None:
            faults.append(NO_CREDENTIAL)
        provider_id, variable = chosen or ("", "")
        settings = cls(
            provider_id,
            variable,
            model=env.get("MODEL", "").strip() or cls.model_default(provider_id, env),
            temperature=read("TEMPERATURE", 0.03, _between(0.0, 2.0), "a number from 0 to 2, such as 0.03"),
            request_timeout_s=read("REQUEST_TIMEOUT", 300.0, _between(0.001, 86_400.0), "seconds, such as 300"),
            max_retry=read("MAX_RETRY", 3, _whole(0, 19), "a whole number from 0 to 19"),
            max_iterations=read("MAX_ITERATIONS", 12, _whole(1, 1_000_000), "a whole number of at least 1"),
            debug=read("DEBUG", False, _boolean, "true or false"),
            detailed_error=read("DETAILED_ERROR", False, _boolean, "true or false"),
        )
        if faults:
            raise ConfigurationError(faults)
        return settings

    @staticmethod
    def model_default(provider_id: str, environ: Mapping[str, str]) -> str:
        """What is asked for where MODEL is not set: Azure's deployment, a small model of OpenAI or Anthropic."""
        if provider_id == "azure":
            found = azure_settings(environ)
            return found.deployment if found is not None else ""
        return "claude-haiku-4-5" if provider_id == "anthropic" else "gpt-4o-mini"


async def from_env(environ: Mapping[str, str] | None = None, state_store: StateStore | None = None) -> ApiKeyRouter:
    """A started router with the provider and the keys that the environment names. Close it, or use it in `async with`.

    Raises ConfigurationError: see `EnvSettings.from_env`; KeyRegistrationError for a key that no header could carry.
    """
    env = os.environ if environ is None else environ
    settings = EnvSettings.from_env(env)
    adapter: ProviderAdapter = provider(settings.provider_id, environ=env)
    router = ApiKeyRouter(
        state_store,
        {
            "attempts_max": settings.max_retry + 1,
            "request_timeout_s": settings.request_timeout_s,
            "log_level": "DEBUG" if settings.debug else "INFO",
        },
    )
    try:
        await router.register_provider(settings.provider_id, adapter)
        for material in _keys(env[settings.key_variable]):
            await router.register_key(material, settings.provider_id)
    except BaseException:
        await router.aclose()
        raise
    return router


def _chosen(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """(provider id, variable with the key); Azure's only when its whole set is there."""
    azure = azure_settings(environ)
    ways = [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")]
    if azure is not None and not azure.missing:
        ways.insert(0, ("azure", azure.key_variable))
    return next((way for way in ways if _keys(environ.get(way[1], ""))), None)


def _keys(text: str) -> list[str]:
    parts = [part.strip().strip("\"'") for part in text.split(",")]
    return [part for part in parts if part and not is_placeholder(part)]


def _between(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = float(text)
        if not least <= number <= most:
            raise ValueError
        return number

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError
        return number

    return parse


def _boolean(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE
