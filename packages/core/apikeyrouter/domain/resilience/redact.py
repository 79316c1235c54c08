"""Text from a provider, made safe to keep: no key material, no control characters, bounded.

Main entries: `redact` masks what looks like a credential, `fold` also flattens and cuts. Providers echo keys in their
error messages ("Incorrect API key provided: ..."), proxies echo URLs and headers.
Laws: never raises; `redact` is idempotent; masking happens before cutting, so that no half of a secret survives a cut.
It can only recognise what looks like a secret: pass the key in use as `secrets` where it is at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["MASK", "fold", "redact"]

MASK = "[redacted]"

_READ_MAX = 8_192
_ENTROPIC_MIN = 28
_HEX_MIN = 32

_WHOLE = re.compile(
    # vendors' prefixes, also when partly starred out: OpenAI, Anthropic, OpenRouter, Groq, xAI, Hugging Face, Google
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk|gsk|xai|hf|r8|pplx|csk|nvapi|fw|tgp|ghp|glpat)[-_][A-Za-z0-9*._\-]{3,}"
    # our own virtual keys; with a hyphen it is the name of one of our headers
    r"|akr_[A-Za-z0-9*._\-]{3,}"
    r"|(?:AIza|ya29\.|AKIA|ASIA)[A-Za-z0-9_\-*.]{8,}"
    r"|eyJ[A-Za-z0-9_\-]{6,}(?:\.[A-Za-z0-9_\-]*){1,2}"
    r"|[A-Za-z0-9]{1,8}\*{3,}[A-Za-z0-9]{0,8}"
    r")"
)
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=*\-]{4,}", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:api[-_ ]?key|x-api-key|x-goog-api-key|secret|password|access[-_ ]?token)s?(?:\s+provided)?"
    r"[\"']?\s*[:=]\s*[\"'`]?)([^\s\"'`,;&\[\]]{4,})",
    re.IGNORECASE,
)
_QUERY = re.compile(r"([?&](?:key|token|sig|signature|code)=)[^&\s\"'\[]+", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/\s@:]*:[^/\s@]+@")
_LONG = re.compile(rf"[A-Za-z0-9_+/=\-]{{{_ENTROPIC_MIN},}}")
_HEX = re.compile(rf"(?<![A-Za-z0-9_])[0-9a-fA-F]{{{_HEX_MIN},}}(?![A-Za-z0-9_])")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def _mask_if_random(match: re.Match[str]) -> str:
    """Masks a long run that mixes upper case, lower case and digits; words, paths and ids in one case stay."""
    run = match.group()
    mixed = any(c.isupper() for c in run) and any(c.islower() for c in run) and sum(c.isdigit() for c in run) >= 2
    return MASK if mixed else run


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with all that looks like a credential masked, and each of `secrets` that has 4 or more characters."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, MASK)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    text = _WHOLE.sub(MASK, text)
    if "=" in text or ":" in text:  # neither of these can be anywhere else
        text = _QUERY.sub(rf"\1{MASK}", text)
        text = _NAMED.sub(rf"\1{MASK}", text)
    text = _HEX.sub(MASK, text)
    return _LONG.sub(_mask_if_random, text)


def fold(text: str, chars_max: int = 500, secrets: Iterable[str] = ()) -> str:
    """`text` as one redacted line of at most `chars_max` characters, whitespace and control characters folded."""
    if len(text) > _READ_MAX:
        # the last word may be the first half of a secret
        text = text[:_READ_MAX].rsplit(None, 1)[0]
        text = text if len(text) < _READ_MAX else ""
    line = redact(_BLANK.sub(" ", text).strip(), secrets)
    return line if len(line) <= chars_max else line[: max(0, chars_max - 1)] + "…"
