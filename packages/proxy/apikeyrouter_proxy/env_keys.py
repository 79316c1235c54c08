"""Provider keys that come from the environment.

Main entry: `read_env_keys`. `OPENAI_API_KEY` holds one key or a comma-separated list, so do `OPENAI_API_KEYS` and
`OPENAI_API_KEY_1`, `_2` ... (any number, read in numeric order).
Laws: blanks are ignored, the same key given twice counts once, text that documentation uses in place of a key is
ignored with a warning, and no warning or error ever repeats a value: they name the variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apikeyrouter.domain.keys.secret import Secret

__all__ = ["EnvKey", "is_placeholder", "read_env_keys", "unquoted"]

_PROVIDER_ID = "openai"
_NAME = re.compile(r"OPENAI_API_KEY(?:S|_(\d{1,6}))?")
_PLACEHOLDER = re.compile(
    r"<.*>|.*(?:\.\.\.|…)|sk-x+|x+|\*+"
    r"|(?:sk-)?(?:your|my|insert|replace|enter|paste|add)[-_ ].*(?:key|token|secret|here).*"
    r"|change[-_ ]?me|todo|placeholder|none|null",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[,\r\n]")


@dataclass(frozen=True, slots=True)
class EnvKey:
    """A provider key and the variable that it was read from."""

    variable: str
    provider_id: str
    material: Secret


def is_placeholder(text: str) -> bool:
    """Whether the text is what documentation writes where a secret belongs: "sk-...", "your-api-key-here"."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None


def unquoted(text: str) -> str:
    """The text without blanks and one pair of quotes around it: container runtimes hand quotes of env files through."""
    text = text.strip()
    return text[1:-1].strip() if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def read_env_keys(environ: Mapping[str, str]) -> tuple[list[EnvKey], list[str], list[str]]:
    """(keys, warnings, faults), in the order `OPENAI_API_KEY`, `OPENAI_API_KEYS`, then by number.

    A fault is a value that no HTTP header could carry.
    """
    keys: list[EnvKey] = []
    warnings: list[str] = []
    faults: list[str] = []
    for variable in _variables(environ):
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
            elif all(material != known.material.reveal() for known in keys):
                keys.append(EnvKey(variable, _PROVIDER_ID, Secret(material)))
    return keys, warnings, faults


def _variables(environ: Iterable[str]) -> list[str]:
    found = [(match, name) for name in environ if (match := _NAME.fullmatch(name))]
    return [name for match, name in sorted(found, key=lambda one: (int(one[0][1] or -1), one[1]))]
