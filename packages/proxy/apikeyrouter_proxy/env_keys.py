"""Provider keys that come from the environment.

Main entry: `read_env_keys`. `OPENAI_API_KEY` holds one key or a comma-separated list, so do `OPENAI_API_KEYS` and
`OPENAI_API_KEY_1`, `_2` ... (any number, read in numeric order); the same for the variables of every provider that the
catalogue knows (`GROQ_API_KEY`). Azure's counts only when the whole set of its variables is there, and Amazon's pair
(`AWS_ACCESS_KEY_ID` and its kin) only when BEDROCK_REGION says that it is meant for Bedrock. A server that needs
no key is there when its address is (`OLLAMA_BASE_URL`).
Laws: blanks are ignored, the same key given twice counts once, text that documentation uses in place of a key is
ignored with a warning, and no warning or error ever repeats a value: they name the variable.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.infrastructure.adapters.azure_adapter import AzureSettings, azure_settings
from apikeyrouter.infrastructure.adapters.bedrock_adapter import bedrock_settings
from apikeyrouter.infrastructure.catalogue.provider_row import KEYLESS, ProviderRow
from apikeyrouter.infrastructure.catalogue.providers import rows
from apikeyrouter.infrastructure.config.placeholders import is_placeholder

__all__ = ["EnvKey", "is_placeholder", "key_variables", "read_env_keys", "unquoted"]

_NAME = re.compile(r"(.+?)(?:S|_(\d{1,6}))?")
_SEPARATORS = re.compile(r"[,\r\n]")


@dataclass(frozen=True, slots=True)
class EnvKey:
    """A provider key and the variable that it was read from."""

    variable: str
    provider_id: str
    material: Secret

    @property
    def metadata(self) -> dict[str, str]:
        """What it is registered with. What runs on one's own machines costs nothing a token."""
        row = rows().get(self.provider_id)
        own = row is not None and row.keyless and row.hosts_open
        return {"source": self.variable, **({"cost_per_1k": "0"} if own else {})}


def unquoted(text: str) -> str:
    """The text without blanks and one pair of quotes around it: container runtimes hand quotes of env files through."""
    text = text.strip()
    return text[1:-1].strip() if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def key_variables(added: Iterable[ProviderRow] = ()) -> dict[str, str]:
    """Variables that hold keys, with the provider that each is for, in the order in which providers come: OpenAI's
    first (Azure's, when it counts, goes before it), then Anthropic's. `added`: rows of the user's own."""
    found = {"OPENAI_API_KEY": "openai", "ANTHROPIC_API_KEY": "anthropic"}
    found |= {"GEMINI_API_KEY": "gemini", "GOOGLE_API_KEY": "gemini"}
    found |= {"COHERE_API_KEY": "cohere", "CO_API_KEY": "cohere", "AWS_BEARER_TOKEN_BEDROCK": "bedrock"}
    for row in (*rows().values(), *added):
        found |= {name: row.id for name in row.env if name not in found}
    return found


def read_env_keys(
    environ: Mapping[str, str], added: Iterable[ProviderRow] = (), taken: Container[str] = ()
) -> tuple[list[EnvKey], list[str], list[str]]:
    """(keys, warnings, faults): by provider, there `OPENAI_API_KEY`, `OPENAI_API_KEYS`, then by number. `added`: rows
    of the user's own. `taken`: keys that the configuration file says where to use; nothing is missing for those.

    A fault is a value that no HTTP header could carry.
    """
    keys: list[EnvKey] = []
    warnings: list[str] = []
    faults: list[str] = []
    added = tuple(added)
    known = key_variables(added)
    azure = azure_settings(environ)
    if azure is not None:
        told: list[str] = []
        known = _with_azure(known, azure, told)
        warnings += told if unquoted(environ.get(azure.key_variable, "")) not in taken else []
    for variable, provider_id in _variables(environ, known):
        for place, text in enumerate(_SEPARATORS.split(unquoted(environ[variable])), start=1):
            material = unquoted(text)
            where = variable if place == 1 else f"{variable} (entry {place})"
            if not material:
                continue
            if is_placeholder(material):
                warnings.append(f"{where} still holds a placeholder instead of a key; it is ignored.")
            elif not all("!" <= character <= "~" for character in material):
                faults.append(
                    f"{where}: holds white space or characters beyond ASCII inside a key; copy the key again, "
                    "and separate several keys by commas."
                )
            elif all((material, provider_id) != (one.material.reveal(), one.provider_id) for one in keys):
                keys.append(EnvKey(variable, provider_id, Secret(material)))
    amazon = bedrock_settings(environ)
    if amazon.pair:
        keys.append(EnvKey("AWS_ACCESS_KEY_ID", "bedrock", Secret(amazon.pair)))
    elif amazon.missing:
        warnings.append(f"Bedrock is not used: {' and '.join(amazon.missing)} must be set as well.")
    for row in (*rows().values(), *added):
        if row.keyless and environ.get(row.base_env, "").strip() and all(one.provider_id != row.id for one in keys):
            keys.append(EnvKey(row.base_env, row.id, Secret(KEYLESS)))
    return keys, warnings, faults


def _with_azure(known: dict[str, str], azure: AzureSettings, warnings: list[str]) -> dict[str, str]:
    """The variables with Azure's in front, or a warning about what its set lacks."""
    if azure.missing:
        warnings.append(f"Azure OpenAI is not used: {' and '.join(azure.missing)} must be set as well.")
        return known
    return {azure.key_variable: "azure", **known}


def _variables(environ: Iterable[str], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """(variable, provider id) of those that are set, in order."""
    order = {name: place for place, name in enumerate(known)}
    found: list[tuple[int, int, str]] = []
    for name in environ:
        match = _NAME.fullmatch(name)
        base = name if name in order else match[1] if match else ""
        if base in order:
            number = -1 if name == base or not match or not match[2] else int(match[2])
            found.append((order[base], number, name))
    return [(name, known[list(order)[place]]) for place, _, name in sorted(found)]
