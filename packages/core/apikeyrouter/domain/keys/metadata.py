"""What may be registered: key material, labels, and the metadata that changes how a key is used.

Main entries: `clean_material`, `clean_metadata`, `clean_label`, `key_terms`.
Laws: every complaint is a KeyRegistrationError that says what to do and never quotes the material; what is accepted can
travel in an HTTP header and be stored as JSON; the material may not appear in the label or the metadata, since both are
shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

import msgspec

from apikeyrouter.domain.errors import KeyRegistrationError

__all__ = [
    "CREDENTIAL",
    "MATERIAL_LENGTH_MAX",
    "KeyTerms",
    "clean_label",
    "clean_material",
    "clean_metadata",
    "key_terms",
]

MATERIAL_LENGTH_MAX = 8192
"""Characters. Common servers refuse header lines beyond 8 KiB."""

LIMITS: Mapping[str, str] = {
    "rpm": "requests the quota pool may use per minute",
    "tpm": "tokens the quota pool may use per minute",
    "rpd": "requests the quota pool may use per day",
    "tpd": "tokens the quota pool may use per day",
    "itpm": "input tokens the quota pool may use per minute",
    "otpm": "output tokens the quota pool may use per minute",
    "concurrency": "requests may be under way at once in the quota pool",
}
"""Metadata that limits the key's quota pool, in words."""

CREDENTIAL = "credential"
"""The metadata by which a key tells of which kind of credential its secret is an access token."""

_ALONG_WITH = re.compile(r"(?:export\s+)?[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET)[A-Z0-9_]*\s*=\s*(?=[^=\s])")
"""A line of a `.env` file or of a shell, up to its value."""
_SCHEME = re.compile(r"(?:Authorization:\s*)?Bearer\s+", re.IGNORECASE)
_QUOTES = "\"'`"

_LABEL_LENGTH_MAX = 64
_TELLTALE_LENGTH_MIN = 6
"""A shorter secret may occur in a label or metadata by chance ("test"), so only longer ones are searched for."""


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What metadata says about routing. `models` None: every model. `quota_pool` None: the key is its own pool.
    `base_url` None: the provider's own."""

    weight: float = 1.0
    models: frozenset[str] | None = None
    quota_pool: str | None = None
    base_url: str | None = None


def clean_material(material: object) -> str:
    """The material, 1 to 8,192 printable ASCII characters, without what people paste along with it: white space, the
    name of its variable, one pair of quotes, the word Bearer."""
    if not isinstance(material, str):
        raise KeyRegistrationError(f"Key material must be text, not {type(material).__name__}.")
    text = _bare(_ALONG_WITH, material.strip())
    if len(text) >= 2 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    text = _bare(_SCHEME, text)
    if not text:
        raise KeyRegistrationError("Key material is empty. Copy the whole key from the provider's console.")
    if len(text) > MATERIAL_LENGTH_MAX:
        raise KeyRegistrationError(
            f"Key material has {len(text)} characters; at most {MATERIAL_LENGTH_MAX} fit an HTTP header. "
            "Is it a file instead of a key?"
        )
    for place, character in enumerate(text, start=1):
        if not "!" <= character <= "~":
            raise KeyRegistrationError(
                f"Key material has {_kind(character)} at position {place}, which no HTTP header can carry. "
                "Copy the key again, without line breaks, quotes around it or other keys beside it."
            )
    if text.startswith(("http://", "https://")):
        raise KeyRegistrationError(
            "Key material is an address (it begins with http), not a key. Copy the key from the provider's console; "
            "the address belongs to the provider, or into the metadata base_url."
        )
    return text


def _bare(beginning: re.Pattern[str], text: str) -> str:
    found = beginning.match(text)
    return text[found.end() :] if found else text


def _kind(character: str) -> str:
    if character.isspace():
        return "white space"
    return "a control character" if ord(character) < 0x20 or ord(character) == 0x7F else "a character beyond ASCII"


def clean_label(label: object, material: str) -> str:
    """The label, stripped: 1 to 64 printable characters that do not contain the material."""
    if not isinstance(label, str) or not label.strip():
        raise KeyRegistrationError("A key's label must be text that is not empty, such as 'team-a'.")
    text = label.strip()
    if text == material or (len(material) >= _TELLTALE_LENGTH_MIN and material in text):
        raise KeyRegistrationError("The label contains the key material. Labels are shown; choose another name.")
    if len(text) > _LABEL_LENGTH_MAX or not text.isprintable():
        raise KeyRegistrationError(f"A key's label is at most {_LABEL_LENGTH_MAX} printable characters on one line.")
    return text


def clean_metadata(metadata: object, material: str) -> dict[str, Any]:
    """A copy of the metadata that JSON can hold: Decimals become text, sets and tuples become lists."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise KeyRegistrationError(f"Metadata must be a mapping, not {type(metadata).__name__}.")
    try:
        # not msgspec's own JSON: it turns NaN and infinity into null without a word
        encoded = json.dumps(msgspec.to_builtins(metadata, str_keys=True), allow_nan=False)
        copy: dict[str, Any] = json.loads(encoded)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise KeyRegistrationError(
            f"Metadata must be what JSON can hold (text, finite numbers, true, false, null, lists, objects): "
            f"{type(error).__name__}."
        ) from None
    if len(material) >= _TELLTALE_LENGTH_MIN and material in _text_of(copy):
        raise KeyRegistrationError("The metadata contains the key material. Metadata is shown; leave the key out.")
    for name, value in copy.items():
        if _is_amount(name):
            _amount(name, value)
    key_terms(copy)
    return copy


def key_terms(metadata: Mapping[str, Any]) -> KeyTerms:
    """Weight, models and quota pool. Raises KeyRegistrationError for values that make no sense."""
    weight = 1.0
    if metadata.get("weight") is not None:
        weight = float(_amount("weight", metadata["weight"]))
        if not 0.0 < weight < math.inf:
            raise KeyRegistrationError("Metadata 'weight' must be above zero; disable the key to give it no traffic.")
    pool = metadata.get("quota_pool")
    if pool is not None and (not isinstance(pool, str) or not pool.strip()):
        raise KeyRegistrationError("Metadata 'quota_pool' must be a name: keys with the same name share their limits.")
    for name in LIMITS:
        _limit(name, metadata.get(name))
    for name in ("tier", "region"):
        _word(name, metadata.get(name))
    return KeyTerms(
        weight,
        _models(metadata.get("models")),
        pool.strip() if pool else None,
        _base_url(metadata.get("base_url")),
    )


def _word(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, str | int) and str(value).strip()):
        example = "1" if name == "tier" else "eu-west"
        raise KeyRegistrationError(f"Metadata {name!r} must be a name, such as {example!r}.")


def _limit(name: str, value: object) -> None:
    """A limit of the quota pool: a whole number from 1, as a number or as text."""
    if value is None:
        return
    text = value if isinstance(value, str) else repr(value) if type(value) is int else ""
    if not text.strip().isdecimal() or int(text) < 1:
        raise KeyRegistrationError(
            f"Metadata {name!r} must be a whole number from 1: how many {LIMITS[name]}. Leave it out for no limit."
        )


def _base_url(url: object) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url) if isinstance(url, str) and url.isprintable() and " " not in url else None
        usable = (
            parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        )
    except ValueError:
        usable = False
    if not usable or not isinstance(url, str):
        raise KeyRegistrationError(
            "Metadata 'base_url' must be an http or https address without user name, such as 'https://host/v1'."
        )
    return url.rstrip("/")


def _models(models: object) -> frozenset[str] | None:
    if models is None:
        return None
    given = models.split(",") if isinstance(models, str) else models
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(m, str) for m in given):
        raise KeyRegistrationError("Metadata 'models' must be a list of model names; '*' and '?' are wildcards.")
    patterns = frozenset(m.strip() for m in given if m.strip())
    if not patterns:
        raise KeyRegistrationError("Metadata 'models' names no model; leave it out to serve every model.")
    return patterns


def _is_amount(name: str) -> bool:
    """Whether a field is a price or a factor, by its name: `cost_per_1k`, `input_price_per_1m`, `cost_multiplier`."""
    return name.startswith(("cost_", "price_")) or name.endswith(("_per_1k", "_per_1m", "_per_mtok", "_multiplier"))


def _amount(name: str, value: object) -> Decimal:
    """A finite number >= 0, given as a number or as text."""
    try:
        number = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise KeyRegistrationError(f"Metadata {name!r} must be a number of zero or more, such as '0.01'.")
    return number


def _text_of(value: object) -> str:
    """Every text in a JSON value, one a line."""
    if isinstance(value, dict):
        return "\n".join(f"{name}\n{_text_of(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "\n".join(_text_of(item) for item in value)
    return value if isinstance(value, str) else ""
